package sandbox

import (
	"bytes"
	"context"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"hallmark/internal/fault"
	"hallmark/internal/record"
)

// TestShellReadsAScript: a shell without a terminal has the root, user,
// environment and missing network of the run that it stands for.
func TestShellReadsAScript(t *testing.T) {
	r, layers := needSandbox(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out bytes.Buffer
	spec := Spec{Layers: layers, Args: []string{"never"}, Env: []string{"A=b"}, Dir: "/build", Trees: []Tree{{From: makeTree(t), To: "/build/src"}},
		Files: []File{{Path: "/usr/bin/never", Data: []byte("#!/bin/sh\necho the command\n"), Mode: 0o755}}}
	res, err := r.Shell(ctx, spec, Shell{Out: &out, In: strings.NewReader(`echo "$A"; pwd; id -u; cat src/sub/d; (echo x >/usr/x) 2>/dev/null || echo kept; never
python3 -c 'import socket; socket.create_connection(("192.0.2.9",80))' 2>/dev/null
ls /proc/self/fd | wc -l
exit 7
echo never
`)})
	if err != nil {
		t.Fatal(err)
	}
	if res.Exit != 7 || res.Limit || !strings.HasPrefix(out.String(), "b\n/build\n1000\nsub/d") || !strings.HasSuffix(out.String(), "kept\nthe command\n4\n") {
		t.Errorf("%+v\n%s", res, out.String())
	}
	if !slices.ContainsFunc(res.Network, func(a record.Attempt) bool { return a.Target == "192.0.2.9:80" }) {
		t.Errorf("network: %v", res.Network)
	}
	spec.Limits.Wall = time.Second
	res, err = r.Shell(ctx, spec, Shell{Out: io.Discard, In: strings.NewReader("sleep 1000\n")})
	if err != nil || !res.Limit {
		t.Errorf("a shell without end: %+v %v", res, err)
	}
}

// TestShellHasATerminal: what is typed goes to a terminal of the sandbox's own,
// which follows the size of the person's and takes keys like Ctrl-C.
func TestShellHasATerminal(t *testing.T) {
	r, layers := needSandbox(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	typed, keys, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	shown, screen, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	sizes := make(chan TerminalSize)
	ended := make(chan *ShellResult, 1)
	go func() {
		res, err := r.Shell(ctx, Spec{Layers: layers, Args: []string{"true"}},
			Shell{In: typed, Out: screen, Terminal: true, Size: TerminalSize{33, 101}, Resize: sizes, Type: "vt100"})
		if err != nil {
			t.Error(err)
		}
		screen.Close()
		ended <- res
	}()
	var seen strings.Builder
	until := func(want string) {
		t.Helper()
		buf := make([]byte, 4096)
		for !strings.Contains(seen.String(), want) {
			n, err := shown.Read(buf)
			seen.Write(buf[:n])
			if err != nil {
				t.Fatalf("no %q on the screen: %v\n%s", want, err, seen.String())
			}
		}
		seen.Reset()
	}
	press := func(s string) {
		if _, err := keys.WriteString(s); err != nil {
			t.Error(err)
		}
	}
	until("hallmark:")
	press("stty size; echo $TERM; [ -t 0 ] && echo is a terminal\n")
	until("33 101\r\nvt100\r\nis a terminal")
	sizes <- TerminalSize{40, 90}
	press("while [ \"$(stty size)\" != '40 90' ]; do sleep 0.1; done; echo resiz\"\"ed\n")
	until("resized")
	press("sleep 1000; echo went \"\"on\n")
	until("sleep 1000")
	time.Sleep(300 * time.Millisecond)
	press("\x03")
	until("hallmark:")
	press("echo st\"\"ill here; exit 5\n")
	until("still here")
	if res := <-ended; res == nil || res.Exit != 5 {
		t.Errorf("%+v", res)
	}
}

func TestShellUnderGVisorIsRefused(t *testing.T) {
	r, err := Open(Config{Runtime: "/bin/true"})
	if err != nil {
		t.Fatal(err)
	}
	r.identify.Do(func() { r.version = "runsc 1" })
	if _, err := r.Shell(t.Context(), Spec{}, Shell{}); !fault.Is(err, fault.Unsupported) || !strings.Contains(err.Error(), "--runtime runc") {
		t.Errorf("got %v", err)
	}
}
