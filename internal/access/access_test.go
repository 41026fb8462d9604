package access

import (
	"slices"
	"strings"
	"testing"

	"hallmark/internal/fault"
)

// The whole table, written out a second time: a row for each action, a column
// for each role, so that a change of one has to be a change of both.
func TestTableOfRolesAndActions(t *testing.T) {
	const table = `
		org.read           owner maintainer member auditor
		org.members        owner
		org.audit          owner auditor
		project.create     owner maintainer
		project.read       owner maintainer member auditor
		project.download   owner maintainer member
		project.change     owner maintainer member
		project.build      owner maintainer member
		project.rebuild    owner maintainer
		project.waive      owner maintainer
		project.rank       owner maintainer
		project.settings   owner maintainer
		token.own          owner maintainer member
		token.others       owner maintainer
		project.evidence   owner maintainer member auditor
		platform.admin
		platform.org.make`
	seen := map[Action]bool{}
	for _, line := range strings.Split(strings.TrimSpace(table), "\n") {
		f := strings.Fields(line)
		a := Action(f[0])
		seen[a] = true
		for _, r := range Roles {
			p := Principal{User: "u", Roles: map[string]Role{"acme": r}}
			want := slices.Contains(f[1:], string(r)) || a == CreateOrg
			if got := p.Can(a, "acme"); got != want {
				t.Errorf("%s may %s: %v, want %v", r, a, got, want)
			}
			if a != CreateOrg && p.Can(a, "other") {
				t.Errorf("%s of acme may %s in another organization", r, a)
			}
			if a != CreateOrg && p.Can(a, "") {
				t.Errorf("%s of acme may %s in no organization", r, a)
			}
		}
		if (Principal{}).Can(a, "acme") || (Principal{Roles: map[string]Role{"acme": Owner}}).Can(a, "acme") {
			t.Errorf("nobody may %s", a)
		}
		if got := (Principal{User: "u", Admin: true}).Can(a, "acme"); got != (a == Administer || a == CreateOrg) {
			t.Errorf("an administrator who is no member may %s: %v", a, got)
		}
		if !SoleOwner("me").Can(a, "acme") {
			t.Errorf("the sole owner may not %s", a)
		}
	}
	for _, a := range Actions {
		if !seen[a] {
			t.Errorf("no row says who may %s", a)
		}
	}
	if (SoleOwner("me")).Can("project.unheard-of", "acme") {
		t.Error("an unknown action is allowed")
	}
}

func TestTokensNeverWiden(t *testing.T) {
	for _, r := range append([]Role{""}, Roles...) {
		for _, a := range Actions {
			for _, admin := range []bool{false, true} {
				user := Principal{User: "u", Admin: admin, Roles: map[string]Role{"acme": r}}
				for bits := range 1 << len(Scopes) {
					var scopes []Scope
					for i, s := range Scopes {
						if bits&(1<<i) != 0 {
							scopes = append(scopes, s)
						}
					}
					for _, org := range []string{"", "acme", "other"} {
						tok := user
						tok.Token, tok.Scopes, tok.Org = "t", scopes, org
						got := tok.Can(a, "acme")
						if got && !user.Can(a, "acme") {
							t.Fatalf("a token with %v may %s, its user (%q, admin %v) may not", scopes, a, r, admin)
						}
						if got && org == "other" {
							t.Fatalf("a token for another organization may %s", a)
						}
						if got && !slices.Contains(scopes, scopeOf(a)) {
							t.Fatalf("a token with %v may %s", scopes, a)
						}
						if !got && org != "other" && slices.Contains(scopes, scopeOf(a)) && user.Can(a, "acme") && (org == "" || a != Administer && a != CreateOrg) {
							t.Fatalf("a token with %v for %q may not %s", scopes, org, a)
						}
					}
				}
			}
		}
	}
}

func TestParse(t *testing.T) {
	for _, s := range []string{"", "Owner", "root", "owner "} {
		if _, err := ParseRole(s); !fault.Is(err, fault.Usage) {
			t.Errorf("role %q: %v", s, err)
		}
		if _, err := ParseTier(s); !fault.Is(err, fault.Usage) {
			t.Errorf("tier %q: %v", s, err)
		}
		if _, err := ParseScopes(s); !fault.Is(err, fault.Usage) {
			t.Errorf("scopes %q: %v", s, err)
		}
	}
	got, err := ParseScopes("write read,read")
	if err != nil || FormatScopes(got) != "read,write" {
		t.Errorf("scopes: %v, %v", got, err)
	}
}

func TestQuotas(t *testing.T) {
	for _, tier := range Tiers {
		if q := QuotaOf(tier); q.Secure != (tier != Free) || q.Projects == 0 {
			t.Errorf("%s: %+v", tier, q)
		}
	}
	if q := QuotaOf("gold"); q.Secure || Within(0, 1, q.Projects) {
		t.Errorf("an unknown tier: %+v", q)
	}
	if !Within(2, 1, 3) || Within(3, 1, 3) || !Within(1000, 1, Unlimited) {
		t.Error("limits are wrong")
	}
}

// FuzzParse: what is accepted reads the same again, and names nothing that the
// tables do not know.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "owner", "free", "read,write", "read read", "admin,,download", "acme", "api", "a/b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if r, err := ParseRole(s); err == nil && !slices.Contains(Roles, r) {
			t.Errorf("role %q", r)
		}
		if v, err := ParseTier(s); err == nil && QuotaOf(v) == (Quota{}) {
			t.Errorf("tier %q", v)
		}
		if v, err := ParseScopes(s); err == nil {
			again, err := ParseScopes(FormatScopes(v))
			if err != nil || !slices.Equal(v, again) || len(v) > len(Scopes) {
				t.Errorf("scopes %q: %v, again %v, %v", s, v, again, err)
			}
		}
		if CheckOrg(s) == nil && (reserved[s] || strings.ContainsAny(s, "/\\ \n%?#")) {
			t.Errorf("%q names an organization", s)
		}
	})
}
