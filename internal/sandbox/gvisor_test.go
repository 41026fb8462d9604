package sandbox

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"hallmark/internal/record"
	"hallmark/internal/sandbox/sandboxtest"
)

func needGVisor(t *testing.T) (*Runner, []string) {
	t.Helper()
	_, layers := needSandbox(t)
	r, err := Open(Config{StateDir: t.TempDir(), Runtime: sandboxtest.Runsc(t)})
	if err != nil {
		t.Fatal(err)
	}
	return r, layers
}

// TestGVisorFacts: under a kernel of its own every condition of the profile holds,
// and who told it is in the facts.
func TestGVisorFacts(t *testing.T) {
	r, layers := needGVisor(t)
	if err := r.Check(context.Background()); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	res, log := runSpec(t, r, Spec{Layers: layers, OutputDir: dir, Trees: []Tree{{From: makeTree(t), To: "/build/src"}},
		Args: []string{"sh", "-c", "uname -r; cat /proc/version /proc/cmdline /proc/sys/kernel/random/boot_id; id -u; cat /build/src/sub/d; ls -U /build/src | head -2; head -2 /proc/cpuinfo | tail -1; echo 1 >/out/f; echo x >/tmp/x; exit 3"}})
	if log != "4.19.0-gvisor\n1000\nsub/dsub\nlink\nvendor_id\t: Hallmark\n" || res.Exit != 3 || len(res.Outputs) != 1 || res.Network != nil {
		t.Errorf("%+v\n%s", res, log)
	}
	if res.Facts.Kernel != "gvisor" || res.Facts.Runtime != "runsc "+sandboxtest.RunscVersion || res.Facts.Program == "" {
		t.Errorf("kernel %q, runtime %q, file %q", res.Facts.Kernel, res.Facts.Runtime, res.Facts.Program)
	}
	told := map[string]bool{"capabilities": true, "gid": true, "masked-paths": true, "mounts": true, "no-new-privileges": true, "uid": true}
	for _, n := range slices.Concat(record.IsolationFacts, record.LimitFacts, record.EphemeralFacts, record.HermeticFacts) {
		i := slices.IndexFunc(res.Facts.Facts, func(f record.Fact) bool { return f.Name == n })
		if i < 0 || !res.Facts.Facts[i].Holds || (res.Facts.Facts[i].From == "gvisor") != told[n] {
			t.Errorf("fact %s: %+v", n, res.Facts.Facts[max(i, 0)])
		}
	}
	res, log = runSpec(t, r, Spec{Layers: layers, Trees: []Tree{{From: makeTree(t), To: "/build/src", Reverse: true}}, Args: []string{"sh", "-c", "nproc; ls -U /build/src | head -2; date +%Y"},
		Vary: &Variation{CPUs: 1, KernelRelease: true, Clock: 9601 * time.Hour, Uptime: 5000 * time.Hour, PIDs: 300, Faketime: faketimeLib}})
	if !strings.HasPrefix(log, "1\na\nb\n20") || res.Exit != 0 || len(res.NotVaried) != 1 || res.NotVaried[record.AxisUptime] == "" ||
		res.Measured[record.AxisCPUs] != "1" || len(res.Measured[record.AxisPIDs]) != 2 || res.Measured[record.AxisKernel] != "4.19.0-gvisor" {
		t.Errorf("%+v\n%s", res, log)
	}
	at, err := time.Parse(time.RFC3339, res.Measured[record.AxisClock])
	if d := time.Until(at); err != nil || d < 9600*time.Hour || d > 9602*time.Hour {
		t.Errorf("the clock is %v ahead: %v", d, err)
	}
}

// TestGVisorNetworkAndLimits: what a build reaches for is seen, and limits end it,
// under a kernel of its own as well.
func TestGVisorNetworkAndLimits(t *testing.T) {
	r, layers := needGVisor(t)
	res, log := runSpec(t, r, Spec{Layers: layers, Args: []string{"python3", "-c", `
import socket
for f in (lambda: socket.getaddrinfo("index.example.org",443), lambda: socket.create_connection(("192.0.2.7",443),1),
          lambda: socket.create_connection(("2001:db8::7",443),1), lambda: socket.socket(2,2).sendto(b"x",("198.51.100.1",123))):
  try: f()
  except OSError: pass
s=socket.socket(); s.bind(("127.0.0.1",0)); s.listen(); socket.create_connection(s.getsockname())
import threading
t=threading.Thread(target=lambda: None); t.start(); t.join()
`}})
	var got []string
	for _, a := range res.Network {
		got = append(got, a.Target)
	}
	if res.Exit != 0 || !slices.Equal(got, []string{"index.example.org", "192.0.2.7:443", "198.51.100.1:123", "[2001:db8::7]:443"}) {
		t.Errorf("caught %v; exit %d\n%s", res.Network, res.Exit, log)
	}
	for _, c := range []struct {
		name, script string
		limits       Limits
		want         record.FailureClass
	}{
		{"time", `sleep 1000 & python3 -c 'import os,time
os.setsid(); time.sleep(1000)'`, Limits{Wall: time.Second}, record.FailTimeout},
		{"memory", `python3 -c 'x=bytearray(900<<20)'`, Limits{Memory: 256 << 20}, record.FailMemory},
		{"disk", `dd if=/dev/zero of=/build/x bs=1M 2>/dev/null`, Limits{Disk: 8 << 20}, record.FailDisk},
		{"disk in /tmp", `dd if=/dev/zero of=/tmp/x bs=1M 2>/dev/null`, Limits{Disk: 8 << 20}, record.FailDisk},
		{"output", `dd if=/dev/zero of=/out/x bs=1M 2>/dev/null`, Limits{Output: 4 << 20}, record.FailDisk},
		{"log", `while echo aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa; do :; done`, Limits{Log: 10000}, record.FailLog},
	} {
		res, log := runSpec(t, r, Spec{Layers: layers, Args: []string{"sh", "-c", c.script}, Limits: c.limits})
		if res.Limit != c.want || res.Exit == 0 {
			t.Errorf("%s: limit %q, exit %d: %.500s", c.name, res.Limit, res.Exit, log)
		}
	}
	assertGone(t, "runsc-sandbox")
}
