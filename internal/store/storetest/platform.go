package storetest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/store"
)

// Platform is the contract for accounts, organizations and what belongs to them.
func Platform(t *testing.T, b Backend) {
	ctx := context.Background()
	by := store.By{Actor: "root", Via: "system", At: at}
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	want := func(t *testing.T, err error, k fault.Kind) {
		t.Helper()
		if !fault.Is(err, k) {
			t.Fatalf("error is %v (kind %q), want kind %q", err, fault.KindOf(err), k)
		}
	}
	user := func(t *testing.T, s *store.Store, name string) store.User {
		t.Helper()
		u := store.User{ID: "u-" + name, Name: name, Display: strings.ToUpper(name), Password: "hash", Created: at}
		must(t, s.CreateUser(ctx, u, by))
		return u
	}
	clean := func(t *testing.T, s *store.Store) {
		t.Helper()
		found, err := s.Check(ctx)
		must(t, err)
		for _, f := range found {
			t.Errorf("check: %s", f.Message)
		}
	}
	const later = time.Hour

	t.Run("users", func(t *testing.T) {
		s := b.Open(t, &Blobs{})
		ann := user(t, s, "ann")
		want(t, s.CreateUser(ctx, store.User{ID: "x", Name: "ann", Created: at}, by), fault.Conflict)
		want(t, s.CreateUser(ctx, store.User{ID: ann.ID, Name: "bob", Created: at}, by), fault.Conflict)
		for _, name := range []string{"", "Ann", "a b", "-a", "a/", strings.Repeat("a", 65), "ä"} {
			want(t, s.CreateUser(ctx, store.User{ID: "y", Name: name, Created: at}, by), fault.Usage)
		}
		got, err := s.UserByName(ctx, "ann")
		must(t, err)
		if got.ID != ann.ID || got.Display != "ANN" || got.Admin || !got.Created.Equal(at.Truncate(time.Microsecond)) {
			t.Errorf("user is %+v", got)
		}
		_, err = s.User(ctx, "none")
		want(t, err, fault.NotFound)
		got.Admin = true
		must(t, s.SetUser(ctx, got, by, "administrator"))
		got.Disabled = true
		want(t, s.SetUser(ctx, got, by, "disabled"), fault.Conflict) // the last administrator
		if again, err := s.User(ctx, ann.ID); err != nil || again.Disabled {
			t.Errorf("a refused change is there: %+v, %v", again, err)
		}
		bob := user(t, s, "bob")
		bob.Admin = true
		must(t, s.SetUser(ctx, bob, by, "administrator"))
		must(t, s.AddSession(ctx, store.Session{Hash: "s1", User: ann.ID, Created: at, Seen: at, Expires: at.Add(later)}, by))
		must(t, s.SetUser(ctx, got, by, "disabled"))
		_, err = s.Session(ctx, "s1", at)
		want(t, err, fault.NotFound) // a disabled user is signed out
		want(t, s.SetUser(ctx, store.User{ID: "none", Name: "none"}, by, ""), fault.NotFound)
		must(t, s.AddIdentity(ctx, store.Identity{Issuer: "https://id.example", Subject: "1", User: ann.ID, Created: at}, by))
		want(t, s.AddIdentity(ctx, store.Identity{Issuer: "https://id.example", Subject: "1", User: bob.ID, Created: at}, by), fault.Conflict)
		if u, err := s.UserOfIdentity(ctx, "https://id.example", "1"); err != nil || u.ID != ann.ID {
			t.Errorf("identity belongs to %+v, %v", u, err)
		}
		_, err = s.UserOfIdentity(ctx, "https://id.example", "2")
		want(t, err, fault.NotFound)
		k := store.Passkey{ID: "cred", User: ann.ID, Label: "phone", Credential: `{"n":1}`, Created: at}
		must(t, s.AddPasskey(ctx, k, by))
		want(t, s.AddPasskey(ctx, k, by), fault.Conflict)
		k.Credential, k.Used = `{"n":2}`, at.Add(later)
		must(t, s.UsePasskey(ctx, k, `{"n":1}`))
		want(t, s.UsePasskey(ctx, k, `{"n":1}`), fault.Conflict) // at the same time
		want(t, s.UsePasskey(ctx, store.Passkey{ID: "none"}, ""), fault.Conflict)
		if ks, err := s.Passkeys(ctx, ann.ID); err != nil || len(ks) != 1 || ks[0].Credential != `{"n":2}` || !ks[0].Used.Equal(at.Add(later).Truncate(time.Microsecond)) {
			t.Errorf("passkeys: %+v, %v", ks, err)
		}
		must(t, s.RemovePasskey(ctx, k, "", by))
		want(t, s.RemovePasskey(ctx, k, "", by), fault.NotFound)
		clean(t, s)
	})

	t.Run("ways to sign in", func(t *testing.T) {
		s := b.Open(t, &Blobs{})
		const issuer = "https://id.example"
		named := func(subject string) store.Identity {
			return store.Identity{Issuer: issuer, Subject: subject, Label: "of " + subject, Created: at}
		}
		bea := store.User{ID: "u-bea", Created: at}
		_, err := s.CreateUserOf(ctx, bea, named("b"), []string{"bea"}, by)
		want(t, err, fault.Denied) // the first account is the administrator's
		ann := user(t, s, "ann")
		_, err = s.CreateUserOf(ctx, bea, named("b"), []string{"ann"}, by)
		want(t, err, fault.Conflict)
		got, err := s.CreateUserOf(ctx, bea, named("b"), []string{"ann", "ann-2"}, by)
		must(t, err)
		if got.Name != "ann-2" || got.Admin || got.Password != "" {
			t.Errorf("user is %+v", got)
		}
		_, err = s.CreateUserOf(ctx, store.User{ID: "u-c", Created: at}, named("b"), []string{"c"}, by)
		want(t, err, fault.Conflict) // the subject is ann-2
		if _, err := s.UserByName(ctx, "c"); !fault.Is(err, fault.NotFound) {
			t.Errorf("an account without its identity: %v", err)
		}
		must(t, s.UseIdentity(ctx, issuer, "b", at.Add(later)))
		must(t, s.UseIdentity(ctx, issuer, "b", at.Add(later+time.Minute)))
		i, err := s.Identity(ctx, issuer, "b")
		must(t, err)
		if i.User != bea.ID || i.Label != "of b" || !i.Used.Equal(at.Add(later).Truncate(time.Microsecond)) {
			t.Errorf("identity is %+v", i)
		}

		want(t, s.RemoveIdentity(ctx, i, issuer, by), fault.Conflict) // the last way in
		k := store.Passkey{ID: "k1", User: bea.ID, Label: "key", Credential: "{}", Created: at}
		must(t, s.AddPasskey(ctx, k, by))
		must(t, s.RemoveIdentity(ctx, i, issuer, by))
		want(t, s.RemoveIdentity(ctx, i, issuer, by), fault.NotFound)
		want(t, s.RemovePasskey(ctx, k, issuer, by), fault.Conflict)
		i.User = bea.ID
		must(t, s.AddIdentity(ctx, i, by))
		want(t, s.RemovePasskey(ctx, k, "https://other.example", by), fault.Conflict) // nobody signs in with that provider now
		must(t, s.RemovePasskey(ctx, k, issuer, by))
		if is, err := s.Identities(ctx, bea.ID); err != nil || len(is) != 1 || is[0].Subject != "b" {
			t.Errorf("identities: %+v, %v", is, err)
		}
		for n := range 20 {
			must(t, s.AddPasskey(ctx, store.Passkey{ID: fmt.Sprint("many", n), User: ann.ID, Label: "key", Credential: "{}", Created: at}, by))
		}
		want(t, s.AddPasskey(ctx, store.Passkey{ID: "too many", User: ann.ID, Label: "key", Credential: "{}", Created: at}, by), fault.Conflict)
		clean(t, s)
	})

	t.Run("sessions, tokens and their ends", func(t *testing.T) {
		s := b.Open(t, &Blobs{})
		ann := user(t, s, "ann")
		for i := range 3 {
			must(t, s.AddSession(ctx, store.Session{Hash: fmt.Sprint("s", i), User: ann.ID, Created: at, Seen: at, Expires: at.Add(later)}, by))
		}
		must(t, s.SeeSession(ctx, "s0", at.Add(20*time.Minute)))
		must(t, s.SeeSession(ctx, "s0", at.Add(21*time.Minute))) // not worth a row in the journal
		v, err := s.Session(ctx, "s0", at)
		must(t, err)
		if v.User != ann.ID || !v.Seen.Equal(at.Add(20*time.Minute).Truncate(time.Microsecond)) {
			t.Errorf("session is %+v", v)
		}
		_, err = s.Session(ctx, "s0", at.Add(later))
		want(t, err, fault.NotFound)
		must(t, s.EndSession(ctx, "s1", by))
		must(t, s.EndSession(ctx, "s1", by))
		must(t, s.EndSessions(ctx, ann.ID, "s0", by))
		if left, err := s.Sessions(ctx, ann.ID, at); err != nil || len(left) != 1 || left[0].Hash != "s0" {
			t.Errorf("sessions left: %+v, %v", left, err)
		}
		must(t, s.CreateOrg(ctx, store.Org{Name: "acme", Tier: "free", Created: at}, ann.ID, by))
		tok := store.Token{ID: "t1", Hash: "h1", User: ann.ID, Org: "acme", Label: "ci", Scopes: "read", Created: at, Expires: at.Add(later)}
		must(t, s.AddToken(ctx, tok, by))
		want(t, s.AddToken(ctx, tok, by), fault.Conflict)
		if got, err := s.TokenByHash(ctx, "h1", at); err != nil || got.ID != "t1" {
			t.Errorf("token: %+v, %v", got, err)
		}
		_, err = s.TokenByHash(ctx, "h1", at.Add(later))
		want(t, err, fault.NotFound)
		must(t, s.UseToken(ctx, "t1", at))
		must(t, s.UseToken(ctx, "t1", at.Add(time.Second)))
		if got, err := s.Token(ctx, "t1"); err != nil || !got.Used.Equal(at.Truncate(time.Microsecond)) {
			t.Errorf("token: %+v, %v", got, err)
		}
		must(t, s.RevokeToken(ctx, "t1", by))
		must(t, s.RevokeToken(ctx, "t1", by))
		_, err = s.TokenByHash(ctx, "h1", at)
		want(t, err, fault.NotFound)
		want(t, s.RevokeToken(ctx, "none", by), fault.NotFound)
		if ts, err := s.TokensOfOrg(ctx, "acme"); err != nil || len(ts) != 1 {
			t.Errorf("tokens: %+v, %v", ts, err)
		}
		clean(t, s)
	})

	t.Run("links work once", func(t *testing.T) {
		s := b.Open(t, &Blobs{})
		must(t, s.AddLink(ctx, store.Link{Hash: "l1", Purpose: store.LinkSetup, Created: at, Expires: at.Add(later)}, by))
		root := store.User{ID: "u-root", Name: "root", Created: at}
		must(t, s.UseLink(ctx, "l1", root, true, by))
		want(t, s.UseLink(ctx, "l1", store.User{ID: "u-2", Name: "two", Created: at}, true, by), fault.NotFound)
		_, err := s.UserByName(ctx, "two")
		want(t, err, fault.NotFound)
		if u, err := s.UserByName(ctx, "root"); err != nil || !u.Admin {
			t.Errorf("the first user is %+v, %v", u, err)
		}
		must(t, s.CreateOrg(ctx, store.Org{Name: "acme", Tier: "free", Created: at}, root.ID, by))
		must(t, s.AddLink(ctx, store.Link{Hash: "l2", Purpose: store.LinkInvite, Org: "acme", Role: "auditor", Created: at, Expires: at.Add(later)}, by))
		want(t, s.UseLink(ctx, "l2", store.User{ID: "u-b", Name: "root", Created: at}, true, by), fault.Conflict) // the name is taken
		_, err = s.Link(ctx, "l2", at)
		must(t, err) // and the link is as before
		must(t, s.UseLink(ctx, "l2", store.User{ID: "u-b", Name: "bob", Created: at}, true, by))
		if ms, err := s.MembershipsOf(ctx, "u-b"); err != nil || len(ms) != 1 || ms[0].Role != "auditor" {
			t.Errorf("memberships: %+v, %v", ms, err)
		}
		must(t, s.AddLink(ctx, store.Link{Hash: "l3", Purpose: store.LinkPassword, User: "u-b", Created: at, Expires: at.Add(later)}, by))
		must(t, s.UseLink(ctx, "l3", store.User{Password: "new"}, false, by))
		if u, err := s.User(ctx, "u-b"); err != nil || u.Password != "new" || u.Name != "bob" || u.Admin {
			t.Errorf("user is %+v, %v", u, err)
		}
		must(t, s.AddLink(ctx, store.Link{Hash: "l4", Purpose: store.LinkSetup, Created: at, Expires: at.Add(-later)}, by))
		want(t, s.UseLink(ctx, "l4", store.User{ID: "u-c", Name: "eve", Created: at}, true, by), fault.NotFound) // its time is over
		must(t, s.AddLink(ctx, store.Link{Hash: "l5", Purpose: store.LinkSetup, Created: at, Expires: at.Add(later)}, by))
		must(t, s.RevokeLinks(ctx, store.LinkSetup, by))
		_, err = s.Link(ctx, "l5", at)
		want(t, err, fault.NotFound)
		clean(t, s)
	})

	t.Run("organizations keep an owner", func(t *testing.T) {
		s := b.Open(t, &Blobs{})
		ann, bob := user(t, s, "ann"), user(t, s, "bob")
		must(t, s.CreateOrg(ctx, store.Org{Name: "acme", Tier: "free", Created: at}, ann.ID, by))
		want(t, s.CreateOrg(ctx, store.Org{Name: "acme", Tier: "free", Created: at}, bob.ID, by), fault.Conflict)
		want(t, s.CreateOrg(ctx, store.Org{Name: "api", Tier: "free", Created: at}, bob.ID, by), fault.Usage)
		want(t, s.RemoveMember(ctx, "acme", ann.ID, by), fault.Conflict)
		want(t, s.SetMember(ctx, store.Member{Org: "acme", User: ann.ID, Role: "member"}, by), fault.Conflict)
		must(t, s.SetMember(ctx, store.Member{Org: "acme", User: bob.ID, Role: "member"}, by))
		must(t, s.SetMember(ctx, store.Member{Org: "acme", User: bob.ID, Role: "owner"}, by))
		must(t, s.RemoveMember(ctx, "acme", ann.ID, by))
		if ms, err := s.Members(ctx, "acme"); err != nil || len(ms) != 1 || ms[0].User != bob.ID || ms[0].Role != "owner" {
			t.Errorf("members: %+v, %v", ms, err)
		}
		must(t, s.SetTier(ctx, "acme", "team", by))
		want(t, s.SetTier(ctx, "none", "team", by), fault.NotFound)
		if o, err := s.Org(ctx, "acme"); err != nil || o.Tier != "team" {
			t.Errorf("organization is %+v, %v", o, err)
		}
		// One that a data directory makes by itself.
		_, err := s.CreateProject(ctx, "local", "web", at)
		must(t, err)
		if o, err := s.Org(ctx, "local"); err != nil || o.Tier != "enterprise" {
			t.Errorf("organization is %+v, %v", o, err)
		}
		clean(t, s)
	})

	t.Run("settings, waivers and branches of a project", func(t *testing.T) {
		blobs := &Blobs{}
		s := b.Open(t, blobs)
		_, err := s.CreateProject(ctx, "acme", "web", at)
		must(t, err)
		v, err := s.Settings(ctx, "acme", "web")
		must(t, err)
		if v.Public || v.RequireSecure {
			t.Errorf("settings begin as %+v", v)
		}
		v.RequireSecure = true
		must(t, s.SetSettings(ctx, v, by))
		v.Public = true
		must(t, s.SetSettings(ctx, v, by))
		if got, err := s.Settings(ctx, "acme", "web"); err != nil || !got.Public || !got.RequireSecure {
			t.Errorf("settings are %+v, %v", got, err)
		}
		w := store.Waiver{ID: "w1", Org: "acme", Name: "web", PURL: "pkg:pypi/six@1.17.0", Owner: "ann", Reason: "until the port", Created: at, Expires: at.Add(later)}
		must(t, s.AddWaiver(ctx, w, by))
		bad := w
		bad.ID, bad.Expires = "w2", at
		want(t, s.AddWaiver(ctx, bad, by), fault.Usage)
		bad.ID, bad.Reason, bad.Expires = "w3", "", at.Add(later)
		want(t, s.AddWaiver(ctx, bad, by), fault.Usage)
		want(t, s.EndWaiver(ctx, "acme", "other", "w1", by), fault.NotFound)
		must(t, s.EndWaiver(ctx, "acme", "web", "w1", by))
		want(t, s.EndWaiver(ctx, "acme", "web", "w1", by), fault.NotFound)
		if ws, err := s.Waivers(ctx, "acme", "web"); err != nil || len(ws) != 1 || ws[0].Holds(at) {
			t.Errorf("waivers: %+v, %v", ws, err)
		}
		if !w.Holds(at) || w.Holds(at.Add(later)) {
			t.Error("a waiver holds at the wrong time")
		}
		one, two := blobs.Add("one"), blobs.Add("two")
		must(t, s.AddCommit(ctx, store.Commit{ID: one, Org: "acme", Name: "web", Document: one, Created: at}))
		must(t, s.AddCommit(ctx, store.Commit{ID: two, Org: "acme", Name: "web", Parent: one, Document: two, Created: at}))
		must(t, s.SetBranch(ctx, "acme", "web", "", "", one, by))
		must(t, s.SetBranch(ctx, "acme", "web", "try", "", one, by))
		want(t, s.SetBranch(ctx, "acme", "web", "try", "", one, by), fault.Conflict)
		must(t, s.SetBranch(ctx, "acme", "web", "try", one, two, by))
		want(t, s.SetBranch(ctx, "acme", "web", "try", one, two, by), fault.Conflict)
		want(t, s.SetBranch(ctx, "acme", "web", "Try it", "", one, by), fault.Usage)
		if c, err := s.BranchHead(ctx, "acme", "web", "try"); err != nil || c.ID != two {
			t.Errorf("branch's head is %+v, %v", c, err)
		}
		if c, err := s.BranchHead(ctx, "acme", "web", "main"); err != nil || c.ID != one {
			t.Errorf("main's head is %+v, %v", c, err)
		}
		must(t, s.RemoveBranch(ctx, "acme", "web", "try", by))
		_, err = s.BranchHead(ctx, "acme", "web", "try")
		want(t, err, fault.NotFound)
		clean(t, s)

		// The project's head is its default branch's, whichever that is.
		is := func(branch string, id digest.Digest) {
			t.Helper()
			if c, err := s.BranchHead(ctx, "acme", "web", branch); err != nil || c.ID != id {
				t.Errorf("the head of %q is %s, %v; want %s", branch, c.ID, err, id)
			}
		}
		must(t, s.SetBranch(ctx, "acme", "web", "feature/New_api", "", two, by))
		want(t, s.SetDefaultBranch(ctx, "acme", "web", "none", by), fault.NotFound)
		want(t, s.SetDefaultBranch(ctx, "acme", "web", "main", by), fault.Conflict)
		want(t, s.SetDefaultBranch(ctx, "acme", "none", "main", by), fault.Conflict)
		must(t, s.SetDefaultBranch(ctx, "acme", "web", "feature/New_api", by))
		is("", two)
		is("feature/New_api", two)
		is("main", one)
		if d, err := s.DefaultBranch(ctx, "acme", "web"); err != nil || d != "feature/New_api" {
			t.Errorf("the default branch is %q, %v", d, err)
		}
		if bs, err := s.Branches(ctx, "acme", "web"); err != nil || len(bs) != 1 || bs[0].Branch != "main" || bs[0].Head != one {
			t.Errorf("the other branches are %+v, %v", bs, err)
		}
		want(t, s.RemoveBranch(ctx, "acme", "web", "feature/New_api", by), fault.Conflict)
		want(t, s.RemoveBranch(ctx, "acme", "web", "", by), fault.Conflict)
		must(t, s.SetBranch(ctx, "acme", "web", "main", one, two, by))
		is("main", two)
		must(t, s.SetBranch(ctx, "acme", "web", "", two, one, by))
		is("feature/New_api", one)
		must(t, s.SetDefaultBranch(ctx, "acme", "web", "main", by))
		is("", two)
		is("feature/New_api", one)
		must(t, s.RemoveBranch(ctx, "acme", "web", "feature/New_api", by))
		clean(t, s)
	})

	t.Run("a commit, its branch and its run are one", func(t *testing.T) {
		blobs := &Blobs{}
		s := b.Open(t, blobs)
		_, err := s.CreateProject(ctx, "acme", "web", at)
		must(t, err)
		one, two, three := blobs.Add("one"), blobs.Add("two"), blobs.Add("three")
		commit := func(id, parent digest.Digest) store.Commit {
			return store.Commit{ID: id, Org: "acme", Name: "web", Parent: parent, Document: id, Created: at}
		}
		run := func(id string, c digest.Digest) *store.Run {
			return &store.Run{ID: id, Org: "acme", Name: "web", Commit: c, Asked: "ann", Created: at}
		}
		must(t, s.Advance(ctx, commit(one, ""), "", "", nil, by, nil))
		must(t, s.Advance(ctx, commit(two, one), "", one, run("r1", two), by, func(ctx context.Context, tx *sql.Tx) error { return nil }))
		// What fails in the end leaves nothing.
		broken := errors.New("the queue is broken")
		if err := s.Advance(ctx, commit(three, two), "", two, run("r2", three), by, func(context.Context, *sql.Tx) error { return broken }); !errors.Is(err, broken) {
			t.Fatalf("error is %v", err)
		}
		want(t, s.Advance(ctx, commit(three, two), "", one, run("r2", three), by, nil), fault.Conflict) // somebody was faster
		_, err = s.Commit(ctx, three)
		want(t, err, fault.NotFound)
		if h, err := s.Head(ctx, "acme", "web"); err != nil || h.ID != two {
			t.Errorf("head is %+v, %v", h, err)
		}
		rs, err := s.Runs(ctx, "acme", "web", 10)
		must(t, err)
		if len(rs) != 1 || rs[0].State != store.RunQueued || rs[0].Commit != two {
			t.Fatalf("runs are %+v", rs)
		}
		r := rs[0]
		r.State, r.Started = store.RunRunning, at
		must(t, s.SetRun(ctx, r))
		r.State, r.Finished = store.RunSucceeded, at.Add(90*time.Second)
		if open, err := s.OpenRuns(ctx); err != nil || len(open) != 1 {
			t.Errorf("open runs: %+v, %v", open, err)
		}
		must(t, s.SetPriority(ctx, store.Priority{Run: r.ID, Level: 1}, by))
		must(t, s.SetPriority(ctx, store.Priority{Run: r.ID, Level: 1, Over: -1}, by))
		want(t, s.SetPriority(ctx, store.Priority{Run: "none"}, by), fault.NotFound)
		want(t, s.SetPriority(ctx, store.Priority{Run: r.ID, Level: 2}, by), fault.Usage)
		if p, err := s.Priorities(ctx); err != nil || len(p) != 1 || p[r.ID].Level != 1 || p[r.ID].Over != -1 {
			t.Errorf("priorities: %+v, %v", p, err)
		}
		if l, err := s.LastTurns(ctx); err != nil || len(l) != 1 || !l["acme"].Equal(at.Truncate(time.Microsecond)) {
			t.Errorf("last turns: %v, %v", l, err)
		}
		must(t, s.SetRun(ctx, r))
		want(t, s.SetRun(ctx, r), fault.Conflict) // it has ended
		want(t, s.SetPriority(ctx, store.Priority{Run: r.ID}, by), fault.Conflict)
		if p, err := s.Priorities(ctx); err != nil || len(p) != 0 {
			t.Errorf("priorities of what has ended: %+v, %v", p, err)
		}
		if d, err := s.BuildTime(ctx, "acme", at); err != nil || d != 90*time.Second {
			t.Errorf("build time: %v, %v", d, err)
		}
		if d, err := s.BuildTime(ctx, "acme", at.Add(later)); err != nil || d != 0 {
			t.Errorf("build time later: %v, %v", d, err)
		}
		clean(t, s)
	})

	t.Run("what a run is for", func(t *testing.T) {
		blobs := &Blobs{}
		s := b.Open(t, blobs)
		_, err := s.CreateProject(ctx, "acme", "web", at)
		must(t, err)
		c, own, result := blobs.Add("c"), blobs.Add("own"), blobs.Add("result")
		must(t, s.Advance(ctx, store.Commit{ID: c, Org: "acme", Name: "web", Document: c, Created: at}, "", "", nil, by, nil))
		add := func(id string, task *store.Task) error {
			return s.AddRun(ctx, store.Run{ID: id, Org: "acme", Name: "web", Commit: c, Asked: "ann", Created: at, Task: task}, by, nil)
		}
		must(t, add("whole", nil))
		must(t, add("one", &store.Task{Kind: store.TaskBuild, What: "six", At: at, Overrides: own}))
		must(t, add("again", &store.Task{Kind: store.TaskRebuild, What: "pkg:pypi/six@1"}))
		want(t, add("bad", &store.Task{Kind: "bake", What: "six"}), fault.Usage)
		want(t, add("none", &store.Task{Kind: store.TaskBuild}), fault.Usage)
		want(t, add("gone", &store.Task{Kind: store.TaskBuild, What: "six", Overrides: digest.FromBytes([]byte("gone"))}), fault.Conflict)
		rs, err := s.Runs(ctx, "acme", "web", 10)
		must(t, err)
		if len(rs) != 3 {
			t.Fatalf("runs are %+v", rs)
		}
		for _, r := range rs {
			switch r.ID {
			case "whole":
				if r.Task != nil {
					t.Errorf("%+v", r.Task)
				}
			case "one":
				if r.Task == nil || r.Task.What != "six" || r.Task.Overrides != own || !r.Task.At.Equal(at.Truncate(time.Microsecond)) || r.Task.Result != "" {
					t.Errorf("%+v", r.Task)
				}
			case "again":
				if r.Task == nil || r.Task.Kind != store.TaskRebuild || !r.Task.At.IsZero() {
					t.Errorf("%+v", r.Task)
				}
			}
		}
		want(t, s.SetTaskResult(ctx, "whole", result), fault.NotFound)
		must(t, s.SetTaskResult(ctx, "one", result))
		must(t, s.SetTaskResult(ctx, "one", result))
		if r, err := s.Run(ctx, "one"); err != nil || r.Task == nil || r.Task.Result != result {
			t.Errorf("%+v, %v", r, err)
		}
		if ts, err := s.TaskResults(ctx, "acme", "web", 10); err != nil || len(ts) != 1 || ts[0].Run != "one" {
			t.Errorf("%+v, %v", ts, err)
		}
		if ts, err := s.TaskResults(ctx, "acme", "other", 10); err != nil || len(ts) != 0 {
			t.Errorf("%+v, %v", ts, err)
		}
		if open, err := s.OpenRuns(ctx); err != nil || len(open) != 3 {
			t.Errorf("%+v, %v", open, err)
		}
		log, err := s.AuditLog(ctx, "acme", 0, 3)
		if err != nil || log[0].Action != "run.rebuild" || log[0].Object != "pkg:pypi/six@1" || log[1].Action != "run.build" {
			t.Errorf("audit log: %+v, %v", log, err)
		}
		clean(t, s)
	})

	t.Run("every change is in the audit log, and stays there", func(t *testing.T) {
		s := b.Open(t, &Blobs{})
		ann := user(t, s, "ann")
		must(t, s.CreateOrg(ctx, store.Org{Name: "acme", Tier: "free", Created: at}, ann.ID, by))
		must(t, s.SetTier(ctx, "acme", "team", by))
		must(t, s.Note(ctx, by, "session.refused", "", "", "ann", "wrong password"))
		want(t, s.Note(ctx, store.By{}, "nobody", "", "", "", ""), fault.Usage)
		all, err := s.AuditLog(ctx, "", 0, 10)
		must(t, err)
		var said []string
		for _, e := range all {
			said = append(said, e.Action)
		}
		if got := strings.Join(said, " "); got != "session.refused org.tier org.create user.create" {
			t.Errorf("the audit log says %s", got)
		}
		some, err := s.AuditLog(ctx, "acme", all[1].Seq, 10)
		must(t, err)
		if len(some) != 1 || some[0].Action != "org.create" {
			t.Errorf("of acme, before its tier: %+v", some)
		}
		for _, q := range []string{"DELETE FROM audit", "UPDATE audit SET actor = 'eve'", "DELETE FROM users", "DELETE FROM orgs", "DELETE FROM tokens WHERE id = id", "DELETE FROM waivers WHERE 1 = 1"} {
			if err := b.Exec(t, q); err == nil && (strings.Contains(q, "audit") || strings.Contains(q, "users") || strings.Contains(q, "orgs")) {
				t.Errorf("%s was done", q)
			}
		}
		clean(t, s)
		// A role that somebody widened behind the program's back is named.
		must(t, b.Exec(t, "UPDATE orgs SET tier = 'enterprise'"))
		found, err := s.Check(ctx)
		must(t, err)
		if len(found) != 1 || found[0].Table != "orgs" || found[0].Row != "acme" {
			t.Errorf("check found %+v", found)
		}
	})
}
