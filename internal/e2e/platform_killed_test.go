package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hallmark/internal/app"
	"hallmark/internal/policy"
)

// serverKills is how often TestServerKilled kills: HALLMARK_E2E_SERVER_KILLS, or few
// enough for the ordinary run.
func serverKills(t *testing.T) int {
	t.Helper()
	s := os.Getenv("HALLMARK_E2E_SERVER_KILLS")
	if s == "" {
		return 5
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("HALLMARK_E2E_SERVER_KILLS: %v", err)
	}
	return n
}

// TestServerKilled kills the server, alone or with all that it started, at random
// moments while people read and commit and its builds run. Whatever the moment:
// what was answered as done is there, nothing is there that is not whole, fsck is
// clean, and the next server goes on with the builds until everything is proven.
//
// HALLMARK_E2E_SERVER_KILLS says how often, HALLMARK_E2E_SEED which moments.
func TestServerKilled(t *testing.T) {
	need(t)
	rng, want := dice(t), serverKills(t)
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) }()
	data, err := newData(filepath.Join(world.cache, "platform"))
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(data)
	const versions = 2000
	var all []sdist
	for i := range 40 {
		all = append(all, sdist{Name: "e2e-tick", Version: strconv.Itoa(i + 1), Embed: "value = " + strconv.Itoa(i+1)})
	}
	p := project{dir: t.TempDir(), data: data, env: index(t, all...)}

	// The first start, and a first build, so that the seed is there.
	h := p.host(t)
	ann := h.visitor(t)
	link := strings.TrimPrefix(h.setup, h.url)
	ann.must(ann.send(link, link, url.Values{"name": {"ann"}, "password": {password}}))
	ann.must(ann.send("/", "/orgs", url.Values{"name": {"acme"}}))
	ann.must(ann.send("/acme", "/acme/-/projects", url.Values{"name": {"web"}}))
	ann.must(ann.send("/acme/web/configuration", "/acme/web/-/commit", url.Values{"requirement": {"e2e-tick==1"}, "on_unproven": {"built"}, "build": {"1"}}))
	ann.built("acme/web")
	h.stop()
	keepSeed(t, data)
	state := whole(t, data, "begun")

	// answered are the messages of commits that the server said were made.
	var answered sync.Map
	var next, made atomic.Int64
	next.Store(1)
	for kill := 1; kill <= want; kill++ {
		when := fmt.Sprintf("kill %d", kill)
		cmd, at := p.startServer(t)
		var load sync.WaitGroup
		stop := make(chan struct{})
		visit := func(f func(v *visitor) error) {
			load.Add(1)
			go func() {
				defer load.Done()
				v := &visitor{t: t, url: at, c: &http.Client{Jar: ann.c.Jar, Timeout: 10 * time.Second}}
				for f(v) == nil {
					select {
					case <-stop:
						return
					default:
					}
				}
			}()
		}
		for _, path := range []string{"/acme/web", "/acme/web/history", "/api/v1/projects/acme/web/status", "/r/acme/web/pypi/simple/", "/admin", "/"} {
			visit(func(v *visitor) error { _, err := v.try(http.MethodGet, path, nil); return err })
		}
		visit(func(v *visitor) error { // one who commits and builds
			n := next.Add(1)
			message := fmt.Sprintf("change %d", n)
			page, err := v.try(http.MethodGet, "/acme/web/configuration", nil)
			if err != nil {
				return err
			}
			m := formToken.FindStringSubmatch(page)
			if m == nil {
				return fmt.Errorf("no form: %s", textOf(page))
			}
			form := url.Values{"form": {m[1]}, "requirement": {fmt.Sprintf("e2e-tick==%d", n%int64(len(all))+1)}, "message": {message}}
			if n%4 == 0 {
				form.Set("build", "1")
			}
			switch body, err := v.try(http.MethodPost, "/acme/web/-/commit", form); {
			case err != nil:
				return err
			case !strings.Contains(body, "That did not work"): // else it changes nothing
				answered.Store(message, true)
				made.Add(1)
			}
			time.Sleep(time.Duration(50+n%7*40) * time.Millisecond)
			if n > versions {
				return io.EOF
			}
			return nil
		})
		time.Sleep(time.Duration(rng.Int64N(int64(4 * time.Second))))
		pid := cmd.Process.Pid
		if rng.IntN(2) == 0 {
			pid = -pid
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatalf("%s: the server was gone: %v", when, err)
		}
		_ = cmd.Wait()
		close(stop)
		load.Wait()
		orphans(t, when)
		now := whole(t, data, when)
		nothingLost(t, state, now, when)
		state = now
		if t.Failed() {
			t.Fatalf("%s: stopped", when)
		}
	}

	// The last server ends what the others began, and builds what was committed last.
	h = p.host(t)
	ann.url = h.url
	ann.must(ann.send("/acme/web/configuration", "/acme/web/-/commit", url.Values{"requirement": {"e2e-tick==2"}, "message": {"the last"}, "build": {"1"}}))
	var history string
	for end := time.Now().Add(commandTime); ; time.Sleep(500 * time.Millisecond) {
		history = ann.must(ann.get("/acme/web/history"))
		if !strings.Contains(history, `<span class="state queued">`) && !strings.Contains(history, `<span class="state running">`) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("builds are left: %s", textOf(history))
		}
	}
	if strings.Contains(history, `<span class="state failed">`) {
		t.Errorf("a build failed: %s", textOf(history))
	}
	d := ann.status("acme/web")
	for _, r := range d.Artifacts {
		if r.Class != policy.Secure {
			t.Error(show(r))
		}
	}
	h.stop()
	there := map[string]bool{}
	for _, c := range p.messages(t, "acme/web") {
		if there[c] {
			t.Errorf("%q was made twice", c)
		}
		there[c] = true
	}
	answered.Range(func(m, _ any) bool {
		if !there[m.(string)] {
			t.Errorf("%q was answered as done and is not there", m)
		}
		return true
	})
	p.run(t, done, "fsck")
	t.Logf("killed %d times; %d commits were made", want, made.Load())
}

// startServer starts a server in a process group of its own and gives its address.
func (p project) startServer(t *testing.T) (*exec.Cmd, string) {
	t.Helper()
	cmd := p.command(context.Background(), "serve", "--listen", "127.0.0.1:0", "--json")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said struct{ URL string }
	if err := json.NewDecoder(bufio.NewReader(out)).Decode(&said); err != nil || said.URL == "" {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		t.Fatalf("the server does not say where it is: %v: %s", err, stderr.String())
	}
	return cmd, said.URL
}

// try asks for something of a server that may be killed in between; an answer that
// is none, or a refusal, is an error.
func (v *visitor) try(method, path string, form url.Values) (string, error) {
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	r, err := http.NewRequest(method, v.url+path, body)
	if err != nil {
		return "", err
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	res, err := v.c.Do(r)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode >= 400 && res.StatusCode != http.StatusConflict {
		err = fmt.Errorf("%s %s: %d %s", method, path, res.StatusCode, textOf(string(b)))
	}
	return string(b), err
}

// messages are those of a project's commits, newest first.
func (p project) messages(t *testing.T, name string) []string {
	t.Helper()
	a, err := app.Open(t.Context(), app.Config{Data: p.data}, false)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	org, proj, _ := strings.Cut(name, "/")
	head, err := a.Store.Head(t.Context(), org, proj)
	if err != nil {
		t.Fatal(err)
	}
	line, err := a.Store.History(t.Context(), head.ID, 100000)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, row := range line {
		c, err := a.Commit(t.Context(), row.ID)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, c.Message)
	}
	return out
}
