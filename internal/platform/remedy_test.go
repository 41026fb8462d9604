package platform_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/platform"
	"hallmark/internal/policy"
	"hallmark/internal/project"
	"hallmark/internal/purl"
	"hallmark/internal/remedy"
	"hallmark/internal/sbom"
	"hallmark/internal/status"
	"hallmark/internal/store"
)

// outlook is one whose answers are given.
type outlook struct {
	prospect
	mu       sync.Mutex
	standing remedy.Standing
	after    remedy.Standing
	faults   []remedy.Fault
	err      error
	hang     bool
	asked    int
	hangs    chan struct{} // closed when a hanging one has begun
	stopped  chan struct{} // closed when a hanging one was cancelled
	refuse   string        // a requirement that goes with nothing
}

func (o *outlook) Standing(context.Context, digest.Digest, bool) (remedy.Standing, error) {
	return o.standing, o.err
}

func (o *outlook) Effect(ctx context.Context, _ digest.Digest, next project.Commit, say func(string)) (remedy.Effect, error) {
	o.mu.Lock()
	if o.refuse != "" && slices.Contains(next.Requirements, o.refuse) {
		o.mu.Unlock()
		return remedy.Effect{}, fault.New(fault.Conflict, "nothing goes with %s", o.refuse)
	}
	o.asked++
	hang := o.hang
	o.mu.Unlock()
	say("solve")
	if hang {
		close(o.hangs)
		<-ctx.Done()
		close(o.stopped)
		return remedy.Effect{}, ctx.Err()
	}
	return remedy.Compare(&o.standing, o.after), o.err
}

func (o *outlook) Faults(context.Context, digest.Digest) ([]remedy.Fault, error) {
	return o.faults, o.err
}

func (o *outlook) SBOM(context.Context, digest.Digest, sbom.Format) ([]byte, error) {
	return []byte("{}"), o.err
}

// standing has a row for each package: secure, waiting to be built, or failed.
func standing(rows ...string) remedy.Standing {
	var d status.Document
	for _, r := range rows {
		how, u, _ := strings.Cut(r, " ")
		row := status.Row{PURL: purl.PURL(u), Class: policy.Community}
		switch how {
		case "secure":
			row.Class = policy.Secure
			d.Summary.Secure++
		case "waits":
			row.Reasons = []policy.Reason{{Code: policy.NotBuilt, Artifact: row.PURL}}
		case "failed":
			row.Reasons = []policy.Reason{{Code: policy.BuildFailed, Artifact: row.PURL}}
		}
		if row.Class != policy.Secure {
			g := policy.Unknown
			row.Grade = &g
			d.Summary.Community++
		}
		d.Artifacts = append(d.Artifacts, row)
		d.Summary.Artifacts++
	}
	d.Summary.PercentSecure = policy.Percent(d.Summary.Secure, d.Summary.Artifacts)
	return remedy.Standing{Document: d, Prospects: remedy.Prospects(d, nil, nil, false)}
}

func (w *town) with(o *outlook) *outlook {
	w.SetOutlook(o, []byte("secret"))
	return o
}

func (w *town) require(org string) {
	w.t.Helper()
	w.must(w.SetSettings(w.t.Context(), w.users["owner"], store.Settings{Org: org, Name: "web", RequireSecure: true}))
}

const six = "pkg:pypi/six@1.17.0"

func TestRequireSecure(t *testing.T) {
	ctx := t.Context()
	commit := func(w *town) error {
		_, err := w.Commit(ctx, w.users["member"], "team", "web", "", platform.Change{Add: []string{"six"}}, "", false)
		return err
	}
	build := func(w *town) error {
		_, err := w.Build(ctx, w.users["member"], "team", "web", "", false)
		return err
	}
	retry := func(w *town) error {
		_, err := w.Build(ctx, w.users["member"], "team", "web", "", true)
		return err
	}
	take := func(w *town) error { return w.Take(ctx, w.users["member"], "team", "web", six, true) }
	for _, c := range []struct {
		what, rows    string
		do            func(*town) error
		waive, refuse bool
	}{
		{"commit of what is secure", "secure " + six, commit, false, false},
		{"commit of what is still to be built", "waits " + six, commit, false, false},
		{"commit of what failed", "failed " + six, commit, false, true},
		{"commit of what failed and is waived", "failed " + six, commit, true, false},
		{"build of what is secure", "secure " + six, build, false, false},
		{"build of what is still to be built", "waits " + six, build, false, false},
		{"build of what failed", "failed " + six, build, false, true},
		{"build of what failed and is waived", "failed " + six, build, true, false},
		{"download of what is secure", "secure " + six, take, false, false},
		{"download of what is still to be built", "waits " + six, take, false, true},
		{"download of what failed", "failed " + six, take, false, true},
		{"download of what failed and is waived", "failed " + six, take, true, false},
	} {
		w := newTown(t)
		o := w.with(&outlook{standing: standing(c.rows), after: standing(c.rows)})
		w.must(c.do(w)) // nothing is required yet
		w = newTown(t)
		w.with(o)
		w.require("team")
		if c.waive {
			w.must(w.Waive(ctx, w.users["owner"], "team", "web", six, "", "until the port", w.now.Add(time.Hour)))
		}
		err := c.do(w)
		if refused := fault.Is(err, fault.Denied); refused != c.refuse || !refused && err != nil {
			t.Errorf("%s: %v", c.what, err)
		} else if refused && (!strings.Contains(err.Error(), six) || !strings.Contains(err.Error(), "/team/web/remedies")) {
			t.Errorf("%s: it says neither what nor the way out: %v", c.what, err)
		}
		if c.waive {
			w.now = w.now.Add(2 * time.Hour)
			if err := c.do(w); !fault.Is(err, fault.Denied) && !fault.Is(err, fault.Conflict) {
				t.Errorf("%s, after the waiver's end: %v", c.what, err)
			}
		}
	}
	w := newTown(t)
	w.require("team")
	for name, do := range map[string]func(*town) error{"commit": commit, "build": build, "download": take} {
		if err := do(w); !fault.Is(err, fault.Denied) {
			t.Errorf("%s without knowing: %v", name, err)
		}
	}
	// Trying again is a way out, so it is open.
	o := w.with(&outlook{standing: standing("failed " + six)})
	o.standing.Prospects[six] = remedy.Can
	w.must(retry(w))
	// Another project of the organization goes its own way.
	w.must(w.Take(ctx, w.users["member"], "team", "site", six, true))
}

// A revert is held to what is required, too.
func TestRevertRequireSecure(t *testing.T) {
	w, ctx := newTown(t), t.Context()
	w.with(&outlook{standing: standing("secure " + six), after: standing("failed " + six)})
	first, err := w.Commit(ctx, w.users["member"], "team", "web", "", platform.Change{Add: []string{"six"}}, "", false)
	w.must(err)
	_, err = w.Commit(ctx, w.users["member"], "team", "web", "", platform.Change{Remove: []string{"six"}}, "", false)
	w.must(err)
	w.require("team")
	if _, err := w.Revert(ctx, w.users["member"], "team", "web", "", first, false); !fault.Is(err, fault.Denied) {
		t.Errorf("%v", err)
	}
}

func TestPreview(t *testing.T) {
	w, ctx := newTown(t), t.Context()
	o := w.with(&outlook{standing: standing("failed " + six), after: standing("secure "+six, "waits pkg:pypi/flask@3")})
	member, ch := w.users["member"], platform.Change{Add: []string{"six"}}
	before, err := w.History(ctx, member, "team", "web", "", 10)
	w.must(err)
	e, err := w.Preview(ctx, member, "team", "web", "", ch)
	if err != nil || *e.After.PercentSecure != 50 || *e.After.PercentAtBest != 100 || *e.Before.PercentSecure != 0 {
		t.Fatalf("%+v, %v", e, err)
	}
	if after, _ := w.History(ctx, member, "team", "web", "", 10); len(after) != len(before) {
		t.Error("looking at an effect made a commit")
	}
	if _, err := w.Preview(ctx, w.users["owner"], "team", "web", "", ch); err != nil || o.asked != 1 {
		t.Errorf("the same again was found out %d times (%v)", o.asked, err)
	}
	key, err := w.StartPreview(ctx, member, "team", "web", "", ch)
	w.must(err)
	p, err := w.LookPreview(ctx, member, "team", "web", key, time.Second)
	if err != nil || !p.Done || p.Next.Requirements[0] != "six" || p.Base != before[0].ID {
		t.Errorf("%+v, %v", p, err)
	}
	// Nobody else's, and of no other project.
	for name, do := range map[string]func() error{
		"another project": func() error {
			_, err := w.LookPreview(ctx, member, "team", "site", key, 0)
			return err
		},
		"a stranger": func() error {
			_, err := w.LookPreview(ctx, w.users["stranger"], "team", "web", key, 0)
			return err
		},
		"a stranger who asks": func() error {
			_, err := w.Preview(ctx, w.users["stranger"], "team", "web", "", ch)
			return err
		},
	} {
		if err := do(); !fault.Is(err, fault.NotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := w.Preview(ctx, w.users["auditor"], "team", "web", "", ch); !fault.Is(err, fault.Denied) {
		t.Errorf("an auditor: %v", err)
	}
}

// A preview ends with whoever asked for it, and one that failed is tried again.
func TestPreviewCancelled(t *testing.T) {
	w := newTown(t)
	o := w.with(&outlook{standing: standing("secure " + six), hang: true, hangs: make(chan struct{}), stopped: make(chan struct{})})
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error)
	go func() {
		_, err := w.Preview(ctx, w.users["member"], "team", "web", "", platform.Change{Add: []string{"six"}})
		failed <- err
	}()
	<-o.hangs
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	select {
	case <-o.stopped:
	case <-time.After(time.Minute):
		t.Fatal("it goes on for nobody")
	}
	o.mu.Lock()
	o.hang, o.after = false, standing("secure "+six)
	o.mu.Unlock()
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		_, err := w.Preview(t.Context(), w.users["member"], "team", "web", "", platform.Change{Add: []string{"six"}})
		if err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

func TestGateAndBadge(t *testing.T) {
	w, ctx := newTown(t), t.Context()
	hundred := 100
	if _, err := w.Badge(ctx, w.users["owner"], "team", "web", ""); !fault.Is(err, fault.NotFound) {
		t.Errorf("without an outlook: %v", err)
	}
	w.with(&outlook{standing: standing("secure pkg:pypi/a@1", "failed "+six)})
	a, err := w.Gate(ctx, w.users["auditor"], "team", "web", "", platform.GateDemand{MinSecure: &hundred, NoNewUnknown: true})
	if err != nil || a.OK || len(a.Refusals) != 2 {
		t.Errorf("%+v %v", a, err)
	}
	w.must(w.Waive(ctx, w.users["owner"], "team", "web", six, "", "until the port", w.now.Add(time.Hour)))
	a, err = w.Gate(ctx, w.users["auditor"], "team", "web", "", platform.GateDemand{MinSecure: &hundred, NoNewUnknown: true})
	if err != nil || !a.OK || *a.Percent != 50 || len(a.Notes()) != 1 {
		t.Errorf("waived: %+v %v", a, err)
	}
	r, err := w.Report(ctx, w.users["auditor"], "team", "web", "")
	if err != nil || len(r.Waivers) != 1 || *r.Summary.PercentSecure != 50 {
		t.Errorf("report: %+v %v", r, err)
	}

	token, err := w.BadgeToken(ctx, w.users["owner"], "team", "web")
	w.must(err)
	if _, err := w.BadgeToken(ctx, w.users["member"], "team", "web"); !fault.Is(err, fault.Denied) {
		t.Errorf("a member hands the badge out: %v", err)
	}
	nobody := w.users["nobody"]
	missing := func(org, name, token string) string {
		p, err := w.Badge(ctx, nobody, org, name, token)
		if p != nil || !fault.Is(err, fault.NotFound) {
			t.Errorf("%s/%s: %v %v", org, name, p, err)
			return ""
		}
		return strings.ReplaceAll(err.Error(), org+"/"+name, "it")
	}
	want := missing("team", "none", "")
	for _, c := range [][3]string{{"team", "web", ""}, {"team", "web", "x" + token}, {"free", "web", token}, {"team", "none", token}, {"none", "web", token}} {
		if got := missing(c[0], c[1], c[2]); got != want {
			t.Errorf("%v: %q, for what is not there %q", c, got, want)
		}
	}
	for who, c := range map[string][3]string{"nobody": {"team", "web", token}, "stranger": {"team", "site", ""}, "auditor": {"team", "web", ""}} {
		if p, err := w.Badge(ctx, w.users[who], c[0], c[1], c[2]); err != nil || p == nil || *p != 50 {
			t.Errorf("%s: %v %v", who, p, err)
		}
	}
	// The token opens nothing else.
	if err := w.Read(ctx, nobody, "team", "web"); !fault.Is(err, fault.NotFound) {
		t.Errorf("%v", err)
	}
}

func TestFixAll(t *testing.T) {
	w, ctx := newTown(t), t.Context()
	o := w.with(&outlook{standing: standing("failed " + six)})
	if _, err := w.FixAll(ctx, w.users["member"], "team", "web", ""); !fault.Is(err, fault.Conflict) {
		t.Errorf("without a way out: %v", err)
	}
	o.faults = []remedy.Fault{{PURL: six, Ways: []remedy.Way{{Kind: remedy.WayVersion, Add: []string{"six==1.18"}}, {Kind: remedy.WayVersion, Proven: true, Add: []string{"six==1.16"}}}}}
	ch, err := w.FixAll(ctx, w.users["member"], "team", "web", "")
	if err != nil || len(ch.Add) != 1 || ch.Add[0] != "six==1.16" {
		t.Errorf("%+v %v", ch, err)
	}
	// What does not go with the rest is left out; if nothing is left, it says so.
	o.after = standing("secure " + six)
	o.faults = append(o.faults, remedy.Fault{PURL: "pkg:pypi/flask@3", Ways: []remedy.Way{{Kind: remedy.WayVersion, Proven: true, Add: []string{"flask==2"}}}})
	if ch, err := w.FixAll(ctx, w.users["member"], "team", "web", ""); err != nil || len(ch.Add) != 2 {
		t.Errorf("both: %+v %v", ch, err)
	}
	o.refuse = "flask==2"
	w.now = w.now.Add(time.Hour)
	if ch, err := w.FixAll(ctx, w.users["owner"], "enterprise", "web", ""); err != nil || len(ch.Add) != 1 || ch.Add[0] != "six==1.16" {
		t.Errorf("one that does not fit: %+v %v", ch, err)
	}
	o.after = standing("failed "+six, "failed pkg:pypi/a@1")
	o.standing = standing("secure " + six)
	if _, err := w.FixAll(ctx, w.users["owner"], "free", "web", ""); !fault.Is(err, fault.Conflict) {
		t.Errorf("what only makes it worse: %v", err)
	}
	if _, err := w.FixAll(ctx, w.users["auditor"], "team", "web", ""); !fault.Is(err, fault.Denied) {
		t.Errorf("an auditor: %v", err)
	}
	if _, _, err := w.Faults(ctx, w.users["stranger"], "team", "web", ""); !fault.Is(err, fault.NotFound) {
		t.Errorf("a stranger: %v", err)
	}
}

// Every function of this file for everybody, as TestWhoMayDoWhat has it for the
// others: who may is written out; whoever may not read the project gets what he
// would get for one that is not there.
func TestWhoMayRemedy(t *testing.T) {
	ctx := t.Context()
	const readers, changers = "owner maintainer member auditor", "owner maintainer member"
	for _, c := range []struct {
		what, who string
		do        func(w *town, p platform.Who, org, name string) error
	}{
		{"faults", readers, func(w *town, p platform.Who, org, name string) error {
			_, _, err := w.Faults(ctx, p, org, name, "")
			return err
		}},
		{"gate", readers, func(w *town, p platform.Who, org, name string) error {
			_, err := w.Gate(ctx, p, org, name, "", platform.GateDemand{})
			return err
		}},
		{"report", readers, func(w *town, p platform.Who, org, name string) error {
			_, err := w.Report(ctx, p, org, name, "")
			return err
		}},
		{"csv and sarif", readers, func(w *town, p platform.Who, org, name string) error {
			_, _, err := w.Exported(ctx, p, org, name, "")
			return err
		}},
		{"bill of materials", readers, func(w *town, p platform.Who, org, name string) error {
			_, err := w.SBOM(ctx, p, org, name, "", sbom.SPDX)
			return err
		}},
		{"badge", readers, func(w *town, p platform.Who, org, name string) error {
			_, err := w.Badge(ctx, p, org, name, "")
			return err
		}},
		{"badge's token", "owner maintainer", func(w *town, p platform.Who, org, name string) error {
			_, err := w.BadgeToken(ctx, p, org, name)
			return err
		}},
		{"preview", changers, func(w *town, p platform.Who, org, name string) error {
			_, err := w.Preview(ctx, p, org, name, "", platform.Change{Add: []string{"six"}})
			return err
		}},
		{"start of a preview", changers, func(w *town, p platform.Who, org, name string) error {
			_, err := w.StartPreview(ctx, p, org, name, "", platform.Change{Add: []string{"six"}})
			return err
		}},
		{"fix all", changers, func(w *town, p platform.Who, org, name string) error {
			_, err := w.FixAll(ctx, p, org, name, "")
			return err
		}},
	} {
		w := newTown(t)
		w.with(&outlook{standing: standing("failed " + six), after: standing("secure " + six),
			faults: []remedy.Fault{{PURL: six, Ways: []remedy.Way{{Kind: remedy.WayVersion, Proven: true, Add: []string{"six==1.16"}}}}}})
		for name, who := range w.users {
			may := strings.Contains(" "+c.who+" ", " "+name+" ")
			err := c.do(w, who, "team", "web")
			missing := c.do(w, who, "team", "none")
			if may != (err == nil) {
				t.Errorf("%s for %s: %v", c.what, name, err)
			}
			if !fault.Is(missing, fault.NotFound) {
				t.Errorf("%s for %s of what is not there: %v", c.what, name, missing)
			}
			if strings.Contains(" "+readers+" ", " "+name+" ") {
				if err != nil && !fault.Is(err, fault.Denied) {
					t.Errorf("%s for %s, a reader: %v", c.what, name, err)
				}
			} else if err == nil || missing == nil || err.Error() != strings.ReplaceAll(missing.Error(), "team/none", "team/web") {
				t.Errorf("%s for %s: %v; of what is not there: %v", c.what, name, err, missing)
			}
		}
	}
}
