//go:build bench

package bench

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// What the load is: so many people, each with a session of its own, who look at a
// page, think, and look again.
const (
	people   = 200
	thinkMin = time.Second
	thinkMax = 2 * time.Second
	orgName  = "bench"
)

const password = "correct horse battery staple"

// hosted is a server with accounts, as anybody would start it, on loopback.
type hosted struct {
	url, setup, data string
	pid              int
}

// host starts a server on a free port; it ends with the test.
func host(t *testing.T, data string) *hosted {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command(binary(t), "--data", data, "serve", "--listen", "127.0.0.1:0", "--json")
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself, which Wait tells
		if err := cmd.Wait(); err != nil || strings.Contains(stderr.String(), "level=ERROR") {
			t.Errorf("the server ended with %v: %s", err, stderr.String())
		}
	})
	var said struct{ URL, Setup string }
	if err := json.NewDecoder(bufio.NewReader(out)).Decode(&said); err != nil || said.URL == "" {
		t.Fatalf("the server does not say where it is: %v: %s", err, stderr.String())
	}
	return &hosted{url: said.URL, setup: said.Setup, data: data, pid: cmd.Process.Pid}
}

// cpu is the processor time that the server has used so far.
func (h *hosted) cpu() (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", h.pid))
	if err != nil {
		return 0, err
	}
	// The name may hold blanks; what follows it does not (proc_pid_stat(5)).
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) < 13 {
		return 0, errors.New("/proc/PID/stat is too short")
	}
	user, err1 := strconv.ParseInt(f[11], 10, 64)
	system, err2 := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond, cmp.Or(err1, err2) // USER_HZ is 100
}

// memory is what the server holds at the moment, in MB.
func (h *hosted) memory() float64 {
	for _, line := range lines(fmt.Sprintf("/proc/%d/status", h.pid)) {
		var kb float64
		if n, _ := fmt.Sscanf(line, "VmRSS: %f kB", &kb); n == 1 {
			return kb / 1000
		}
	}
	return 0
}

// person is somebody's browser, with a session and a connection of its own.
type person struct {
	h      *hosted
	c      *http.Client
	cookie string
	buf    bytes.Buffer
	got    int64 // bytes of bodies, as they came
}

func (h *hosted) person() *person {
	return &person{h: h, c: &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 2, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// do asks and gives the code, the header and the body as it came; the body is good
// until the next question.
func (p *person) do(ctx context.Context, method, path string, form url.Values, headers ...string) (int, http.Header, []byte, error) {
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	r, err := http.NewRequestWithContext(ctx, method, p.h.url+path, body)
	if err != nil {
		return 0, nil, nil, err
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if p.cookie != "" {
		r.Header.Set("Cookie", p.cookie)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	res, err := p.c.Do(r)
	if err != nil {
		return 0, nil, nil, err
	}
	defer res.Body.Close()
	p.buf.Reset()
	n, err := p.buf.ReadFrom(res.Body)
	p.got += n
	for _, c := range res.Cookies() {
		p.cookie = c.Name + "=" + c.Value
	}
	return res.StatusCode, res.Header, p.buf.Bytes(), err
}

var formField = regexp.MustCompile(`name="form" value="([^"]+)"`)

// send posts a form with the token of the page it stands on.
func (p *person) send(ctx context.Context, page, path string, form url.Values) (string, error) {
	_, _, b, err := p.do(ctx, http.MethodGet, page, nil)
	if err != nil {
		return "", err
	}
	if m := formField.FindSubmatch(b); m != nil {
		form.Set("form", string(m[1]))
	}
	code, _, b, err := p.do(ctx, http.MethodPost, path, form)
	if err == nil && code >= 400 {
		err = fmt.Errorf("POST %s: %d", path, code)
	}
	return string(b), err
}

// team makes an organization, and its members by invitation, each with an account
// and a session.
func (h *hosted) team(ctx context.Context, n int) (owner *person, all []*person, err error) {
	owner = h.person()
	link := strings.TrimPrefix(h.setup, h.url)
	if _, err := owner.send(ctx, link, link, url.Values{"name": {"ann"}, "password": {password}}); err != nil {
		return nil, nil, err
	}
	if _, err := owner.send(ctx, "/", "/orgs", url.Values{"name": {orgName}}); err != nil {
		return nil, nil, err
	}
	if _, err := owner.send(ctx, "/admin", "/admin/tier", url.Values{"org": {orgName}, "tier": {"enterprise"}}); err != nil {
		return nil, nil, err
	}
	secret := regexp.MustCompile(`/link/[\w-]{43}`)
	links := make([]string, n)
	for i := range links {
		b, err := owner.send(ctx, "/"+orgName, "/"+orgName+"/-/invite", url.Values{"role": {"member"}})
		if links[i] = secret.FindString(b); err != nil || links[i] == "" {
			return nil, nil, fmt.Errorf("invitation %d: %w", i, err)
		}
	}
	all = make([]*person, n)
	err = inParallel(4, n, func(i int) error {
		all[i] = h.person()
		_, err := all[i].send(ctx, links[i], links[i], url.Values{"name": {fmt.Sprintf("member%03d", i)}, "password": {password}})
		if err == nil && all[i].cookie == "" {
			err = errors.New("no session")
		}
		return err
	})
	return owner, all, err
}

// inParallel runs fn for 0 to n-1, so many at a time; it gives the first error.
func inParallel(width, n int, fn func(i int) error) error {
	var wg sync.WaitGroup
	errs := make([]error, n)
	gate := make(chan struct{}, width)
	for i := range n {
		gate <- struct{}{}
		wg.Go(func() {
			errs[i] = fn(i)
			<-gate
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// measured is what a load of page views came to.
type measured struct {
	first    float64   // of one view before the others came, ms: what it makes is kept for them
	took     []float64 // of each view after it, ms, sorted
	views    int
	bytes    int64
	wall     time.Duration
	cpu      time.Duration // the server's
	checked  int           // bodies that were read and held the percentage
	unchange int           // answers that said: unchanged
}

func (m measured) at(q float64) float64 {
	if len(m.took) == 0 {
		return 0
	}
	return m.took[min(len(m.took)-1, int(q*float64(len(m.took))))]
}

// perView is the server's processor time for one view, in ms.
func (m measured) perView() float64 { return m.cpu.Seconds() * 1000 / float64(max(1, m.views)) }

func (m measured) String() string {
	return fmt.Sprintf("p50 %.1f ms, max %.0f ms, the one before all others %.0f ms; %d views at %.0f a second, %.1f ms of the server's processors and %.0f kB each",
		m.at(0.5), m.at(1), m.first, m.views, float64(m.views)/m.wall.Seconds(), m.perView(), float64(m.bytes)/float64(max(1, m.views))/1000)
}

// visit has everybody look at the page of a path for a time, thinking in between;
// without thinking it finds out what the server can do at most. Every tenth body is
// unpacked and must hold want.
func (h *hosted) visit(ctx context.Context, all []*person, path, want string, lasts time.Duration, think bool, headers ...string) (measured, error) {
	var m measured
	came := time.Now()
	if code, _, b, err := all[0].do(ctx, http.MethodGet, path, nil, append([]string{"Accept-Encoding", "gzip"}, headers...)...); err != nil {
		return m, err
	} else if code != http.StatusOK {
		return m, fmt.Errorf("GET %s: %d: %.200s", path, code, b)
	}
	m.first = time.Since(came).Seconds() * 1000
	before, err := h.cpu()
	if err != nil {
		return m, err
	}
	var checked, views atomic.Int64
	took := make([][]float64, len(all))
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	began := time.Now()
	end := began.Add(lasts)
	for i, p := range all {
		p.got = 0
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 1))
			pause := func(d time.Duration) bool {
				if !think {
					return time.Now().Before(end)
				}
				if time.Now().Add(d).After(end) {
					return false
				}
				time.Sleep(d)
				return true
			}
			if !pause(time.Duration(rng.Int64N(int64(thinkMax)))) {
				return
			}
			for n := 0; ; n++ {
				at := time.Now()
				code, header, b, err := p.do(ctx, http.MethodGet, path, nil, append([]string{"Accept-Encoding", "gzip"}, headers...)...)
				took[i] = append(took[i], time.Since(at).Seconds()*1000)
				if err == nil && code != http.StatusOK {
					err = fmt.Errorf("GET %s: %d: %.200s", path, code, b)
				}
				if err == nil && (n+i)%10 == 0 {
					checked.Add(1)
					err = holds(header, b, want)
				}
				if err != nil {
					errs[i] = err
					return
				}
				views.Add(1)
				if !pause(thinkMin + time.Duration(rng.Int64N(int64(thinkMax-thinkMin)))) {
					return
				}
			}
		})
	}
	wg.Wait()
	m.wall = time.Since(began)
	if err := errors.Join(errs...); err != nil {
		return m, err
	}
	after, err := h.cpu()
	if err != nil {
		return m, err
	}
	m.cpu, m.views, m.checked, m.took = after-before, int(views.Load()), int(checked.Load()), slices.Concat(took...)
	slices.Sort(m.took)
	for _, p := range all {
		m.bytes += p.got
	}
	if m.views == 0 || m.checked == 0 {
		return m, fmt.Errorf("GET %s: nothing was seen", path)
	}
	return m, nil
}

// holds tells whether a body, unpacked, has a text.
func holds(h http.Header, body []byte, want string) error {
	if h.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			return err
		}
		if body, err = io.ReadAll(z); err != nil {
			return err
		}
	}
	if !bytes.Contains(body, []byte(want)) {
		return fmt.Errorf("a body of %d bytes does not say %q", len(body), want)
	}
	return nil
}

// filled makes a project of n packages, of which every fiftieth failed, beside the
// running server, and gives the percentage that the command computes of it.
func (h *hosted) filled(t *testing.T, n int) (percent string, some string, err error) {
	dir := generated(t, n, h.data)
	_, doc, err := timed(t.Context(), dir, nil, binary(t), "--data", h.data, "--quiet", "--json", "status")
	if err != nil {
		return "", "", err
	}
	var s struct {
		Summary struct {
			Percent *int `json:"percent_secure"`
		} `json:"summary"`
		Artifacts []struct {
			Digest string `json:"digest"`
		} `json:"artifacts"`
	}
	if err := json.Unmarshal(doc, &s); err != nil || s.Summary.Percent == nil || len(s.Artifacts) != n {
		return "", "", fmt.Errorf("status of %d artifacts: %d, %v", n, len(s.Artifacts), err)
	}
	return strconv.Itoa(*s.Summary.Percent), strings.TrimPrefix(s.Artifacts[n/2].Digest, "sha256:"), nil
}

// loadSmall is compared with a project so many times as large.
const loadSmall = 500

var largeFlag = flag.Int("large", 10, "how many times as large the large project of row g is")

// usersAndPages is row g: what a team's pages cost while 200 people look at them.
func usersAndPages(t *testing.T) ([]Row, error) {
	ctx := t.Context()
	h := host(t, filepath.Join(t.TempDir(), "data"))
	owner, all, err := h.team(ctx, people)
	if err != nil {
		return nil, err
	}
	var out []Row
	add := func(id, what string, ours float64, unit string, bound float64, rounds int, note string) {
		out = append(out, Row{ID: "g-" + id, What: what, Ours: ours, Unit: unit, Figure: ours, Bound: bound, AtMost: true, Rounds: rounds, Note: note})
	}
	lasts := 12 * time.Second
	page := map[int]measured{}
	held := map[int]float64{}
	times := *largeFlag
	loadLarge := times * loadSmall
	for _, n := range []int{loadSmall, loadLarge} {
		percent, digest, err := h.filled(t, n)
		if err != nil {
			return nil, err
		}
		at := fmt.Sprintf("/%s/p%d", orgName, n)
		want := `id="percent">` + percent + " %<"
		m, err := h.visit(ctx, all, at, want, lasts, true)
		if err != nil {
			return nil, err
		}
		page[n], held[n] = m, h.memory()
		add(fmt.Sprintf("page-%04d", n), fmt.Sprintf("status page of %d artifacts, %d people: p99", n, people), m.at(0.99), "ms", 100, m.views, m.String())
		if n != loadSmall {
			continue
		}
		top, err := h.visit(ctx, all, at, want, 4*time.Second, false)
		if err != nil {
			return nil, err
		}
		rate := float64(top.views) / top.wall.Seconds()
		out = append(out, Row{ID: "g-top", What: "the same without a pause between views: views a second", Ours: rate, Unit: "/s", Figure: rate,
			Bound: people / thinkMin.Seconds(), Rounds: top.views, Note: fmt.Sprintf("p50 %.0f ms, %.1f ms of the server's processors each", top.at(0.5), top.perView())})
		for _, v := range []struct{ id, what, path, want string }{
			{"artifact", "an artifact's page", at + "/artifact/" + digest, digest},
			{"remedies", "the ways out", at + "/remedies", "Ways out"},
			{"history", "the history", at + "/history", "history"},
			{"api", "the status as JSON", "/api/v1/projects" + at + "/status", `"percent_secure":` + percent},
			{"index", "the registry's simple index", "/r" + at + "/pypi/simple/", "package-00001"},
		} {
			m, err := h.visit(ctx, all, v.path, v.want, 4*time.Second, true)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", v.what, err)
			}
			add("page-"+v.id, fmt.Sprintf("%s of a project of %d artifacts, %d people: p99", v.what, n, people), m.at(0.99), "ms", 100, m.views, m.String())
		}
	}
	add("grows-cpu", fmt.Sprintf("the server's processor time for a view of %d artifacts, against %d", loadLarge, loadSmall), page[loadLarge].perView(), "ms", float64(times), 1, fmt.Sprintf("linear growth would be %d", times))
	out[len(out)-1].Theirs, out[len(out)-1].Figure = page[loadSmall].perView(), page[loadLarge].perView()/page[loadSmall].perView()
	add("grows-memory", fmt.Sprintf("memory of the server's process after people looked at %d artifacts, against %d", loadLarge, loadSmall), held[loadLarge], "MB", float64(times), 1, fmt.Sprintf("linear growth would be %d", times))
	out[len(out)-1].Theirs, out[len(out)-1].Figure = held[loadSmall], held[loadLarge]/held[loadSmall]
	live, err := h.watched(ctx, owner, all, fmt.Sprintf("/%s/p%d", orgName, loadSmall))
	return append(out, live...), err
}
