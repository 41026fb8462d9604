package sandbox

import (
	"bytes"
	"debug/elf"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestSleepUnderAnotherClock: with the wall clock moved, a program waits as long
// as it asked to, however it asks; time.sleep failed, and with it a pool of
// processes hung.
func TestSleepUnderAnotherClock(t *testing.T) {
	res, log := sh(t, `exec python3 - <<'E'
import ctypes, multiprocessing, subprocess, threading, time
def took(name, f):
  a=time.monotonic(); f(); print(name, time.monotonic()-a >= 0.2)
class T(ctypes.Structure): _fields_=[("s",ctypes.c_long),("n",ctypes.c_long)]
def wait(clock, flags, at):
  t=T(int(at), int(at%1*1e9)); return ctypes.CDLL(None).clock_nanosleep(clock, flags, ctypes.byref(t), None)
took("sleep", lambda: time.sleep(0.2))
took("until a moment of the wall clock", lambda: wait(0, 1, time.time()+0.25))
took("for a time of the wall clock", lambda: wait(0, 0, 0.2))
took("until a moment of the monotonic clock", lambda: wait(1, 1, time.monotonic()+0.2))
took("event", lambda: threading.Event().wait(0.2))
print("refused", wait(1, 1, -1))
print("pool", multiprocessing.Pool(2).map(abs, [1, -2]))
try: subprocess.run(["sleep", "9"], timeout=0.3)
except subprocess.TimeoutExpired: print("timeout")
E`, func(s *Spec) {
		s.Limits.Wall = 30 * time.Second
		s.Vary = &Variation{Clock: 9601 * time.Hour, Uptime: 9999999 * time.Second, Faketime: faketimeLib}
	})
	want := "sleep True\nuntil a moment of the wall clock True\nfor a time of the wall clock True\nuntil a moment of the monotonic clock True\nevent True\nrefused 22\npool [1, 2]\ntimeout\n"
	if log != want || res.Exit != 0 {
		t.Errorf("exit %d, limit %q:\n%s", res.Exit, res.Limit, log)
	}
}

func TestSleepLibrary(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("no code for this processor: sleepLibrary gives nil")
	}
	for _, shift := range []time.Duration{time.Second, 9601 * time.Hour, -time.Hour} {
		f, err := elf.NewFile(bytes.NewReader(sleepLibrary(shift)))
		if err != nil {
			t.Fatal(err)
		}
		if f.Type != elf.ET_DYN || f.Machine != elf.EM_X86_64 || len(f.Progs) != 4 {
			t.Errorf("%+v", f.FileHeader)
		}
		for _, p := range f.Progs {
			if p.Flags&(elf.PF_W|elf.PF_X) == elf.PF_W|elf.PF_X {
				t.Errorf("a segment can be written and run: %+v", p.ProgHeader)
			}
		}
	}
	if sleepLibrary(1<<62) != nil {
		t.Error("a shift that the code cannot hold")
	}
}

// TestCompilerSpecs: each GCC of a root is told, and a link leads nowhere else.
func TestCompilerSpecs(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	for _, d := range []string{"usr/lib/gcc/x86_64-linux-gnu/12", "usr/lib/gcc/x86_64-linux-gnu/13"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cc1 := filepath.Join(dir, "usr/lib/gcc/x86_64-linux-gnu/12/cc1")
	if err := os.WriteFile(cc1, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(outside, "cc1"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "usr/lib/gcc/x86_64-linux-gnu/14")); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := layCompilerSpecs(root, [2]int{os.Getuid(), os.Getgid()}); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(filepath.Dir(cc1), "specs")); err != nil || !strings.Contains(string(b), "-march=native") {
		t.Errorf("%q %v", b, err)
	}
	for _, p := range []string{filepath.Join(dir, "usr/lib/gcc/x86_64-linux-gnu/13/specs"), filepath.Join(outside, "specs")} {
		if _, err := os.Lstat(p); err == nil {
			t.Errorf("%s was made", p)
		}
	}
}
