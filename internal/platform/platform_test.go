package platform_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hallmark/internal/access"
	"hallmark/internal/account"
	"hallmark/internal/canonical"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/lockfile"
	"hallmark/internal/plan"
	"hallmark/internal/platform"
	"hallmark/internal/project"
	"hallmark/internal/store"
	"hallmark/internal/store/storetest"
)

// docs keeps commits' documents in memory.
type docs struct {
	blobs *storetest.Blobs
	all   map[digest.Digest]project.Commit
	kept  map[digest.Digest]string
}

func (d *docs) Commit(_ context.Context, id digest.Digest) (project.Commit, error) {
	c, ok := d.all[id]
	if !ok {
		return c, fault.New(fault.NotFound, "no such commit")
	}
	b, _ := json.Marshal(c) // nobody may share its lists
	var out project.Commit
	return out, json.Unmarshal(b, &out)
}

func (d *docs) KeepCommit(_ context.Context, c project.Commit) (digest.Digest, error) {
	if len(c.OverridesText) > 0 {
		d.kept[d.blobs.Add(string(c.OverridesText))] = string(c.OverridesText)
	}
	_, b, err := canonical.Digest(c)
	id := d.blobs.Add(string(b))
	d.all[id] = c
	return id, err
}

func (d *docs) Requirement(text string) (string, string, error) {
	name, _, _ := strings.Cut(text, "=")
	if name == "" || strings.ContainsAny(text, " ;!") {
		return "", "", fault.New(fault.Usage, "%q is no requirement", text)
	}
	return text, name, nil
}

func (d *docs) ReadLockfile(name string, content []byte) (lockfile.File, error) {
	return lockfile.Read(name, content, nil)
}

func (d *docs) ReadOverrides(list []plan.PackageOverrides) (digest.Digest, []byte, error) {
	if len(list) == 0 {
		return "", nil, nil
	}
	for _, o := range list {
		if o.Name == "bad" {
			return "", nil, fault.New(fault.Usage, "override of bad")
		}
	}
	return canonical.Digest(list)
}

func (d *docs) OverridesOf(c project.Commit) ([]plan.PackageOverrides, error) {
	var out []plan.PackageOverrides
	text := c.OverridesText
	if len(text) == 0 && c.Overrides != "" {
		text = []byte(d.kept[c.Overrides])
	}
	if len(text) == 0 {
		return nil, nil
	}
	return out, json.Unmarshal(text, &out)
}

func (d *docs) KeepDocument(_ context.Context, id digest.Digest, b []byte) error {
	if got := d.blobs.Add(string(b)); got != id {
		return fault.New(fault.Corrupt, "%s is %s", id, got)
	}
	d.kept[id] = string(b)
	return nil
}

func (d *docs) Document(id digest.Digest, v any) error { return json.Unmarshal([]byte(d.kept[id]), v) }

func (d *docs) Policy(uri string) error {
	if uri != project.DefaultPolicy {
		return fault.New(fault.Usage, "no such policy")
	}
	return nil
}

type queue struct{ added, cancelled []string }

func (q *queue) Add(id string) store.Also {
	return func(context.Context, *sql.Tx) error { q.added = append(q.added, id); return nil }
}
func (q *queue) Cancel(_ context.Context, id, _ string) error {
	q.cancelled = append(q.cancelled, id)
	return nil
}

// town has an organization of each tier with one user of each role, a stranger and
// an administrator; each organization has the private project web and the public
// one site.
type town struct {
	*platform.Service
	t     *testing.T
	rows  *store.Store
	docs  *docs
	queue *queue
	now   time.Time
	users map[string]platform.Who
}

var tiers = []string{"free", "team", "enterprise"}

func newTown(t *testing.T) *town {
	t.Helper()
	m, err := model()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "hallmark.db")
	if err := os.WriteFile(path, m.db, 0o600); err != nil {
		t.Fatal(err)
	}
	w := &town{t: t}
	w.must(w.open(path, m.docs))
	t.Cleanup(func() { w.rows.Close() })
	return w
}

// open opens a town's database.
func (w *town) open(path string, d *docs) error {
	w.queue, w.now, w.users = &queue{}, time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC), map[string]platform.Who{}
	d = &docs{d.blobs, maps.Clone(d.all), map[digest.Digest]string{}}
	var err error
	if w.rows, err = store.OpenWriter(context.Background(), path, d.blobs); err != nil {
		return err
	}
	clock := func() time.Time { return w.now }
	accounts, err := account.New(w.rows, clock)
	if err != nil {
		return err
	}
	w.docs = d
	w.Service = platform.New(w.rows, d, w.queue, accounts, account.NewID, clock)
	for _, name := range []string{"owner", "maintainer", "member", "auditor"} {
		roles := map[string]access.Role{}
		for _, tier := range tiers {
			roles[tier] = access.Role(name)
		}
		w.users[name] = platform.Who{Principal: access.Principal{User: "u-" + name, Name: name, Roles: roles}}
	}
	w.users["stranger"] = platform.Who{Principal: access.Principal{User: "u-stranger", Name: "stranger"}}
	w.users["root"] = platform.Who{Principal: access.Principal{User: "u-root", Name: "root", Admin: true}}
	w.users["nobody"] = platform.Who{}
	return nil
}

// model is the town that every test begins with a copy of.
var model = sync.OnceValues(func() (m struct {
	db   []byte
	docs *docs
}, err error) {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "town-")
	if err != nil {
		return m, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "hallmark.db")
	w := &town{}
	if err := w.open(path, &docs{blobs: &storetest.Blobs{}, all: map[digest.Digest]project.Commit{}}); err != nil {
		return m, err
	}
	by := store.By{Actor: "root", Via: "system", At: w.now}
	var errs []error
	for _, name := range []string{"owner", "maintainer", "member", "auditor", "stranger", "root", "other"} {
		errs = append(errs, w.rows.CreateUser(ctx, store.User{ID: "u-" + name, Name: name, Admin: name == "root", Created: w.now}, by))
	}
	for _, tier := range tiers {
		errs = append(errs, w.rows.CreateOrg(ctx, store.Org{Name: tier, Tier: tier, Created: w.now}, "u-owner", by))
		for _, r := range access.Roles[1:] {
			errs = append(errs, w.rows.SetMember(ctx, store.Member{Org: tier, User: "u-" + string(r), Role: string(r)}, by))
		}
		for _, p := range []string{"web", "site"} {
			_, err := w.CreateProject(ctx, w.users["owner"], tier, p, w.now)
			errs = append(errs, err)
		}
		errs = append(errs, w.SetSettings(ctx, w.users["owner"], store.Settings{Org: tier, Name: "site", Public: true}))
	}
	if err := errors.Join(append(errs, w.rows.Close())...); err != nil {
		return m, err
	}
	m.docs = w.docs
	m.db, err = os.ReadFile(path)
	return m, err
})

func (w *town) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// Every function that changes or shows something, for everybody: who may is
// written out; who may not read the project gets what he would get for one that is
// not there, the others a refusal that says what is missing.
func TestWhoMayDoWhat(t *testing.T) {
	ctx := t.Context()
	const readers = "owner maintainer member auditor"
	for _, c := range []struct {
		what, who string
		do        func(w *town, who platform.Who, org, name string) error
	}{
		{"read", readers, func(w *town, p platform.Who, org, name string) error { return w.Read(ctx, p, org, name) }},
		{"settings", readers, func(w *town, p platform.Who, org, name string) error {
			_, err := w.Settings(ctx, p, org, name)
			return err
		}},
		{"history", readers, func(w *town, p platform.Who, org, name string) error {
			_, err := w.History(ctx, p, org, name, "", 10)
			return err
		}},
		{"runs", readers, func(w *town, p platform.Who, org, name string) error {
			_, err := w.Runs(ctx, p, org, name, 10)
			return err
		}},
		{"waivers", readers, func(w *town, p platform.Who, org, name string) error {
			_, err := w.Waivers(ctx, p, org, name)
			return err
		}},
		{"propose", "owner maintainer member", func(w *town, p platform.Who, org, name string) error {
			_, _, err := w.Propose(ctx, p, org, name, "", platform.Change{Add: []string{"six"}})
			return err
		}},
		{"commit", "owner maintainer member", func(w *town, p platform.Who, org, name string) error {
			_, err := w.Commit(ctx, p, org, name, "", platform.Change{Add: []string{"six"}}, "", true)
			return err
		}},
		{"build", "owner maintainer member", func(w *town, p platform.Who, org, name string) error {
			_, err := w.Build(ctx, p, org, name, "", false)
			return err
		}},
		{"forecast", "owner maintainer member", func(w *town, p platform.Who, org, name string) error {
			w.SetOutlook(&prospect{}, []byte("secret"))
			_, err := w.Forecast(ctx, p, org, name, "", platform.Change{Add: []string{"six"}}, false)
			return err
		}},
		{"build a package", "owner maintainer member", func(w *town, p platform.Who, org, name string) error {
			_, err := w.BuildPackage(ctx, p, org, name, "", platform.PackageBuild{Requirement: "six"})
			return err
		}},
		{"rebuild", "owner maintainer", func(w *town, p platform.Who, org, name string) error {
			w.SetOutlook(&prospect{}, []byte("secret"))
			_, err := w.Rebuild(ctx, p, org, name, "", "pkg:pypi/six@1")
			return err
		}},
		{"result", readers, func(w *town, p platform.Who, org, name string) error {
			if org == "none" {
				_, err := w.Result(ctx, p, org, name, "r")
				return err
			}
			r, err := w.BuildPackage(ctx, w.users["owner"], org, name, "", platform.PackageBuild{Requirement: "six"})
			if err != nil {
				return err
			}
			done := w.docs.blobs.Add("{}")
			w.docs.kept[done] = "{}"
			r.State, r.Finished = store.RunSucceeded, w.now
			if err := errors.Join(w.rows.SetTaskResult(ctx, r.ID, done), w.rows.SetRun(ctx, r)); err != nil {
				return err
			}
			_, err = w.Result(ctx, p, org, name, r.ID)
			return err
		}},
		{"overrides", readers, func(w *town, p platform.Who, org, name string) error {
			h, err := w.History(ctx, p, org, name, "", 1)
			if err != nil {
				return err
			}
			_, err = w.OverridesOf(ctx, p, org, name, h[0].ID)
			return err
		}},
		{"check the data directory", "root", func(w *town, p platform.Who, _, _ string) error {
			w.SetOperator(&caretaker{})
			_, err := w.Inspect(ctx, p, false)
			return err
		}},
		{"look at a check", "root", func(w *town, p platform.Who, _, _ string) error {
			w.SetOperator(&caretaker{})
			if _, err := w.Inspect(ctx, w.users["root"], false); err != nil {
				return err
			}
			_, err := w.Inspection(p)
			return err
		}},
		{"end a check", "root", func(w *town, p platform.Who, _, _ string) error {
			w.SetOperator(&caretaker{wait: make(chan struct{})})
			if _, err := w.Inspect(ctx, w.users["root"], false); err != nil {
				return err
			}
			return w.EndInspection(p)
		}},
		{"the seed", readers + " stranger root token", func(w *town, p platform.Who, _, _ string) error {
			w.SetOperator(&caretaker{})
			_, err := w.Seed(p)
			return err
		}},
		{"a candidate for the seed", "root", func(w *town, p platform.Who, _, _ string) error {
			w.SetOperator(&caretaker{})
			_, err := w.SeedCandidate(ctx, p)
			return err
		}},
		{"set settings", "owner maintainer", func(w *town, p platform.Who, org, name string) error {
			return w.SetSettings(ctx, p, store.Settings{Org: org, Name: name, RequireSecure: true, Public: name == "site"})
		}},
		{"waive", "owner maintainer", func(w *town, p platform.Who, org, name string) error {
			return w.Waive(ctx, p, org, name, "pkg:pypi/six@1.17.0", "", "until the port", w.now.Add(time.Hour))
		}},
		{"create a project", "owner maintainer", func(w *town, p platform.Who, org, _ string) error {
			_, err := w.CreateProject(ctx, p, org, "new", w.now)
			return err
		}},
		{"see the organization", readers, func(w *town, p platform.Who, org, _ string) error { _, err := w.Org(ctx, p, org); return err }},
		{"set a member", "owner", func(w *town, p platform.Who, org, _ string) error {
			return w.SetMember(ctx, p, org, "other", access.Member)
		}},
		{"invite", "owner", func(w *town, p platform.Who, org, _ string) error {
			_, err := w.Invite(ctx, p, org, access.Member)
			return err
		}},
		{"remove a member", "owner", func(w *town, p platform.Who, org, _ string) error {
			who := "auditor"
			if p.Name == who {
				who = "member"
			}
			return w.RemoveMember(ctx, p, org, who)
		}},
		{"audit", "owner auditor", func(w *town, p platform.Who, org, _ string) error {
			_, err := w.Audit(ctx, p, org, 0, 10)
			return err
		}},
		{"set the tier", "root", func(w *town, p platform.Who, org, _ string) error { return w.SetTier(ctx, p, org, access.Enterprise) }},
		{"list users", "root", func(w *town, p platform.Who, _, _ string) error { _, err := w.Users(ctx, p); return err }},
		{"disable a user", "root", func(w *town, p platform.Who, _, _ string) error { return w.SetUser(ctx, p, "other", false, true) }},
		{"reset a password", "root", func(w *town, p platform.Who, _, _ string) error {
			_, err := w.ResetPassword(ctx, p, "other")
			return err
		}},
		{"read the platform's audit log", "root", func(w *town, p platform.Who, _, _ string) error {
			_, err := w.Audit(ctx, p, "", 0, 10)
			return err
		}},
		{"make an organization", readers + " stranger root", func(w *town, p platform.Who, _, _ string) error { return w.CreateOrg(ctx, p, "fresh") }},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			for _, name := range []string{"owner", "maintainer", "member", "auditor", "stranger", "root", "nobody", "token"} {
				w := newTown(t)
				p := w.users[name]
				if name == "token" { // of somebody who may do much, and without a scope
					p = w.users["owner"]
					p.Token = "t"
				}
				err := c.do(w, p, "team", "web")
				if may := slices.Contains(strings.Fields(c.who), name); may != (err == nil) {
					t.Errorf("%s: %v", name, err)
				}
				if err == nil {
					continue
				}
				if k := fault.KindOf(err); k != fault.NotFound && k != fault.Denied {
					t.Errorf("%s: %v is of kind %q", name, err, k)
				}
				// What is said is a whole sentence: nothing is missing where a name would stand.
				if said, _, _ := strings.Cut(err.Error(), "\n"); strings.HasSuffix(said, " ") || strings.Contains(said, "  ") || strings.Contains(said, " ,") {
					t.Errorf("%s: %q", name, said)
				}
				if !slices.Contains(strings.Fields(readers), name) && fault.Is(err, fault.NotFound) {
					missing := c.do(newTown(t), p, "none", "none")
					if got, want := strings.ReplaceAll(err.Error(), "team/web", "none/none"), missing.Error(); strings.ReplaceAll(got, "team", "none") != want {
						t.Errorf("%s: what is hidden says %q, what is not there %q", name, err, missing)
					}
				}
			}
		})
	}
}

// Who gets the bytes of what: of every tier, public or not, secure or not.
func TestTake(t *testing.T) {
	w := newTown(t)
	ctx := t.Context()
	downloaders := []string{"owner", "maintainer", "member"}
	for _, tier := range tiers {
		for _, public := range []bool{false, true} {
			for _, secure := range []bool{false, true} {
				for name, p := range w.users {
					project := map[bool]string{false: "web", true: "site"}[public]
					err := w.Take(ctx, p, tier, project, "pkg:pypi/six@1.17.0", secure)
					member := slices.Contains(downloaders, name)
					outside := name == "stranger" || name == "nobody" || name == "root"
					want := member && (!secure || tier != "free") || outside && public && !secure
					if (err == nil) != want {
						t.Errorf("%s of %s, public %v, secure %v: %v, want %v", name, tier, public, secure, err, want)
					}
					if err != nil && outside && !public && !fault.Is(err, fault.NotFound) {
						t.Errorf("%s learns of a private project: %v", name, err)
					}
					if err != nil && member && (!strings.Contains(err.Error(), "pkg:pypi/six@1.17.0") || !strings.Contains(err.Error(), "team or enterprise")) {
						t.Errorf("the refusal does not say what and what would allow it: %v", err)
					}
				}
			}
		}
	}
	token := w.users["member"]
	token.Token, token.Scopes = "t", []access.Scope{access.ScopeRead}
	if err := w.Take(ctx, token, "team", "web", "pkg:x@1", false); !fault.Is(err, fault.Denied) {
		t.Errorf("a token for reading: %v", err)
	}
	token.Scopes = []access.Scope{access.ScopeDownload}
	if err := w.Take(ctx, token, "team", "web", "pkg:x@1", true); !fault.Is(err, fault.NotFound) {
		t.Errorf("a token that cannot read: %v", err)
	}
	token.Scopes, token.Org = []access.Scope{access.ScopeDownload, access.ScopeRead}, "free"
	if err := w.Take(ctx, token, "team", "web", "pkg:x@1", true); !fault.Is(err, fault.NotFound) {
		t.Errorf("another organization's token: %v", err)
	}
	token.Org = "team"
	w.must(w.Take(ctx, token, "team", "web", "pkg:x@1", true))
}

func TestListsShowWhatMayBeRead(t *testing.T) {
	w := newTown(t)
	for name, want := range map[string]int{"member": 6, "auditor": 6, "stranger": 3, "nobody": 3, "root": 3} {
		got, err := w.Projects(t.Context(), w.users[name])
		w.must(err)
		if len(got) != want {
			t.Errorf("%s sees %+v", name, got)
		}
	}
	if got, err := w.Projects(t.Context(), platform.Who{Principal: access.SoleOwner("me")}); err != nil || len(got) != 6 {
		t.Errorf("the sole owner sees %+v, %v", got, err)
	}
}

func TestChanges(t *testing.T) {
	w := newTown(t)
	ctx, ann := t.Context(), w.users["member"]
	commit := func(ch platform.Change) digest.Digest {
		t.Helper()
		id, err := w.Commit(ctx, ann, "team", "web", "", ch, "", false)
		w.must(err)
		return id
	}
	first := commit(platform.Change{Add: []string{"six", "flask==3"}})
	at := time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)
	second := commit(platform.Change{Add: []string{"flask==4"}, Remove: []string{"six"}, AtTime: &at, Message: "move on"})
	d, err := w.Diff(ctx, ann, "team", "web", first, second)
	w.must(err)
	if fmt.Sprint(d) != "{[] [six] [[flask==3 flask==4]] [[catalog time 2026-11-01T12:00:00Z 2026-10-01T00:00:00Z]]}" {
		t.Errorf("the difference is %v", d)
	}
	for _, c := range []struct {
		ch   platform.Change
		kind fault.Kind
	}{
		{platform.Change{Add: []string{"flask==4"}}, fault.Conflict},
		{platform.Change{}, fault.Conflict},
		{platform.Change{Remove: []string{"nothing"}}, fault.NotFound},
		{platform.Change{Add: []string{"a b"}}, fault.Usage},
		{platform.Change{Policy: "urn:mine"}, fault.Usage},
		{platform.Change{OnUnproven: "hope"}, fault.Usage},
		{platform.Change{Add: []string{"x"}, Message: strings.Repeat("a", 3000)}, fault.Usage},
	} {
		if _, err := w.Commit(ctx, ann, "team", "web", "", c.ch, "", false); !fault.Is(err, c.kind) {
			t.Errorf("%+v: %v", c.ch, err)
		}
	}
	// What was looked at is not what is there any more.
	if _, err := w.Commit(ctx, ann, "team", "web", "", platform.Change{Add: []string{"x"}}, first, false); !fault.Is(err, fault.Conflict) {
		t.Errorf("on an old head: %v", err)
	}
	third, err := w.Revert(ctx, ann, "team", "web", "", first, true)
	w.must(err)
	h, err := w.History(ctx, ann, "team", "web", "", 10)
	w.must(err)
	if len(h) != 4 || h[0].ID != third || h[0].Author != "member" || !slices.Equal(h[0].Requirements, []string{"flask==3", "six"}) || h[1].Message != "move on" || h[2].Message != "add six, add flask==3" {
		t.Errorf("history is %+v", h)
	}
	// Another project's commit is none of this one's.
	other, err := w.History(ctx, ann, "free", "web", "", 1)
	w.must(err)
	if _, err := w.Revert(ctx, ann, "team", "web", "", other[0].ID, false); !fault.Is(err, fault.NotFound) {
		t.Errorf("reverted to another project's commit: %v", err)
	}
	if len(w.queue.added) != 1 {
		t.Errorf("queued %v", w.queue.added)
	}
	// A build that is queued already is not queued again.
	r, err := w.Build(ctx, ann, "team", "web", "", false)
	w.must(err)
	if r.ID != w.queue.added[0] || len(w.queue.added) != 1 || r.Commit != third {
		t.Errorf("run is %+v, queued %v", r, w.queue.added)
	}
	if err := w.Cancel(ctx, ann, "free", "web", r.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("cancelled another project's run: %v", err)
	}
	w.must(w.Cancel(ctx, ann, "team", "web", r.ID))
}

func TestQuotas(t *testing.T) {
	w := newTown(t)
	ctx, owner := t.Context(), w.users["owner"]
	_, err := w.CreateProject(ctx, owner, "free", "three", w.now)
	w.must(err)
	if _, err = w.CreateProject(ctx, owner, "free", "four", w.now); !fault.Is(err, fault.Denied) {
		t.Errorf("a fourth project: %v", err)
	}
	w.must(w.SetMember(ctx, owner, "free", "other", access.Member))
	if err := w.SetMember(ctx, owner, "free", "stranger", access.Member); !fault.Is(err, fault.Denied) {
		t.Errorf("a sixth member: %v", err)
	}
	if _, err := w.Invite(ctx, owner, "free", access.Member); !fault.Is(err, fault.Denied) {
		t.Errorf("an invitation for a sixth: %v", err)
	}
	w.must(w.SetMember(ctx, owner, "free", "other", access.Auditor)) // a role can change
	r, err := w.Build(ctx, owner, "free", "web", "", false)
	w.must(err)
	r.State, r.Started, r.Finished = store.RunSucceeded, w.now, w.now.Add(11*time.Hour)
	w.must(w.rows.SetRun(ctx, r))
	w.now = w.now.Add(12 * time.Hour)
	if _, err := w.Build(ctx, owner, "free", "web", "", false); !fault.Is(err, fault.Denied) || !strings.Contains(err.Error(), "660 minutes") {
		t.Errorf("a build beyond the minutes: %v", err)
	}
	w.must(w.SetTier(ctx, w.users["root"], "free", access.Team))
	_, err = w.Build(ctx, owner, "free", "web", "", false)
	w.must(err)
}

func TestWaivers(t *testing.T) {
	w := newTown(t)
	ctx, m := t.Context(), w.users["maintainer"]
	for _, c := range []struct {
		purl, reason string
		until        time.Duration
	}{{"six", "r", time.Hour}, {"pkg:pypi/six", "r", time.Hour}, {"pkg:pypi/six@1", "  ", time.Hour}, {"pkg:pypi/six@1", "r", -time.Hour}, {"pkg:pypi/six@1", "r", 400 * 24 * time.Hour}} {
		if err := w.Waive(ctx, m, "team", "web", c.purl, "", c.reason, w.now.Add(c.until)); !fault.Is(err, fault.Usage) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	w.must(w.Waive(ctx, m, "team", "web", "pkg:pypi/six@1", "", "until the port", w.now.Add(time.Hour)))
	ws, err := w.Waivers(ctx, m, "team", "web")
	w.must(err)
	if len(ws) != 1 || ws[0].Owner != "maintainer" || !ws[0].Holds(w.now) {
		t.Fatalf("waivers are %+v", ws)
	}
	w.must(w.EndWaiver(ctx, m, "team", "web", ws[0].ID))
	found, err := w.rows.Check(ctx)
	if err != nil || len(found) > 0 {
		t.Errorf("check: %+v, %v", found, err)
	}
}
