package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hallmark/internal/record"
)

// TestWithoutRoot runs a sandbox as an ordinary user with subordinate ids: all
// but the control groups holds. It makes the user for the time of the test.
func TestWithoutRoot(t *testing.T) {
	_, layers := needSandbox(t)
	user := fmt.Sprintf("hallmark-t%d", os.Getpid())
	for _, c := range [][]string{{"useradd", "--no-create-home", "--shell", "/usr/sbin/nologin", user},
		{"usermod", "--add-subuids", "2000000-2065535", "--add-subgids", "2000000-2065535", user}} {
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v %s", c, err, out)
		}
		t.Cleanup(func() { _ = exec.Command("userdel", user).Run() })
	}
	dir, err := os.MkdirTemp("", "hallmark-rootless-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	script := `cp "$1" "$2/test" && shift && d=$1 && shift && i=0 && for l in "$@"; do cp -a "$l" "$d/l$i" || exit 1; i=$((i+1)); done
mkdir "$d/out" "$d/tree" && echo x >"$d/tree/f" && chown -R "$U:$U" "$d" && chmod -R a+rX "$d"`
	cp := exec.Command("sh", append([]string{"-c", script, "sh", self, dir}, layers...)...)
	cp.Env = append(os.Environ(), "U="+user)
	if out, err := cp.CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	h := helperRun{StateDir: dir + "/state", Check: true, Spec: Spec{Name: "rootless",
		Args:      []string{"sh", "-c", `id -u; stat -c %u /usr/bin/true /build/src/f; echo x >/etc/x; echo 1 >/out/f; python3 -c 'import socket; socket.create_connection(("192.0.2.1",80))' 2>/dev/null; exit 0`},
		OutputDir: dir + "/out", Trees: []Tree{{From: dir + "/tree", To: "/build/src"}},
		Vary: &Variation{CPUs: 1, KernelRelease: true, Clock: 9601 * time.Hour, Uptime: 5000 * time.Hour, PIDs: 10000, Faketime: faketimeLib}}}
	for i := range layers {
		h.Spec.Layers = append(h.Spec.Layers, fmt.Sprintf("%s/l%d", dir, i))
	}
	doc, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("setpriv", "--reuid", user, "--regid", user, "--clear-groups", dir+"/test")
	cmd.Env = []string{"PATH=/usr/bin:/bin", runEnv + "=" + string(doc)}
	var log bytes.Buffer
	cmd.Stderr, cmd.Dir = &log, "/"
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, log.String())
	}
	var res Result
	if err := json.Unmarshal(out, &res); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(log.String(), "1000\n0\n1000\n") || res.Exit != 0 || len(res.Outputs) != 1 || len(res.NotVaried) != 0 {
		t.Errorf("%s\n%+v", log.String(), res)
	}
	if !slices.ContainsFunc(res.Network, func(a record.Attempt) bool { return a.Target == "192.0.2.1:80" }) {
		t.Errorf("network: %v", res.Network)
	}
	for _, f := range res.Facts.Facts {
		if byGroup := f.Name == "limit.memory" || f.Name == "limit.processes"; f.Holds == byGroup || byGroup && f.Cause == "" {
			t.Errorf("%+v", f)
		}
	}
}

// TestKilledControlProcess: with the control process killed at once, nothing
// goes on, and the next one removes what control groups are left.
func TestKilledControlProcess(t *testing.T) {
	_, layers := needSandbox(t)
	state := t.TempDir()
	marker := fmt.Sprintf("12%d", time.Now().UnixNano()%1e9)
	doc, err := json.Marshal(helperRun{StateDir: state, Spec: Spec{Layers: layers, Args: []string{"sh", "-c", "echo up; sleep " + marker}}})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), runEnv+"="+string(doc))
	up, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := up.Read(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	locks, _ := filepath.Glob(state + "/sandbox-*")
	if len(locks) != 1 {
		t.Fatalf("%v", locks)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	time.Sleep(500 * time.Millisecond)
	assertGone(t, marker)
	old := time.Now().Add(-time.Minute)
	if err := os.Chtimes(locks[0], old, old); err != nil {
		t.Fatal(err)
	}
	id := strings.TrimPrefix(filepath.Base(locks[0]), "sandbox-")
	if _, err := Open(Config{StateDir: state}); err != nil {
		t.Fatal(err)
	}
	left, _ := filepath.Glob("/sys/fs/cgroup/*/" + cgroupParent + "/" + id)
	if one, _ := filepath.Glob("/sys/fs/cgroup/" + cgroupParent + "/" + id); len(left)+len(one) > 0 {
		t.Errorf("control groups are left: %v", left)
	}
	if locks, _ := filepath.Glob(state + "/sandbox-*"); len(locks) > 0 {
		t.Errorf("%v is left", locks)
	}
}

func TestManyAtOnce(t *testing.T) {
	r, layers := needSandbox(t)
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			var log bytes.Buffer
			dir := t.TempDir()
			res, err := r.Run(context.Background(), Spec{Layers: layers, OutputDir: dir, Log: &log,
				Args: []string{"sh", "-c", fmt.Sprintf("ls -A /build; echo %d >/build/%d; sleep 0.2; cp /build/* /out", i, i)}})
			if err != nil || res.Exit != 0 || log.Len() > 0 || len(res.Outputs) != 1 || res.Outputs[0].Path != fmt.Sprint(i) {
				t.Errorf("%v %+v %s", err, res, log.String())
			}
		})
	}
	wg.Wait()
}

func TestFiveHundredLayers(t *testing.T) {
	r, layers := needSandbox(t)
	base := t.TempDir()
	for i := len(layers); i < maxLayers; i++ {
		d := fmt.Sprintf("%s/%d", base, i)
		if err := os.MkdirAll(d+"/usr/share", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(fmt.Sprintf("%s/usr/share/%d", d, i), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		layers = append(layers, d)
	}
	res, log := runSpec(t, r, Spec{Layers: layers, Args: []string{"test", "-e", "/usr/share/499"}})
	if res.Exit != 0 {
		t.Errorf("%s", log)
	}
	for _, f := range res.Facts.Facts {
		if f.Name == "inputs" && !f.Holds {
			t.Errorf("%+v", f)
		}
	}
}

// TestHostileLayer: links in a layer lead nowhere but inside the root, and
// nothing is written where they point on the host.
func TestHostileLayer(t *testing.T) {
	r, layers := needSandbox(t)
	bad, outside := t.TempDir(), t.TempDir()
	if err := os.Symlink(outside, bad+"/build"); err != nil {
		t.Fatal(err)
	}
	_, err := r.Run(context.Background(), Spec{Layers: append([]string{bad}, layers...), Args: []string{"true"}})
	if err == nil {
		t.Error("a link to the host's folders was followed")
	}
	bad2 := t.TempDir()
	if err := os.MkdirAll(bad2+"/etc", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside+"/hosts", bad2+"/etc/hosts"); err != nil {
		t.Fatal(err)
	}
	res, log := runSpec(t, r, Spec{Layers: append([]string{bad2}, layers...), Args: []string{"cat", "/etc/hosts"}})
	if res.Exit != 0 || !strings.Contains(log, "build") {
		t.Errorf("%s", log)
	}
	if names, _ := os.ReadDir(outside); len(names) > 0 {
		t.Errorf("the host's folder has %v", names)
	}
}
