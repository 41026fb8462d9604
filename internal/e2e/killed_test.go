package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hallmark/internal/app"
	"hallmark/internal/digest"
	"hallmark/internal/policy"
)

// kills is how often TestKilled kills: HALLMARK_E2E_KILLS, or few enough for the
// ordinary run.
func kills(t *testing.T) int {
	t.Helper()
	s := os.Getenv("HALLMARK_E2E_KILLS")
	if s == "" {
		return 40
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("HALLMARK_E2E_KILLS: %v", err)
	}
	return n
}

// dice gives the random numbers of a test and says how to have them again.
func dice(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("HALLMARK_E2E_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("HALLMARK_E2E_SEED: %v", err)
		}
		seed = n
	}
	t.Logf("HALLMARK_E2E_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// kept is what a data directory held at some moment, by name.
type kept map[string]string

// whole demands that a data directory is whole, apart from its caches, and gives
// what it holds. It looks from inside, which is quick enough for hundreds of times.
func whole(t *testing.T, data, when string) kept {
	t.Helper()
	ctx := t.Context()
	a, damage, err := app.OpenFsck(ctx, app.Config{Data: data}, false)
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	defer a.Close()
	more, err := a.Check(ctx, false)
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	for _, d := range append(damage, more...) {
		t.Errorf("%s: %s: %s", when, d.Where, d.Message)
	}
	if a.Store == nil {
		t.Fatalf("%s: the database cannot be opened", when)
	}
	have := kept{}
	rows, err := a.Store.AllEvidence(ctx)
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	for _, r := range rows {
		have[fmt.Sprint("evidence ", r.RowID)] = fmt.Sprint(r.Subject, r.Name, r.Blob, *index0(r.LogIndex))
	}
	projects, err := a.Store.Projects(ctx)
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	for _, p := range projects {
		if p.Head == "" {
			continue
		}
		line, err := a.Store.History(ctx, p.Head, 100000)
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		for _, c := range line {
			have["commit "+c.ID.String()] = c.Document.String()
			if s, err := a.Store.Solution(ctx, c.ID); err == nil {
				have["solution "+c.ID.String()] = s.Plan.String()
			}
		}
	}
	err = a.Store.References(ctx, func(table, row, column string, d digest.Digest) error {
		if table != "pending" && table != "projects" {
			have[table+" "+row+" "+column+" "+d.String()] = "there"
		}
		return nil
	})
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	return have
}

// index0 gives an index, or -1 for none.
func index0(p *int64) *int64 {
	if p == nil {
		none := int64(-1)
		return &none
	}
	return p
}

// nothingLost demands that all that was there is there still, and the same.
func nothingLost(t *testing.T, before, after kept, when string) {
	t.Helper()
	for k, v := range before {
		if after[k] != v {
			t.Errorf("%s: lost %s: it was %s, it is %q", when, k, v, after[k])
		}
	}
}

// orphans waits until no process is left of one that was killed. Those that lose
// their parent come to this process, their subreaper. What asks pip for its
// settings ends by itself, on a busy machine after some time.
func orphans(t *testing.T, when string) {
	t.Helper()
	var left []string
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		left = nil
		lists, _ := filepath.Glob("/proc/self/task/*/children")
		for _, l := range lists {
			b, _ := os.ReadFile(l)
			for _, f := range strings.Fields(string(b)) {
				pid, err := strconv.Atoi(f)
				if err != nil {
					continue
				}
				if got, err := syscall.Wait4(pid, nil, syscall.WNOHANG, nil); err == nil && got == 0 {
					cmd, _ := os.ReadFile("/proc/" + f + "/cmdline")
					left = append(left, f+" "+string(bytes.ReplaceAll(cmd, []byte{0}, []byte{' '})))
				}
			}
		}
		if len(left) == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: processes are left: %v", when, left)
		}
	}
}

// killed runs a command and kills it after a while; it tells whether that was in
// time, and how long the command ran.
func (p project) killed(t *testing.T, after time.Duration, group bool, args ...string) (bool, time.Duration) {
	t.Helper()
	cmd := p.command(context.Background(), args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	timer := time.AfterFunc(after, func() {
		if group {
			pid = -pid
		}
		_ = syscall.Kill(pid, syscall.SIGKILL)
	})
	err := cmd.Wait()
	timer.Stop()
	took := time.Since(began)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return false, took
	case errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signaled():
		return true, took
	case errors.Is(err, exec.ErrWaitDelay):
		return true, took // its output was held open by what it had started
	}
	t.Fatalf("hallmark %s: %v\n%s", strings.Join(args, " "), err, out.String())
	return false, took
}

// TestKilled kills the program, alone or with all that it started, at random
// moments of changing a project, solving, building, signing and logging it, and of
// going on after that. Whatever the moment: nothing that was there is lost, nothing
// half done is shown, no process is left, log and database agree, and the next run
// goes on and ends with everything proven.
//
// HALLMARK_E2E_KILLS says how often, HALLMARK_E2E_SEED which moments.
func TestKilled(t *testing.T) {
	need(t)
	rng, want := dice(t), kills(t)
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) }()

	var all []sdist
	for i := range want + 2 {
		v := strconv.Itoa(i + 1)
		all = append(all, sdist{Name: "e2e-tick", Version: v, Embed: "value = " + v},
			sdist{Name: "e2e-tock", Version: v, Requires: []string{"e2e-tick==" + v}, Embed: "value = " + v})
	}
	data, err := newData(filepath.Join(world.cache, "run"))
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(data)
	p := newProjectIn(t, data, "acme/killed", index(t, all...), "e2e-tick==1")
	p.onUnproven(t, "built")

	p.run(t, done, "builds") // the seed is fetched and unpacked
	keepSeed(t, data)
	t.Log("begun")
	full := 2 * time.Second // how long builds takes, measured as we go
	state := kept{}
	done0, during := 0, map[string]int{}
	for round := 2; done0 < want; round++ {
		v := strconv.Itoa(round)
		install := []string{"install", "e2e-tick==" + v, "e2e-tock==" + v}
		builds := []string{"builds", "--json"}
		if rng.IntN(4) == 0 { // most of the time there is more to gain in builds
			if was, _ := p.killed(t, time.Duration(rng.Int64N(int64(300*time.Millisecond))), rng.IntN(2) == 0, install...); was {
				done0++
				during["install"]++
				when := fmt.Sprintf("round %d, install killed", round)
				orphans(t, when)
				now := whole(t, data, when)
				nothingLost(t, state, now, when)
				state = now
			}
		}
		p.run(t, done, install...)
		for again := 0; again < 4 && done0 < want; again++ {
			after := time.Duration(rng.Int64N(int64(full)))
			was, took := p.killed(t, after, rng.IntN(2) == 0, builds...)
			if !was {
				full = (full*3 + took) / 4
				break
			}
			done0++
			t.Logf("round %d: killed after %s", round, took.Round(time.Millisecond))
			during[fmt.Sprintf("builds, run %d", again+1)]++
			when := fmt.Sprintf("round %d, builds killed after %s, run %d", round, after.Round(time.Millisecond), again+1)
			orphans(t, when)
			now := whole(t, data, when)
			nothingLost(t, state, now, when)
			state = now
			// What is shown is whole: either nothing yet, or a document that fits.
			ctx, cancel := context.WithTimeout(t.Context(), commandTime)
			out, err := p.command(ctx, "status", "--json").Output()
			cancel()
			if err == nil {
				valid(t, "status.v1", string(out))
			} else if !strings.Contains(stderrOf(err), "not been solved") {
				t.Errorf("%s: status: %v %s", when, err, stderrOf(err))
			}
			if rng.IntN(3) == 0 {
				break
			}
		}
		began := time.Now()
		d := p.status(t, done, builds[:1]...)
		full = max((full*3+time.Since(began))/4, 500*time.Millisecond)
		when := fmt.Sprintf("round %d, done", round)
		for _, r := range d.Artifacts {
			if r.Class != policy.Secure || r.PURL.Version() != v {
				t.Errorf("%s: %s", when, show(r))
			}
		}
		if len(d.Artifacts) != 2 {
			t.Errorf("%s: %d artifacts", when, len(d.Artifacts))
		}
		now := whole(t, data, when)
		nothingLost(t, state, now, when)
		state = now
		if t.Failed() {
			t.Fatalf("%s: stopped", when)
		}
	}
	p.run(t, done, "verify")
	p.run(t, done, "fsck")
	left, err := filepath.Glob(filepath.Join(data, "tmp", "*", "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left in tmp: %v, %v", left, err)
	}
	t.Logf("killed %d times: %v; a whole run takes %s", done0, during, full.Round(time.Millisecond))
}

func stderrOf(err error) string {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return string(exit.Stderr)
	}
	return ""
}
