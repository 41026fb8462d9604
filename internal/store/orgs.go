package store

import (
	"context"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"hallmark/internal/access"
	"hallmark/internal/fault"
)

// Org is an organization.
type Org struct {
	bun.BaseModel `bun:"table:orgs"`

	Name    string    `bun:"name,pk"`
	Tier    string    `bun:"tier"` // access.Tier
	Created time.Time `bun:"created"`
}

// Member is a user's role in an organization.
type Member struct {
	bun.BaseModel `bun:"table:members"`

	Org     string    `bun:"org,pk"`
	User    string    `bun:"user_id,pk"`
	Role    string    `bun:"role"` // access.Role
	Created time.Time `bun:"created"`
}

// Settings of a project. One without a row has the zero value.
type Settings struct {
	bun.BaseModel `bun:"table:settings"`

	Org           string `bun:"org,pk"`
	Name          string `bun:"name,pk"`
	Public        bool   `bun:"public"`         // whoever reaches the server may read it
	RequireSecure bool   `bun:"require_secure"` // commits, builds and downloads refuse below 100 % secure
}

// Waiver answers a gate for one package; it changes neither class nor percentage.
type Waiver struct {
	bun.BaseModel `bun:"table:waivers"`

	ID      string    `bun:"id,pk"`
	Org     string    `bun:"org"`
	Name    string    `bun:"name"`
	PURL    string    `bun:"purl"`  // with its version
	Owner   string    `bun:"owner"` // login name of who answers for it
	Reason  string    `bun:"reason"`
	Created time.Time `bun:"created"`
	Expires time.Time `bun:"expires"`
	Ended   time.Time `bun:"ended,nullzero"` // taken back before it expired
}

// Holds tells whether a waiver answers a gate at a time.
func (w Waiver) Holds(now time.Time) bool { return w.Ended.IsZero() && now.Before(w.Expires) }

func (o Org) place() place { return place{"orgs", o.Name, "name = ?", []any{o.Name}} }
func (m Member) place() place {
	return place{"members", m.Org + "/" + m.User, "org = ? AND user_id = ?", []any{m.Org, m.User}}
}
func (v Settings) place() place {
	return place{"settings", v.Org + "/" + v.Name, "org = ? AND name = ?", []any{v.Org, v.Name}}
}
func (w Waiver) place() place { return place{"waivers", w.ID, "id = ?", []any{w.ID}} }
func (e Audit) place() place  { return place{"audit", fmt.Sprint(e.Seq), "seq = ?", []any{e.Seq}} }

// CreateOrg makes an organization whose owner is the user with the id owner, if
// that is not empty; a name that is taken is fault.Conflict.
func (s *Store) CreateOrg(ctx context.Context, o Org, owner string, by By) error {
	if err := access.CheckOrg(o.Name); err != nil {
		return err
	}
	return s.change(ctx, "organization "+o.Name, func(ctx context.Context, tx bun.Tx) error {
		o.Created = utc(o.Created)
		if err := insert(ctx, s, tx, &o, "the name is taken"); err != nil {
			return err
		}
		if owner != "" {
			if err := s.setMember(ctx, tx, Member{Org: o.Name, User: owner, Role: "owner", Created: by.At}); err != nil {
				return err
			}
		}
		return s.record(ctx, tx, by.did("org.create", o.Name, "", o.Name, "tier "+o.Tier))
	})
}

// Org finds an organization.
func (s *Store) Org(ctx context.Context, name string) (Org, error) {
	return one[Org](ctx, s, fmt.Sprintf("organization %.80q", name), "name", "name = ?", name)
}

// Orgs lists all organizations by name.
func (s *Store) Orgs(ctx context.Context) ([]Org, error) {
	return list[Org](ctx, s, "organizations", "name", "1 = 1")
}

// SetTier moves an organization to another tier.
func (s *Store) SetTier(ctx context.Context, name, tier string, by By) error {
	return s.change(ctx, "tier of "+name, func(ctx context.Context, tx bun.Tx) error {
		o := Org{Name: name, Tier: tier}
		if err := update(ctx, s, tx, &o, "tier"); err != nil {
			return err
		}
		return s.record(ctx, tx, by.did("org.tier", name, "", name, tier))
	})
}

// Members lists an organization's members, by user.
func (s *Store) Members(ctx context.Context, org string) ([]Member, error) {
	return list[Member](ctx, s, "members", "created, user_id", "org = ?", org)
}

// MembershipsOf lists what a user is a member of, by organization.
func (s *Store) MembershipsOf(ctx context.Context, user string) ([]Member, error) {
	return list[Member](ctx, s, "memberships", "org", "user_id = ?", user)
}

// SetMember makes a user a member, or changes the role. An organization keeps an
// owner: fault.Conflict.
func (s *Store) SetMember(ctx context.Context, m Member, by By) error {
	return s.change(ctx, "member of "+m.Org, func(ctx context.Context, tx bun.Tx) error {
		m.Created = by.At
		if err := s.setMember(ctx, tx, m); err != nil {
			return err
		}
		if err := ownerLeft(ctx, tx, m.Org); err != nil {
			return err
		}
		return s.record(ctx, tx, by.did("member.set", m.Org, "", m.User, m.Role))
	})
}

func (s *Store) setMember(ctx context.Context, tx bun.Tx, m Member) error {
	m.Created = utc(m.Created)
	p := m.place()
	n, err := tx.NewSelect().Model((*Member)(nil)).Where(p.where, p.args...).Count(ctx)
	if err != nil {
		return err
	}
	if n > 0 {
		return update(ctx, s, tx, &m, "role")
	}
	return insert(ctx, s, tx, &m, "is a member already")
}

// RemoveMember ends a membership. An organization keeps an owner: fault.Conflict.
func (s *Store) RemoveMember(ctx context.Context, org, user string, by By) error {
	return s.change(ctx, "member of "+org, func(ctx context.Context, tx bun.Tx) error {
		if err := remove(ctx, s, tx, Member{Org: org, User: user}); err != nil {
			return err
		}
		if err := ownerLeft(ctx, tx, org); err != nil {
			return err
		}
		return s.record(ctx, tx, by.did("member.remove", org, "", user, ""))
	})
}

// ownerLeft is fault.Conflict if an organization that has members has no owner.
func ownerLeft(ctx context.Context, tx bun.Tx, org string) error {
	n, err := tx.NewSelect().Model((*Member)(nil)).Where("org = ? AND role = 'owner'", org).Count(ctx)
	if err != nil {
		return err
	}
	if n == 0 {
		return fault.Advise(fault.Conflict, "Make somebody else an owner first.", "organization %s would have no owner", org)
	}
	return nil
}

// Settings are a project's; of one that never had any, the zero value.
func (s *Store) Settings(ctx context.Context, org, name string) (Settings, error) {
	v, err := one[Settings](ctx, s, "settings", "org", "org = ? AND name = ?", org, name)
	if fault.Is(err, fault.NotFound) {
		return Settings{Org: org, Name: name}, nil
	}
	return v, err
}

// AllSettings lists the settings of all projects that have any.
func (s *Store) AllSettings(ctx context.Context) ([]Settings, error) {
	return list[Settings](ctx, s, "settings", "org, name", "1 = 1")
}

// SetSettings stores a project's settings.
func (s *Store) SetSettings(ctx context.Context, v Settings, by By) error {
	return s.change(ctx, fmt.Sprintf("settings of %s/%s", v.Org, v.Name), func(ctx context.Context, tx bun.Tx) error {
		p := v.place()
		n, err := tx.NewSelect().Model((*Settings)(nil)).Where(p.where, p.args...).Count(ctx)
		if err == nil && n > 0 {
			err = update(ctx, s, tx, &v, "public", "require_secure")
		} else if err == nil {
			err = insert(ctx, s, tx, &v, "they are there already")
		}
		if err != nil {
			return err
		}
		return s.record(ctx, tx, by.did("project.settings", v.Org, v.Name, v.Org+"/"+v.Name, fmt.Sprintf("public %v, require 100 %% secure %v", v.Public, v.RequireSecure)))
	})
}

// AddWaiver stores a waiver.
func (s *Store) AddWaiver(ctx context.Context, w Waiver, by By) error {
	return s.change(ctx, "waiver for "+w.PURL, func(ctx context.Context, tx bun.Tx) error {
		w.Created, w.Expires = utc(w.Created), utc(w.Expires)
		if w.ID == "" || w.PURL == "" || w.Owner == "" || w.Reason == "" || !w.Expires.After(w.Created) {
			return fault.New(fault.Usage, "it needs a package, an owner, a reason and an expiry in the future")
		}
		if err := insert(ctx, s, tx, &w, "its id is taken"); err != nil {
			return err
		}
		return s.record(ctx, tx, by.did("waiver.add", w.Org, w.Name, w.PURL, w.Reason))
	})
}

// Waivers lists a project's waivers, newest first; ended and expired ones too.
func (s *Store) Waivers(ctx context.Context, org, name string) ([]Waiver, error) {
	return list[Waiver](ctx, s, "waivers", "created DESC, id", "org = ? AND name = ?", org, name)
}

// EndWaiver takes a project's waiver back.
func (s *Store) EndWaiver(ctx context.Context, org, name, id string, by By) error {
	return s.change(ctx, "waiver "+id, func(ctx context.Context, tx bun.Tx) error {
		var ws []Waiver
		if err := tx.NewSelect().Model(&ws).Where("id = ? AND org = ? AND name = ? AND ended IS NULL", id, org, name).Scan(ctx); err != nil {
			return err
		}
		if len(ws) == 0 {
			return fault.New(fault.NotFound, "there is none to end")
		}
		w := ws[0]
		w.Ended = utc(by.At)
		if err := update(ctx, s, tx, &w, "ended"); err != nil {
			return err
		}
		return s.record(ctx, tx, by.did("waiver.end", org, name, w.PURL, ""))
	})
}
