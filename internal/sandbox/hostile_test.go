package sandbox

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hallmark/internal/record"
)

//go:embed testdata/meet.py
var meet string

// TestTwoBuildsDoNotMeet: two builds at the same time that look for one another
// in every place that processes of one machine could share find nothing; two
// processes within one build, as a control, find one another.
func TestTwoBuildsDoNotMeet(t *testing.T) {
	r, layers := needSandbox(t)
	spec := func(script string, args ...string) Spec {
		return Spec{Layers: layers, Files: []File{{Path: "/usr/lib/meet.py", Data: []byte(meet)}},
			Args: append([]string{"sh", "-c", script, "sh"}, args...), OutputDir: t.TempDir()}
	}
	const one = `exec python3 /usr/lib/meet.py "$1" "$2" 3`
	var wg sync.WaitGroup
	logs := make([]bytes.Buffer, 2)
	for i, tokens := range [][]string{{"token-of-one", "token-of-two"}, {"token-of-two", "token-of-one"}} {
		s := spec(one, tokens...)
		s.Log = &logs[i]
		wg.Go(func() {
			res, err := r.Run(context.Background(), s)
			if err != nil || res.Exit != 0 {
				t.Errorf("build %d: %v %+v: %s", i, err, res, logs[i].String())
			}
		})
	}
	wg.Wait()
	for i := range logs {
		if found := logs[i].String(); found != "" {
			t.Errorf("build %d found of the other:\n%s", i, found)
		}
	}
	res, log := runSpec(t, r, spec(`python3 /usr/lib/meet.py "$1" "$2" 2 & python3 /usr/lib/meet.py "$2" "$1" 2; wait`, "token-of-one", "token-of-two"))
	for _, want := range []string{"file in /tmp", "file in /dev/shm", "file in /out", "abstract socket", "loopback", "System V shared memory", "System V semaphore", "System V queue", "POSIX queue", "flock /usr/bin/python3.11", "process /proc/"} {
		if !strings.Contains(log, want) {
			t.Errorf("control: two processes of one build do not meet by %s: the test proves nothing; exit %d:\n%s", want, res.Exit, log)
		}
	}
}

// TestUnusualNetwork: other ways out than plain sockets to plain addresses are
// caught too, or do not lead out at all.
func TestUnusualNetwork(t *testing.T) {
	_, log := sh(t, `python3 -c '
import socket
for family, kind, proto in ((2,1,132),(2,5,132),(2,6,33),(2,2,136),(2,1,262),(10,1,132),(2,3,255),(17,3,0),(40,1,0)):
  try: socket.socket(family,kind,proto); print("socket",family,kind,proto)
  except OSError: pass
'`)
	if log != "" {
		t.Errorf("a build got %s", log)
	}
	ways := []struct{ name, py, target string }{
		{"fast open", `socket.socket().sendto(b"x",0x20000000,("192.0.2.7",443))`, "192.0.2.7:443"},
		{"non-blocking", `s=socket.socket(); s.setblocking(False); s.connect_ex(("192.0.2.8",443))`, "192.0.2.8:443"},
		{"mapped address", `socket.create_connection(("::ffff:192.0.2.9",443),1)`, "192.0.2.9:443"},
		{"own address first", `s=socket.socket(); s.bind(("203.0.113.1",0)); s.connect(("203.0.113.2",443))`, "203.0.113.2:443"},
		{"broadcast", `s=socket.socket(2,2); s.setsockopt(1,6,1); s.sendto(b"x",("255.255.255.255",67))`, "255.255.255.255:67"},
		{"multicast", `socket.socket(2,2).sendto(b"x",("224.0.0.251",5353))`, "224.0.0.251:5353"},
		{"multicast by IPv6", `socket.socket(10,2).sendto(b"x",("ff02::fb",5353,0,1))`, "[ff02::fb]:5353"},
		{"link-local", `socket.socket(10,2).sendto(b"x",("fe80::1",99,0,1))`, "[fe80::1]:99"},
		{"one segment", `s=socket.socket(2,2); s.setsockopt(0,10,2); s.sendto(b"x"*9000,("198.51.100.3",99))`, "198.51.100.3:99"},
		{"by a child left behind", `
  import os
  if os.fork()==0:
    os.setsid()
    if os.fork()==0:
      socket.create_connection(("192.0.2.10",443),1)
    os._exit(0)
  os.wait()
  import threading; threading.Event().wait(0.5)`, "192.0.2.10:443"},
		{"name server over TCP", `s=socket.create_connection(("127.0.0.1",53),1)`, "a name, asked for over TCP"},
		{"name by a resolver of its own", `socket.socket(2,2).sendto(b"\0\1\1\0\0\1\0\0\0\0\0\0\5token\7example\0\0\20\0\1",("127.0.0.53",53))`, "token.example"},
		{"metadata of a cloud", `socket.create_connection(("169.254.169.254",80),1)`, "169.254.169.254:80"},
	}
	var script strings.Builder
	for i, w := range ways {
		fmt.Fprintf(&script, "def way%d():\n  %s\ntry: way%d()\nexcept OSError: pass\n", i, w.py, i)
	}
	res, log := sh(t, "exec python3 - <<'E'\nimport socket\n"+script.String()+"\nE")
	if res.Exit != 0 {
		t.Fatalf("exit %d: %s", res.Exit, log)
	}
	for _, w := range ways {
		if !slices.ContainsFunc(res.Network, func(a record.Attempt) bool { return a.Target == w.target }) {
			t.Errorf("%s: caught %+v", w.name, res.Network)
		}
	}
}

// TestStubbornProcesses: what ignores signals, is stopped, hides behind another
// session or forks without end is gone when the build is.
func TestStubbornProcesses(t *testing.T) {
	marker := fmt.Sprintf("13%d", time.Now().UnixNano()%1e9)
	for _, c := range []struct {
		name, script string
		limits       Limits
		want         record.FailureClass
	}{
		{"ignores every signal", `import signal,os
for s in range(1,65):
  try: signal.signal(s, signal.SIG_IGN)
  except (OSError, ValueError): pass
while True: pass`, Limits{Wall: time.Second}, record.FailTimeout},
		{"stopped", `import os,signal
os.kill(os.getpid(), signal.SIGSTOP)`, Limits{Wall: time.Second}, record.FailTimeout},
		{"the first process is told to stop", `import os,signal,threading
for s in (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTERM, signal.SIGKILL): os.kill(1, s)
threading.Event().wait(100)`, Limits{Wall: time.Second}, record.FailTimeout},
		{"waits in the kernel", `import os
os.mkfifo("/tmp/f"); os.open("/tmp/f", os.O_RDONLY)`, Limits{Wall: time.Second}, record.FailTimeout},
		{"forks without end", `import os
while True:
  try: os.fork()
  except OSError: pass`, Limits{Wall: 3 * time.Second, Processes: 100}, ""},
		{"threads without end", `import threading
e=threading.Event()
while True: threading.Thread(target=e.wait, daemon=True).start()`, Limits{Wall: 10 * time.Second, Processes: 100}, record.FailProcesses},
		{"daemon", `import os
if os.fork()==0:
  os.setsid()
  if os.fork()==0: os.execvp("sleep",["sleep","` + marker + `"])
  os._exit(0)
os.wait()`, Limits{}, ""},
		{"daemon that keeps the log open", `import os
if os.fork()==0:
  os.setsid(); os.execvp("sh",["sh","-c","while :; do echo; done; : ` + marker + `"])
`, Limits{}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			begin := time.Now()
			res, log := sh(t, "exec python3 - <<'E'\n"+c.script+"\nE", func(s *Spec) { s.Limits = c.limits })
			// How a flood of forks ends depends on which process is refused first.
			if strings.HasPrefix(c.name, "forks") {
				if res.Limit != record.FailTimeout && res.Limit != record.FailProcesses {
					t.Errorf("limit %q: %.300s", res.Limit, log)
				}
			} else if res.Limit != c.want {
				t.Errorf("limit %q, exit %d: %.300s", res.Limit, res.Exit, log)
			}
			if d := time.Since(begin); d > 25*time.Second {
				t.Errorf("took %v", d)
			}
			assertGone(t, marker)
		})
	}
}

// TestStubbornFloods: what a build can fill, it can fill to its limit only, in
// whatever way it does so.
func TestStubbornFloods(t *testing.T) {
	small := Limits{Memory: 96 << 20, Disk: 16 << 20, Output: 8 << 20, Log: 100_000, Wall: 20 * time.Second, OutputFiles: 50}
	for _, c := range []struct {
		name, script string
		want         []record.FailureClass
		refused      string
	}{
		{"memory files", `import os
n=[]
while True:
  fd=os.memfd_create("x"); n.append(fd); os.write(fd, b"x"*(4<<20))`, []record.FailureClass{record.FailMemory}, ""},
		{"shared memory", `
while True: open("/dev/shm/x","ab").write(b"x"*(1<<20))`, []record.FailureClass{record.FailMemory, ""}, ""},
		{"System V shared memory", `import ctypes
l=ctypes.CDLL(None); l.shmat.restype=ctypes.c_void_p
while True:
  at=l.shmat(l.shmget(0,4<<20,0o1600),None,0)
  ctypes.memset(at,1,4<<20)`, []record.FailureClass{record.FailMemory, ""}, ""},
		{"pipes", `import os
n=[]
while True:
  r,w=os.pipe(); n+=[r,w]; os.set_blocking(w,False); os.write(w,b"x"*65536)`, []record.FailureClass{record.FailMemory, ""}, ""},
		{"sockets", `import socket
n=[]
while True:
  a,b=socket.socketpair(); n+=[a,b]; a.setblocking(False)
  try:
    while True: a.send(b"x"*60000)
  except BlockingIOError: pass`, []record.FailureClass{record.FailMemory, ""}, ""},
		{"disk by a deleted file", `import os
f=open("/build/x","wb"); os.remove("/build/x")
while True: f.write(b"x"*(1<<20))`, []record.FailureClass{record.FailDisk, ""}, ""}, // gone when one looks
		{"temporary folder", `
f=open("/tmp/x","wb")
while True: f.write(b"x"*(1<<20))`, []record.FailureClass{record.FailDisk}, ""},
		{"folders in folders", `import os
while True: os.mkdir("d"); os.chdir("d")`, []record.FailureClass{record.FailDisk, ""}, ""},
		{"names in the output", `import os
for i in range(100000): os.mkdir("/out/%d"%i)`, []record.FailureClass{record.FailDisk, ""}, "folders"},
		{"a file that says more than it has", `
open("/out/x","wb").truncate(12<<20)`, []record.FailureClass{""}, "bytes"},
		{"log without a line", `import os
while True: os.write(1,b"x"*65536)`, []record.FailureClass{record.FailLog}, ""},
		{"log, slowly", `import os,threading
e=threading.Event()
while True: os.write(2,b"x"*5000); e.wait(0.01)`, []record.FailureClass{record.FailLog}, ""},
		{"crashes", `import os,signal
for i in range(300):
  if os.fork()==0: os.kill(os.getpid(),signal.SIGSEGV)
  os.wait()`, []record.FailureClass{""}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			begin := time.Now()
			res, log := sh(t, "cd /build; exec python3 - <<'E'\n"+c.script+"\nE", func(s *Spec) { s.Limits, s.OutputDir = small, dir })
			if !slices.Contains(c.want, res.Limit) || c.refused != "" && !strings.Contains(res.Refused, c.refused) {
				t.Errorf("limit %q, want one of %q; refused %q; exit %d: %.300s", res.Limit, c.want, res.Refused, res.Exit, log)
			}
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("%d files were taken", len(left))
			}
			if int64(len(log)) > small.Log || time.Since(begin) > 25*time.Second || res.Usage.Memory > small.Memory {
				t.Errorf("%d bytes of log, %d of memory, %v", len(log), res.Usage.Memory, time.Since(begin))
			}
		})
	}
}

// TestOddOutput: more odd things in /out than TestOutput has, each refused whole
// or taken without what is odd about it.
func TestOddOutput(t *testing.T) {
	for _, c := range []struct{ name, py, refused string }{
		{"socket", `import socket; socket.socket(1).bind("/out/x")`, "no regular file"},
		{"set-group-id", `open("/out/x","w"); os.chmod("/out/x",0o2755)`, "set-id"},
		{"sticky", `open("/out/x","w"); os.chmod("/out/x",0o1755)`, "set-id"},
		{"escape sequence", `open("/out/\033[31mred","w")`, "not plain text"},
		{"text that runs backwards", `open("/out/a\u202ehw.1","w")`, "not plain text"},
		{"no name but spaces of other widths", `open("/out/\u3000","w")`, "not plain text"},
		{"link to the process itself", `os.symlink("/proc/self/root","/out/x")`, "symbolic link"},
		{"link that hangs", `os.symlink("x","/out/x")`, "symbolic link"},
		{"hard link to a file outside", `open("/build/y","w")
try: os.link("/build/y","/out/x")
except OSError: os.symlink("/build/y","/out/x")`, "link"},
		{"everything closed", `os.mkdir("/out/d"); open("/out/d/x","w").write("1"); os.chmod("/out/d/x",0); os.chmod("/out/d",0)`, ""},
		{"attributes", `open("/out/x","w").write("1")
try: os.setxattr("/out/x","user.x",b"y")
except OSError: pass`, ""},
		{"a name of 255 bytes", `open("/out/"+"n"*255,"w").write("1")`, ""},
		{"times before and after all times", `open("/out/x","w").write("1"); os.utime("/out/x",(-1e9,1e12))`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			res, log := sh(t, "exec python3 - <<'E'\nimport os\n"+c.py+"\nE", func(s *Spec) { s.OutputDir = dir })
			names, _ := os.ReadDir(dir)
			if c.refused != "" {
				if !strings.Contains(res.Refused, c.refused) || len(res.Outputs)+len(names) != 0 {
					t.Errorf("refused %q, outputs %v, left %v: %s", res.Refused, res.Outputs, names, log)
				}
				if strings.ContainsAny(res.Refused, "\x1b\u202e") {
					t.Errorf("the refusal draws on a terminal: %q", res.Refused)
				}
				return
			}
			if res.Refused != "" || len(res.Outputs) != 1 {
				t.Fatalf("%+v %s", res, log)
			}
			st, err := os.Stat(filepath.Join(dir, filepath.FromSlash(res.Outputs[0].Path)))
			if err != nil || st.Mode() != 0o644 || st.Size() != 1 || time.Since(st.ModTime()).Abs() > time.Hour {
				t.Errorf("%+v %v", st, err)
			}
		})
	}
}
