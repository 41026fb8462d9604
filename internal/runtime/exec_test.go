package runtime

import (
	"bufio"
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"hallmark/internal/archive"
	"hallmark/internal/fault"
)

// helperEnv makes this test binary the one that installs and enters a runtime.
const helperEnv = "HALLMARK_TEST_ENTER"

// helper is what that one is told.
type helper struct {
	Layer   string // to be installed first, if there is one
	Command Command
}

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "probe" {
		probeMain(os.Args[1:])
	}
	if doc := os.Getenv(helperEnv); doc != "" {
		os.Exit(help(doc))
	}
	os.Exit(m.Run())
}

func help(doc string) int {
	var h helper
	err := json.Unmarshal([]byte(doc), &h)
	if err == nil && h.Layer != "" {
		var b []byte
		if b, err = os.ReadFile(h.Layer); err == nil {
			l := layer("probe", b)
			_, err = Install(context.Background(), specOf(l), h.Command.Dir, nil, false)
		}
	}
	if err == nil {
		err = Exec(context.Background(), h.Command)
	}
	fmt.Fprintln(os.Stderr, "helper:", fault.KindOf(err), err)
	return 99
}

// probeMain is the program that runs in a runtime.
func probeMain(args []string) {
	what := append(args, "facts")[0]
	switch what {
	case "exit":
		n, _ := strconv.Atoi(args[1])
		os.Exit(n)
	case "wait":
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM, syscall.SIGUSR1)
		fmt.Println("pid", os.Getpid())
		fmt.Println("got", <-c)
		os.Exit(3)
	case "die":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "cat":
		b, err := os.ReadFile(args[1])
		fmt.Printf("%s%v\n", b, err)
		os.Exit(0)
	}
	say := func(name string, v ...any) { fmt.Println(name+":", strings.TrimSpace(fmt.Sprintln(v...))) }
	wd, _ := os.Getwd()
	say("ids", os.Getuid(), os.Getgid())
	say("cwd", wd)
	say("env", os.Environ())
	for _, d := range []string{"/", "/dev", "/etc", "/usr", os.Getenv("HOME")} {
		es, err := os.ReadDir(d)
		var names []string
		for _, e := range es {
			names = append(names, e.Name())
		}
		say("in "+d, names, err)
	}
	for _, p := range []string{"/x", "/usr/x", "/usr/bin/data", "/etc/x", "/tmp/x", "/dev/shm/x", wd + "/made", os.Getenv("HOME") + "/made-at-home"} {
		f, err := os.OpenFile(p, os.O_CREATE|os.O_WRONLY, 0o644)
		if err == nil {
			f.Close()
		}
		say("write "+p, err != nil, errno(err))
	}
	err := syscall.Mount("", "/", "", syscall.MS_REMOUNT|syscall.MS_BIND, "")
	say("remount", errno(err))
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "Cap") || strings.HasPrefix(line, "NoNewPrivs") {
			say("status", strings.Fields(line))
		}
	}
	for _, d := range []string{"/dev/null", "/dev/urandom", "/dev/ptmx", "/dev/fd/0"} {
		f, err := os.OpenFile(d, os.O_RDWR, 0)
		if err == nil {
			f.Close()
		}
		if d == "/dev/urandom" || d == "/dev/fd/0" {
			_, err = os.Stat(d)
		}
		say("open "+d, errno(err))
	}
	if args := slices.Clone(os.Args); len(args) > 1 {
		say("args", args[1:])
	}
	os.Exit(0)
}

func errno(err error) string {
	var e syscall.Errno
	if errors.As(err, &e) {
		return e.Error()
	}
	return fmt.Sprint(err)
}

// program is this one without need of a loader, which a runtime of the tests has not:
// as it is, or built anew where cgo linked it.
var program = sync.OnceValues(func() ([]byte, error) {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	f, err := elf.NewFile(bytes.NewReader(self))
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		return self, nil
	}
	dir, err := os.MkdirTemp("", "hallmark-probe-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	cmd := exec.Command("go", "test", "-c", "-o", filepath.Join(dir, "probe"), ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the tests without cgo: %w: %s", err, out)
	}
	return os.ReadFile(filepath.Join(dir, "probe"))
})

// lacking ends a test for want of something that make test installs or needs: under
// -short it is left out, else it fails.
func lacking(t *testing.T, format string, args ...any) {
	t.Helper()
	if testing.Short() {
		t.Skipf(format, args...)
	}
	t.Fatalf(format, args...)
}

// probeLayer makes the layer with this program in it, as a file, and gives its path.
func probeLayer(t *testing.T, dir string) string {
	t.Helper()
	self, err := program()
	if err != nil {
		t.Fatal(err)
	}
	tree := filepath.Join(dir, "tree")
	for name, b := range map[string][]byte{"usr/bin/probe": self, "usr/bin/data": []byte("x"), "usr/bin/broken": []byte("#!/no/such/interpreter\n"), "usr/share/words": []byte("words"), "etc/motd": []byte("hello")} {
		p := filepath.Join(tree, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		mode := fs.FileMode(0o755)
		if name == "usr/bin/data" {
			mode = 0o644
		}
		if err := os.WriteFile(p, b, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("usr/bin", filepath.Join(tree, "bin")); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "probe-1.0.layer.tar")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := archive.WriteLayer(tree, f, at); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Close(), os.RemoveAll(tree)); err != nil {
		t.Fatal(err)
	}
	return name
}

// someone is who a test runs as.
type someone struct {
	name string
	wrap []string // before the command
	uid  int
	dir  string // theirs
	rt   string // a runtime that they installed
	note string // the layer that is in it
}

// needNamespaces ends a test where user namespaces cannot be had at all (lacking).
func needNamespaces(t *testing.T) {
	t.Helper()
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		lacking(t, "there is no unshare")
	}
	if err := probe(context.Background(), unshare); err != nil {
		lacking(t, "%v", err)
	}
}

// people are who runs: whoever runs the tests, and if that is root, an ordinary user
// made for the time of the test.
func people(t *testing.T) []someone {
	t.Helper()
	needNamespaces(t)
	base, err := os.MkdirTemp("", "hallmark-enter-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	if err := os.Chmod(base, 0o755); err != nil {
		t.Fatal(err)
	}
	l := probeLayer(t, base)
	list := []someone{{name: "self", uid: os.Getuid()}}
	if os.Getuid() == 0 {
		user := fmt.Sprintf("hallmark-e%d", os.Getpid())
		if out, err := exec.Command("useradd", "--no-create-home", "--shell", "/usr/sbin/nologin", user).CombinedOutput(); err != nil {
			t.Fatalf("useradd: %v %s", err, out)
		}
		t.Cleanup(func() { _ = exec.Command("userdel", user).Run() })
		out, err := exec.Command("id", "-u", user).Output()
		if err != nil {
			t.Fatal(err)
		}
		uid, err := strconv.Atoi(strings.TrimSpace(string(out)))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, someone{name: "ordinary", uid: uid, wrap: []string{"setpriv", "--reuid", user, "--regid", user, "--clear-groups"}})
	}
	for i := range list {
		p := &list[i]
		p.dir = filepath.Join(base, p.name)
		for _, d := range []string{"", "/home", "/here"} {
			if err := errors2(os.Mkdir(p.dir+d, 0o755), os.Chown(p.dir+d, p.uid, -1)); err != nil {
				t.Fatal(err)
			}
		}
		self, err := os.ReadFile("/proc/self/exe")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p.dir+"/test", self, 0o755); err != nil {
			t.Fatal(err)
		}
		p.rt, p.note = p.dir+"/rt", l
	}
	return list
}

// enter is the command that enters the runtime, which is installed if it is not there.
func (p someone) enter(t *testing.T, c Command) *exec.Cmd {
	t.Helper()
	h := helper{Command: c}
	if h.Command.Dir == "" {
		h.Command.Dir = p.rt
	}
	if _, err := os.Lstat(h.Command.Dir); err != nil {
		h.Layer = p.note
	}
	if h.Command.Work == "" {
		h.Command.Work = p.dir + "/here"
	}
	doc, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	args := append(slices.Clone(p.wrap), p.dir+"/test")
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = p.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), helperEnv + "=" + string(doc), "SECRET=of the caller", "TZ=UTC", "https_proxy=http://127.0.0.1:1"}
	return cmd
}

func TestExec(t *testing.T) {
	for _, p := range people(t) {
		t.Run(p.name, func(t *testing.T) {
			var said bytes.Buffer
			cmd := p.enter(t, Command{Args: []string{"probe", "facts", "a b", "-x"}, Home: p.dir + "/home", User: "somebody", Env: []string{"ASKED=yes"}})
			cmd.Stderr = &said
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v: %s", err, said.String())
			}
			got := string(out)
			for _, want := range []string{
				fmt.Sprintf("ids: %d ", p.uid), "cwd: " + p.dir + "/here\n", "ASKED=yes", "HOME=" + p.dir + "/home", "USER=somebody", "TZ=UTC", "https_proxy=http://127.0.0.1:1", "PATH=" + DefaultPath,
				"in /: [bin dev etc proc ", "in /usr: [bin share]", "motd", "passwd",
				"in /dev: [fd full null ptmx pts random shm stderr stdin stdout tty urandom zero]",
				"write /x: true read-only file system", "write /usr/x: true read-only file system", "write /usr/bin/data: true read-only file system", "write /etc/x: true read-only file system",
				"write /tmp/x: false", "write /dev/shm/x: false", "write " + p.dir + "/here/made: false", "write " + p.dir + "/home/made-at-home: false",
				"remount: operation not permitted", "status: [CapEff: 0000000000000000]", "status: [CapBnd: 0000000000000000]", "status: [CapPrm: 0000000000000000]", "status: [NoNewPrivs: 1]",
				"open /dev/null: <nil>", "open /dev/ptmx: <nil>", "open /dev/urandom: <nil>", "args: [facts a b -x]",
			} {
				if !strings.Contains(got, want) {
					t.Errorf("there is no %q", want)
				}
			}
			for _, no := range []string{"SECRET", helperEnv, "in /: [bin dev etc proc root"} {
				if strings.Contains(got, no) {
					t.Errorf("there is %q", no)
				}
			}
			if t.Failed() {
				t.Log(got)
			}
			for _, f := range []string{"/here/made", "/home/made-at-home"} {
				if st, err := os.Stat(p.dir + f); err != nil || int(st.Sys().(*syscall.Stat_t).Uid) != p.uid {
					t.Errorf("%s: %v", f, err)
				}
			}
			if _, doc, err := ReadDocument(p.rt); err != nil {
				t.Error(err)
			} else if ix, err := ReadFiles(p.rt, doc); err != nil {
				t.Error(err)
			} else if diff, err := Compare(context.Background(), p.rt, ix); err != nil || len(diff) > 0 {
				t.Errorf("the runtime was changed: %v %v", diff, err)
			}
		})
	}
}

// TestExecStatus: exit codes and signals are those of the command itself.
func TestExecStatus(t *testing.T) {
	for _, p := range people(t) {
		for name, c := range map[string]struct {
			args []string
			want string
			says string
		}{
			"exit code":           {[]string{"probe", "exit", "42"}, "exit status 42", ""},
			"by path":             {[]string{"/usr/bin/probe", "exit", "5"}, "exit status 5", ""},
			"killed":              {[]string{"probe", "die"}, "signal: killed", ""},
			"no such command":     {[]string{"nothing"}, "exit status 127", "in the runtime"},
			"the host's command":  {[]string{"/usr/bin/env"}, "exit status 127", "no such file"},
			"it does not run":     {[]string{"/usr/bin/data"}, "exit status 126", "permission denied"},
			"no such interpreter": {[]string{"broken"}, "exit status 126", "interpreter"},
			"no shell":            {nil, "exit status 127", "no shell"},
		} {
			var said bytes.Buffer
			cmd := p.enter(t, Command{Args: c.args})
			cmd.Stderr = &said
			if err := cmd.Run(); err == nil || err.Error() != c.want || !strings.Contains(said.String(), c.says) {
				t.Errorf("%s, %s: %v: %s", p.name, name, err, said.String())
			}
		}
		cmd := p.enter(t, Command{Args: []string{"probe", "wait"}})
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		lines.Scan()
		if want := fmt.Sprint("pid ", cmd.Process.Pid); lines.Text() != want && p.wrap == nil {
			t.Errorf("%s: the command has %q, want %q", p.name, lines.Text(), want)
		}
		if err := cmd.Process.Signal(syscall.SIGUSR1); err != nil {
			t.Error(err)
		}
		lines.Scan()
		if lines.Text() != "got user defined signal 1" {
			t.Errorf("%s: %q", p.name, lines.Text())
		}
		if err := cmd.Wait(); err == nil || err.Error() != "exit status 3" {
			t.Errorf("%s: %v", p.name, err)
		}
	}
}

// TestExecWhere: working folders and homes of all kinds.
func TestExecWhere(t *testing.T) {
	p := people(t)[0]
	link := p.dir + "/link"
	if err := errors2(os.Symlink("here", link), os.MkdirAll(p.dir+"/home/project", 0o755)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		work, home string
		want       string
		fails      string
	}{
		"through a link":         {link, "", "cwd: " + p.dir + "/here\n", ""},
		"the root":               {"/", "", "cwd: /\n", ""},
		"none":                   {"/no/such/folder", "", "cwd: /\n", ""},
		"within the home":        {p.dir + "/home/project", p.dir + "/home", "cwd: " + p.dir + "/home/project\n", ""},
		"the home itself":        {p.dir + "/home", p.dir + "/home", "cwd: " + p.dir + "/home\n", ""},
		"the home within it":     {p.dir, p.dir + "/home", "HOME=" + p.dir + "/home", ""},
		"the runtime itself":     {p.rt, "", "cwd: " + p.rt + "\n", ""},
		"a folder of the host's": {"/usr/lib", "", "", "would hide"},
		"a folder of both":       {"/usr/share", "", "", "would hide"},
		"configuration":          {"/etc", "", "", "would hide"},
		"no home":                {p.dir + "/here", "", "HOME=/tmp/home", ""},
		"a home of both":         {p.dir + "/here", "/usr/share", "in /usr: [bin share]", ""},
	} {
		var said bytes.Buffer
		cmd := p.enter(t, Command{Args: []string{"probe"}, Work: c.work, Home: c.home})
		cmd.Stderr = &said
		out, err := cmd.Output()
		switch {
		case c.fails != "":
			if err == nil || !strings.Contains(said.String(), c.fails) {
				t.Errorf("%s: %v: %s", name, err, said.String())
			}
		case err != nil || !strings.Contains(string(out), c.want):
			t.Errorf("%s: %v: %s%s", name, err, said.String(), out)
		}
	}
}

// TestExecPlatform: a program that needs the machine's C library runs with --platform
// alone, and then has that library and nothing else of the machine's.
func TestExecPlatform(t *testing.T) {
	p := people(t)[0]
	program, err := os.ReadFile("/usr/bin/cat") // names the loader of the C library
	if err != nil {
		lacking(t, "%v", err)
	}
	rt := p.dir + "/needs"
	if _, err := Install(context.Background(), specOf(layerOf(t, "cat", map[string]string{"usr/bin/cat": "#!" + string(program)})), rt, nil, false); err != nil {
		t.Fatal(err)
	}
	// layerOf has marked it as one that runs; it is to be what it was.
	if err := os.WriteFile(rt+"/usr/bin/cat", program, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, platform := range []bool{false, true} {
		var said bytes.Buffer
		cmd := p.enter(t, Command{Dir: rt, Args: []string{"cat", "/proc/self/maps"}, Platform: platform})
		cmd.Stderr = &said
		out, err := cmd.Output()
		if !platform {
			if err == nil || err.Error() != "exit status 126" || !strings.Contains(said.String(), "--platform") {
				t.Errorf("without: %v: %s", err, said.String())
			}
			continue
		}
		if err != nil || !strings.Contains(string(out), "libc.so.6") {
			t.Errorf("with: %v: %s%s", err, said.String(), out)
		}
		for line := range strings.Lines(string(out)) {
			if f := strings.Fields(line); len(f) == 6 && strings.HasPrefix(f[5], "/") && f[5] != "/usr/bin/cat" && !strings.HasPrefix(f[5], platformDir+"/") && !strings.Contains(f[5], "/ld-linux") {
				t.Errorf("it has %s", f[5])
			}
		}
	}
}

// TestExecTerminal: on a terminal the command has it as its own.
func TestExecTerminal(t *testing.T) {
	if _, err := exec.LookPath("script"); err != nil {
		lacking(t, "there is no script(1)")
	}
	p := people(t)[0]
	cmd := p.enter(t, Command{Args: []string{"probe"}})
	quoted := "'" + strings.ReplaceAll(cmd.Args[0], "'", "") + "'"
	tty := exec.Command("script", "--quiet", "--return", "--command", quoted, "/dev/null")
	tty.Env, tty.Dir = cmd.Env, cmd.Dir
	out, err := tty.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "in /dev: [console fd ") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestNoNamespaces: the error names the switch and the way out.
func TestNoNamespaces(t *testing.T) {
	none := filepath.Join(t.TempDir(), "unshare")
	if err := os.WriteFile(none, []byte("#!/bin/sh\necho 'unshare: unshare failed: Operation not permitted' >&2\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	err := probe(context.Background(), none)
	if !fault.Is(err, fault.Unsupported) || !strings.Contains(err.Error(), "Operation not permitted") || !strings.Contains(err.Error(), "export oci") {
		t.Errorf("%v", err)
	}
	for want, set := range map[string]map[string]string{
		"sysctl -w kernel.unprivileged_userns_clone=1":             {"kernel.unprivileged_userns_clone": "0", "user.max_user_namespaces": "100"},
		"sysctl -w kernel.apparmor_restrict_unprivileged_userns=0": {"kernel.apparmor_restrict_unprivileged_userns": "1"},
		"sysctl -w user.max_user_namespaces=15000":                 {"user.max_user_namespaces": "0"},
		"engine's profile": {"user.max_user_namespaces": "100"},
	} {
		if got := adviseNamespaces(func(name string) string { return set[name] }); !strings.Contains(got, want) {
			t.Errorf("%v: %s", set, got)
		}
	}
}

// TestExecOfNoRuntime: a folder that is none is told so.
func TestExecOfNoRuntime(t *testing.T) {
	if err := Exec(context.Background(), Command{Dir: t.TempDir(), Args: []string{"true"}}); !fault.Is(err, fault.NotFound) {
		t.Errorf("%v", err)
	}
}

// TestEnviron: what was asked for goes before what is declared.
func TestEnviron(t *testing.T) {
	t.Setenv("TERM", "vt100")
	t.Setenv("SECRET", "x")
	got := strings.Join(Environ([]string{"PATH=/p", "A=1", "B=1"}, []string{"B=2=3"}, "/h", "u"), " ")
	for _, want := range []string{"A=1", "B=2=3", "PATH=/p", "HOME=/h", "USER=u", "TERM=vt100", "LANG=C.UTF-8"} {
		if !strings.Contains(got, want) {
			t.Errorf("%s has no %s", got, want)
		}
	}
	if strings.Contains(got, "SECRET") {
		t.Error(got)
	}
}
