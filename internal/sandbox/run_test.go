package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hallmark/internal/record"
)

const faketimeLib = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"

// needSandbox leaves a test out of the fast ones: it needs root, a runtime and,
// the first time, the machine's Debian packages.
func needSandbox(t *testing.T) (*Runner, []string) {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: needs an OCI runtime and packages")
	}
	if os.Geteuid() != 0 {
		t.Fatal("this test needs root")
	}
	r, err := Open(Config{StateDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	return r, testLayers(t)
}

func runSpec(t *testing.T, r *Runner, s Spec) (*Result, string) {
	t.Helper()
	var log bytes.Buffer
	s.Name, s.Log = t.Name(), &log
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	res, err := r.Run(ctx, s)
	if err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	return res, log.String()
}

func sh(t *testing.T, script string, change ...func(*Spec)) (*Result, string) {
	t.Helper()
	r, layers := needSandbox(t)
	s := Spec{Layers: layers, Args: []string{"sh", "-c", script}}
	for _, c := range change {
		c(&s)
	}
	return runSpec(t, r, s)
}

func TestFactsHold(t *testing.T) {
	r, layers := needSandbox(t)
	if err := r.Check(context.Background()); err != nil {
		t.Fatal(err)
	}
	res, log := runSpec(t, r, Spec{Layers: layers, Args: []string{"true"}, OutputDir: t.TempDir()})
	if res.Exit != 0 || log != "" || res.Limit != "" || res.Refused != "" || res.Network != nil {
		t.Fatalf("%+v\n%s", res, log)
	}
	have := map[string]record.Fact{}
	for _, f := range res.Facts.Facts {
		have[f.Name] = f
		if strings.Contains(f.Want+f.Got, layers[0]) || strings.Contains(f.Want+f.Got+f.Cause, "/mnt") {
			t.Errorf("fact %+v names a path of the host", f)
		}
	}
	for _, n := range slices.Concat(record.IsolationFacts, record.LimitFacts, record.EphemeralFacts, record.HermeticFacts) {
		if f, ok := have[n]; !ok || !f.Holds {
			t.Errorf("fact %s: %+v", n, f)
		}
	}
	for _, a := range record.Axes {
		if res.Measured[a] == "" {
			t.Errorf("axis %s was not measured", a)
		}
	}
	if d, doc := r.Profile(); res.Facts.Profile != d || !bytes.Contains(doc, []byte("seccomp")) || !strings.HasPrefix(res.Facts.Runtime, "runc 1") {
		t.Errorf("facts name profile %s and runtime %q", res.Facts.Profile, res.Facts.Runtime)
	}
}

// TestEscapes: each line must fail inside.
func TestEscapes(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	script := `
try() { if ( "$@" ) >/dev/null 2>&1; then echo "ESCAPED: $*"; fi; }
py() { try python3 -c "import os,ctypes,socket,errno
libc=ctypes.CDLL(None,use_errno=True)
def call(n,*a):
  if libc.syscall(n,*a)<0: raise OSError(ctypes.get_errno())
$1"; }
try true
py 0
try sh -c 'echo x >/usr/bin/true'
try sh -c 'echo x >/etc/hosts'
try sh -c 'echo x >/new'
try sh -c 'echo x >/sys/devices/system/cpu/online'
try sh -c 'echo x >/proc/sys/kernel/hostname'
try sh -c 'echo 1 >/proc/sys/kernel/ns_last_pid'
try sh -c 'echo c >/proc/sysrq-trigger'
try rm /usr/bin/true
try cat ` + secret + `
try ls /root/.cache
try chroot /
try mknod /tmp/sda b 254 0
try sh -c 'grep -q . /proc/version || [ -s /proc/kallsyms ] || [ -n "$(cat /proc/sys/kernel/random/boot_id /proc/cmdline /proc/keys)" ]'
py 'call(165,b"t",b"/tmp",b"tmpfs",0,0)'
py 'call(272,0x10000000)'
py 'call(272,0x00020000)'
py 'call(308,0,0)'
py 'call(56,0x10000000|17,0,0,0,0)'
py 'call(435,0,0)'
py 'call(321,0,0,0)'
py 'call(425,8,0)'
py 'call(298,0,0,0,0,0)'
py 'call(323,0)'
py 'call(250,0,0)'
py 'call(101,16,1,0,0)'
py 'call(310,1,0,0,0,0,0)'
py 'call(304,0,0,0)'
py 'call(135,0x0100000)'
py 'socket.socket(40,1,0)'
py 'socket.socket(17,3,0)'
py 'socket.socket(38,5,0)'
py 'socket.socket(16,3,15)'
py 'socket.socket(socket.AF_INET,socket.SOCK_RAW,1)'
py 'os.setuid(0)'
py 'os.chown("/build",0,0)'
py 'os.sched_setaffinity(1,{0}) if os.getuid()==0 else 1/0'
py 'os.link("/usr/bin/true","/tmp/x")'
echo done`
	res, log := sh(t, script)
	// The first two show that an escape would be seen.
	if !strings.HasPrefix(log, "ESCAPED: true\nESCAPED: python3") || strings.Count(log, "ESCAPED") != 2 || !strings.HasSuffix(log, "\ndone\n") || res.Exit != 0 {
		t.Errorf("exit %d:\n%s", res.Exit, log)
	}
}

func TestNothingOfTheHostInTheEnvironment(t *testing.T) {
	t.Setenv("HALLMARK_TEST_SECRET", "s3cret")
	res, log := sh(t, `python3 -c 'import os
for k in sorted(os.environ): print(k+"="+os.environ[k])'; hostname 2>/dev/null; umask; id -u; pwd; ls /proc/self/fd | wc -l`,
		func(s *Spec) { s.Env = []string{"A=b", "HOME=/build/home"}; s.Dir = "/build/src" })
	want := "A=b\nHOME=/build/home\nLANG=C.UTF-8\nLC_ALL=C.UTF-8\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nPWD=/build/src\nTERM=dumb\nTZ=UTC\n0022\n1000\n/build/src\n4\n"
	if log != want || res.Exit != 0 {
		t.Errorf("got\n%s", log)
	}
}

func TestNetworkIsCaughtEvenIfHidden(t *testing.T) {
	for _, c := range []struct{ name, py, kind, target, proto string }{
		{"name", `socket.getaddrinfo("pypi.example.org",443)`, "lookup", "pypi.example.org", "udp"},
		{"tcp", `socket.create_connection(("192.0.2.7",443),1)`, "connect", "192.0.2.7:443", "tcp"},
		{"tcp6", `socket.create_connection(("2001:db8::7",443),1)`, "connect", "[2001:db8::7]:443", "tcp"},
		{"udp", `socket.socket(2,2).sendto(b"x",("198.51.100.1",123))`, "connect", "198.51.100.1:123", "udp"},
		{"udp6", `socket.socket(10,2).sendto(b"x",("2001:db8::9",123))`, "connect", "[2001:db8::9]:123", "udp"},
		{"ping", `socket.socket(2,2,1).sendto(b"\x08\0\0\0\0\0\0\0",("203.0.113.5",0))`, "connect", "203.0.113.5", "icmp"},
		{"ping6", `socket.socket(10,2,58).sendto(b"\x80\0\0\0\0\0\0\0",("2001:db8::5",0))`, "connect", "2001:db8::5", "icmpv6"},
		{"broadcast of a private network", `socket.socket(2,2).sendto(b"x",("10.0.0.1",9))`, "connect", "10.0.0.1:9", "udp"},
		{"other name server", `socket.socket(2,2).sendto(b"\0\1\1\0\0\1\0\0\0\0\0\0\1a\4test\0\0\1\0\1",("8.8.8.8",53))`, "lookup", "a.test", "udp"},
	} {
		t.Run(c.name, func(t *testing.T) {
			res, log := sh(t, `python3 -c '
import socket,sys
try:
  `+c.py+`
except OSError: pass
' 2>&1; exit 0`)
			if res.Exit != 0 || log != "" {
				t.Errorf("exit %d: %s", res.Exit, log)
			}
			if !slices.ContainsFunc(res.Network, func(a record.Attempt) bool {
				return a.Kind == c.kind && a.Target == c.target && a.Proto == c.proto && a.Count > 0
			}) {
				t.Errorf("caught %+v", res.Network)
			}
		})
	}
	t.Run("loopback is free", func(t *testing.T) {
		res, log := sh(t, `python3 -c '
import socket,threading
for f,h in ((2,"127.0.0.1"),(10,"::1"),(2,"localhost"),(2,"build")):
  s=socket.socket(f); s.bind((h,0)); s.listen(); p=s.getsockname()[1]
  c=socket.create_connection((h,p)); d,_=s.accept()
  threading.Thread(target=lambda: c.sendall(b"x"*10000000)).start()
  n=0
  while n<10000000: n+=len(d.recv(1<<20))
'`)
		if res.Exit != 0 || res.Network != nil {
			t.Errorf("%+v %s", res.Network, log)
		}
	})
	t.Run("many", func(t *testing.T) {
		res, _ := sh(t, `python3 -c '
import socket
for i in range(400): socket.socket(2,2).sendto(b"x",("10.0.%d.1"%(i%250),1000+i))'`)
		if len(res.Network) != maxAttempts {
			t.Errorf("%d attempts", len(res.Network))
		}
	})
}

func TestLimits(t *testing.T) {
	for _, c := range []struct {
		name, script string
		limits       Limits
		want         record.FailureClass
	}{
		{"time", `(trap '' TERM; sleep 1000) & python3 -c 'import os,time
os.setsid(); time.sleep(1000)'`, Limits{Wall: time.Second}, record.FailTimeout},
		{"memory", `python3 -c 'x=bytearray(300<<20)'`, Limits{Memory: 64 << 20}, record.FailMemory},
		{"processes", `python3 -c 'import os,time
for i in range(200):
  if os.fork()==0: time.sleep(100)'`, Limits{Processes: 50}, record.FailProcesses},
		{"disk", `dd if=/dev/zero of=/build/x bs=1M 2>/dev/null`, Limits{Disk: 8 << 20}, record.FailDisk},
		{"files", `python3 -c 'for i in range(100000): open("/tmp/%d"%i,"w")' 2>/dev/null`, Limits{Disk: 4 << 20}, record.FailDisk},
		{"output", `dd if=/dev/zero of=/out/x bs=1M 2>/dev/null`, Limits{Output: 4 << 20}, record.FailDisk},
		{"log", `while echo aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa; do :; done`, Limits{Log: 10000}, record.FailLog},
		{"none", `echo fine`, Limits{}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			begin := time.Now()
			res, log := sh(t, c.script, func(s *Spec) { s.Limits = c.limits })
			if res.Limit != c.want || (res.Exit == 0) != (c.want == "") {
				t.Errorf("limit %q, exit %d: %.500s", res.Limit, res.Exit, log)
			}
			if c.limits.Log > 0 && int64(len(log)) > c.limits.Log {
				t.Errorf("%d bytes of log", len(log))
			}
			if d := time.Since(begin); d > 20*time.Second {
				t.Errorf("took %v", d)
			}
		})
	}
}

// TestDeadlineUnderAnotherUptime: runc takes a sandbox in another time
// namespace for dead, so the deadline must not rely on it.
func TestDeadlineUnderAnotherUptime(t *testing.T) {
	begin := time.Now()
	res, _ := sh(t, `sleep 1000`, func(s *Spec) {
		s.Limits.Wall = time.Second
		s.Vary = &Variation{Uptime: 1000 * time.Hour}
	})
	if res.Limit != record.FailTimeout || res.Signal != "SIGKILL" || time.Since(begin) > 15*time.Second {
		t.Errorf("%+v after %v", res, time.Since(begin))
	}
}

func TestCancel(t *testing.T) {
	r, layers := needSandbox(t)
	ctx, cancel := context.WithCancel(context.Background())
	marker := fmt.Sprintf("10%d", time.Now().UnixNano()%1e9)
	go func() { time.Sleep(time.Second); cancel() }()
	begin := time.Now()
	_, err := r.Run(ctx, Spec{Layers: layers, Args: []string{"sleep", marker}})
	if !errors.Is(err, context.Canceled) || time.Since(begin) > 10*time.Second {
		t.Errorf("%v after %v", err, time.Since(begin))
	}
	assertGone(t, marker)
}

// assertGone checks that no process of the host has the marker in its command.
func assertGone(t *testing.T, marker string) {
	t.Helper()
	names, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, n := range names {
		if b, _ := os.ReadFile(n); bytes.Contains(b, []byte(marker)) && !strings.HasPrefix(n, fmt.Sprintf("/proc/%d/", os.Getpid())) {
			t.Errorf("%s is left: %q", n, b)
		}
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	r, layers := needSandbox(t)
	marker := fmt.Sprintf("11%d", time.Now().UnixNano()%1e9)
	before, _ := os.ReadFile("/proc/self/mountinfo")
	res, _ := runSpec(t, r, Spec{Layers: layers, Args: []string{"sh", "-c", "setsid sleep " + marker + " & echo x >/build/left; echo y >/tmp/left; exit 0"}})
	if res.Exit != 0 {
		t.Errorf("exit %d", res.Exit)
	}
	assertGone(t, marker)
	if after, _ := os.ReadFile("/proc/self/mountinfo"); !bytes.Equal(before, after) {
		t.Error("mounts are left")
	}
	if left, _ := filepath.Glob("/sys/fs/cgroup/*/" + cgroupParent + "/*/cgroup.procs"); len(left) > 0 {
		for _, l := range left {
			if b, _ := os.ReadFile(l); len(b) == 0 {
				t.Logf("an empty control group: %s (another test's may be ending)", l)
			}
		}
	}
	res, log := runSpec(t, r, Spec{Layers: layers, Args: []string{"sh", "-c", "ls -A /build /tmp /out /var/tmp /dev/shm"}})
	if res.Exit != 0 || strings.Contains(log, "left") {
		t.Errorf("a second sandbox sees %s", log)
	}
}

func TestOutput(t *testing.T) {
	for _, c := range []struct{ name, script, refused string }{
		{"files", `mkdir -p /out/a/b; echo 1 >/out/a/b/c; echo 2 >/out/z.whl; chmod 700 /out/z.whl`, ""},
		{"link", `ln -s /etc/passwd /out/x`, "symbolic link"},
		{"hard link", `echo 1 >/out/x; ln /out/x /out/y`, "more than one link"},
		{"pipe", `python3 -c 'import os; os.mkfifo("/out/x")'`, "no regular file"},
		{"set-id", `echo 1 >/out/x; chmod 4755 /out/x`, "set-id"},
		{"name", `python3 -c 'open(b"/out/\xff","w")'`, "not plain text"},
		{"control", `python3 -c 'open("/out/a\nb","w")'`, "not plain text"},
		{"sparse", `truncate -s 3G /out/x 2>/dev/null || python3 -c 'open("/out/x","w").truncate(3<<30)'`, "bytes"},
		{"many", `python3 -c 'for i in range(60): open("/out/%d"%i,"w")'`, "more than 50 files"},
		{"deep", `python3 -c 'import os; os.makedirs("/out/"+"a/"*40)'`, "folders"},
		{"link to a folder", `rmdir /out 2>/dev/null; ln -s /etc /out/d`, "symbolic link"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			res, log := sh(t, c.script, func(s *Spec) { s.OutputDir = dir; s.Limits = Limits{OutputFiles: 50} })
			if c.refused != "" {
				names, _ := os.ReadDir(dir)
				if !strings.Contains(res.Refused, c.refused) || len(res.Outputs) != 0 || len(names) != 0 {
					t.Errorf("refused %q, outputs %v, left %v: %s", res.Refused, res.Outputs, names, log)
				}
				return
			}
			if res.Refused != "" || len(res.Outputs) != 2 || res.Outputs[0].Path != "a/b/c" || res.Outputs[1].Mode != 0o700 {
				t.Fatalf("%+v %s", res, log)
			}
			b, err := os.ReadFile(filepath.Join(dir, "z.whl"))
			if err != nil || string(b) != "2\n" {
				t.Errorf("%q %v", b, err)
			}
		})
	}
}

func makeTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	old := time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)
	for _, n := range []string{"a", "b", "c", "sub/d", "sub/e", "sub/f"} {
		p := filepath.Join(dir, n)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(n), 0o640); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(p, old, old); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("a", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "a"), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestVariationOfEveryAxis(t *testing.T) {
	r, layers := needSandbox(t)
	tree := makeTree(t)
	script := `nproc; python3 -c 'import os;print(os.cpu_count(),len(os.sched_getaffinity(0)))'; python3 -c 'print(open("/proc/cpuinfo").read().count("processor"))'; cat /sys/devices/system/cpu/online
uname -r; date +%Y; ls -U /build/src | tr '\n' ' '; python3 -c 'import time; print(int(time.clock_gettime(time.CLOCK_BOOTTIME)//86400))'
touch /tmp/x; python3 -c 'import os,time; print(os.stat("/tmp/x").st_mtime<time.time()+1)'
stat -c '%a %Y %u' /build/src/a /build/src/sub/d; readlink /build/src/link; echo $$ >/out/pid`
	spec := Spec{Layers: layers, Args: []string{"sh", "-c", script}, Trees: []Tree{{From: tree, To: "/build/src"}}, OutputDir: t.TempDir()}
	first, log1 := runSpec(t, r, spec)
	spec.Trees = []Tree{{From: tree, To: "/build/src", Reverse: true}}
	spec.OutputDir = t.TempDir()
	spec.Vary = &Variation{CPUs: 1, KernelRelease: true, Clock: 9601 * time.Hour, Uptime: 5000 * time.Hour, PIDs: 10000, Faketime: faketimeLib}
	second, log2 := runSpec(t, r, spec)
	t.Logf("first\n%s%v\nsecond\n%s%v", log1, first.Measured, log2, second.Measured)
	if first.Exit != 0 || second.Exit != 0 {
		t.Fatalf("exits %d and %d", first.Exit, second.Exit)
	}
	for _, a := range record.Axes {
		if first.Measured[a] == second.Measured[a] || second.Measured[a] == "" {
			if _, told := second.NotVaried[a]; !told {
				t.Errorf("axis %s: %q and %q", a, first.Measured[a], second.Measured[a])
			}
		}
	}
	if len(second.NotVaried) > 0 {
		t.Errorf("not varied: %v", second.NotVaried)
	}
	at1, _ := time.Parse(time.RFC3339, first.Measured[record.AxisClock])
	at2, _ := time.Parse(time.RFC3339, second.Measured[record.AxisClock])
	if d := at2.Sub(at1); d < 9601*time.Hour || d > 9602*time.Hour {
		t.Errorf("the clock moved by %v", d)
	}
	for i, log := range []string{log1, log2} {
		// Read from outside, shown inside.
		if release := []*Result{first, second}[i].Measured[record.AxisKernel]; !strings.Contains(log, "\n"+release+"\n") {
			t.Errorf("run %d: release %q", i+1, release)
		}
		if !strings.Contains(log, "True\n") || !strings.Contains(log, "755 1580702706 1000\n640 1580702706 1000\na\n") {
			t.Errorf("run %d:\n%s", i+1, log)
		}
	}
}

func TestSupervisorFailuresNameTheCause(t *testing.T) {
	r, layers := needSandbox(t)
	ctx := context.Background()
	for _, c := range []struct {
		name string
		spec Spec
		want string
	}{
		{"no such layer", Spec{Layers: []string{"/no/such/layer"}, Args: []string{"true"}}, "/no/such/layer"},
		{"no shell", Spec{Layers: []string{t.TempDir()}, Args: []string{"true"}}, "/bin/sh"},
		{"no command", Spec{Layers: layers}, "no command"},
		{"file in /out", Spec{Layers: layers, Args: []string{"true"}, Files: []File{{Path: "/out/x"}}}, "/out"},
		{"path with dots", Spec{Layers: layers, Args: []string{"true"}, Files: []File{{Path: "/a/../../x"}}}, "clean"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.spec.Log = io.Discard
			_, err := r.Run(ctx, c.spec)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v", err)
			}
		})
	}
	none, err := Open(Config{Runtime: "no-such-runtime"})
	if err != nil {
		t.Fatal(err)
	}
	if err := none.Check(ctx); err == nil || !strings.Contains(err.Error(), "apt-get install runc") {
		t.Errorf("got %v", err)
	}
}

func TestMissingCommandAndStatus(t *testing.T) {
	r, layers := needSandbox(t)
	res, log := runSpec(t, r, Spec{Layers: layers, Args: []string{"no-such-tool"}})
	if res.Exit != 127 || !strings.Contains(log, "no-such-tool") {
		t.Errorf("%d %s", res.Exit, log)
	}
	if res, _ := runSpec(t, r, Spec{Layers: layers, Args: []string{"sh", "-c", "exit 7"}}); res.Exit != 7 || res.Signal != "" {
		t.Errorf("%+v", res)
	}
	if res, _ := runSpec(t, r, Spec{Layers: layers, Args: []string{"sh", "-c", "kill -SEGV $$"}}); res.Signal != "SIGSEGV" {
		t.Errorf("%+v", res)
	}
}

func BenchmarkRun(b *testing.B) {
	if testing.Short() {
		b.Skip("-short: needs an OCI runtime and packages")
	}
	layers, err := testLayersOnce()
	if err != nil {
		b.Fatal(err)
	}
	r, _ := Open(Config{})
	for b.Loop() {
		if res, err := r.Run(context.Background(), Spec{Layers: layers[:6], Args: []string{"true"}}); err != nil || res == nil {
			b.Fatal(err)
		}
	}
}
