package platform

import (
	"context"
	"strings"
	"time"

	"hallmark/internal/access"
	"hallmark/internal/fault"
	"hallmark/internal/store"
)

// CreateOrg makes an organization whose owner is w. Its tier is free until an
// administrator says otherwise; the owner of a single user's server runs the
// builder, so there it is enterprise.
func (s *Service) CreateOrg(ctx context.Context, w Who, name string) error {
	if !w.Can(access.CreateOrg, "") {
		return denied(w, access.CreateOrg, name)
	}
	o := store.Org{Name: name, Tier: string(access.Free), Created: s.now()}
	owner := w.User
	if w.Sole {
		o.Tier, owner = string(access.Enterprise), ""
	}
	return s.rows.CreateOrg(ctx, o, owner, s.by(w))
}

// Member is a member with its names.
type Member struct {
	User, Name, Display string
	Role                access.Role
	Since               time.Time
}

// Org is an organization as its members see it.
type Org struct {
	Name    string
	Tier    access.Tier
	Quota   access.Quota
	Used    time.Duration // build time in access.Window
	Members []Member
	Created time.Time
}

// Org gives an organization to those who may see it.
func (s *Service) Org(ctx context.Context, w Who, name string) (Org, error) {
	row, err := s.rows.Org(ctx, name)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return Org{}, err
	}
	if err != nil || !w.Can(access.ReadOrg, name) {
		return Org{}, hiddenOrg(w, name)
	}
	o := Org{Name: row.Name, Tier: access.Tier(row.Tier), Quota: access.QuotaOf(access.Tier(row.Tier)), Created: row.Created}
	if o.Used, err = s.rows.BuildTime(ctx, name, s.now().Add(-access.Window)); err != nil {
		return Org{}, err
	}
	ms, err := s.rows.Members(ctx, name)
	if err != nil {
		return Org{}, err
	}
	for _, m := range ms {
		u, err := s.rows.User(ctx, m.User)
		if err != nil {
			return Org{}, err
		}
		o.Members = append(o.Members, Member{User: u.ID, Name: u.Name, Display: u.Display, Role: access.Role(m.Role), Since: m.Created})
	}
	return o, nil
}

// Orgs lists the organizations that w may see, by name; an administrator sees the
// names and tiers of all.
func (s *Service) Orgs(ctx context.Context, w Who) ([]store.Org, error) {
	rows, err := s.rows.Orgs(ctx)
	if err != nil {
		return nil, err
	}
	var out []store.Org
	for _, o := range rows {
		if w.Can(access.ReadOrg, o.Name) || w.Can(access.Administer, "") {
			out = append(out, o)
		}
	}
	return out, nil
}

// inOrg is nil if w may do a in an organization that it may see.
func (s *Service) inOrg(ctx context.Context, w Who, a access.Action, org string) error {
	if _, err := s.rows.Org(ctx, org); err != nil || !w.Can(access.ReadOrg, org) {
		if err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
		return hiddenOrg(w, org)
	}
	if !w.Can(a, org) {
		return denied(w, a, org)
	}
	return nil
}

// SetMember makes the user of a login name a member, or changes the role.
func (s *Service) SetMember(ctx context.Context, w Who, org, user string, role access.Role) error {
	if err := s.inOrg(ctx, w, access.ManageMembers, org); err != nil {
		return err
	}
	if _, err := access.ParseRole(string(role)); err != nil {
		return err
	}
	u, err := s.rows.UserByName(ctx, user)
	if fault.Is(err, fault.NotFound) {
		return fault.Advise(fault.NotFound, "Make an invitation: whoever follows its link joins, with a new account if need be.", "nobody has the login name %.64q", user)
	}
	if err != nil {
		return err
	}
	ms, err := s.rows.Members(ctx, org)
	if err != nil {
		return err
	}
	there := false
	for _, m := range ms {
		there = there || m.User == u.ID
	}
	if !there {
		if err := s.roomFor(ctx, org, len(ms)); err != nil {
			return err
		}
	}
	return s.rows.SetMember(ctx, store.Member{Org: org, User: u.ID, Role: string(role)}, s.by(w))
}

// roomFor is fault.Denied if an organization of have members can have no more.
func (s *Service) roomFor(ctx context.Context, org string, have int) error {
	o, err := s.rows.Org(ctx, org)
	if err != nil {
		return err
	}
	if limit := access.QuotaOf(access.Tier(o.Tier)).Members; !access.Within(have, 1, limit) {
		return fault.Advise(fault.Denied, "An administrator of the platform can move it to another tier.",
			"%s has %d members, and its tier, %s, allows %d", org, have, o.Tier, limit)
	}
	return nil
}

// RemoveMember ends the membership of the user of a login name. Everybody may end
// his own.
func (s *Service) RemoveMember(ctx context.Context, w Who, org, user string) error {
	a := access.ManageMembers
	if user == w.Name && w.Token == "" {
		a = access.ReadOrg
	}
	if err := s.inOrg(ctx, w, a, org); err != nil {
		return err
	}
	u, err := s.rows.UserByName(ctx, user)
	if err != nil {
		return err
	}
	return s.rows.RemoveMember(ctx, org, u.ID, s.by(w))
}

// Invite gives the secret of a link that makes whoever follows it a member.
func (s *Service) Invite(ctx context.Context, w Who, org string, role access.Role) (string, error) {
	if err := s.inOrg(ctx, w, access.ManageMembers, org); err != nil {
		return "", err
	}
	if _, err := access.ParseRole(string(role)); err != nil {
		return "", err
	}
	ms, err := s.rows.Members(ctx, org)
	if err != nil {
		return "", err
	}
	if err := s.roomFor(ctx, org, len(ms)); err != nil {
		return "", err
	}
	return s.accounts.NewLink(ctx, store.Link{Purpose: store.LinkInvite, Org: org, Role: string(role)}, s.by(w))
}

// SetTier moves an organization to a tier; administrators of the platform alone.
func (s *Service) SetTier(ctx context.Context, w Who, org string, tier access.Tier) error {
	if !w.Can(access.Administer, "") {
		return denied(w, access.Administer, org)
	}
	if _, err := access.ParseTier(string(tier)); err != nil {
		return err
	}
	return s.rows.SetTier(ctx, org, string(tier), s.by(w))
}

// Users lists all accounts; administrators of the platform alone.
func (s *Service) Users(ctx context.Context, w Who) ([]store.User, error) {
	if !w.Can(access.Administer, "") {
		return nil, denied(w, access.Administer, "")
	}
	us, err := s.rows.Users(ctx)
	for i := range us {
		us[i].Password = "" // nobody has a use for the hash
	}
	return us, err
}

// SetUser makes a user an administrator or disables it; administrators of the
// platform alone.
func (s *Service) SetUser(ctx context.Context, w Who, name string, admin, disabled bool) error {
	if !w.Can(access.Administer, "") {
		return denied(w, access.Administer, "")
	}
	u, err := s.rows.UserByName(ctx, name)
	if err != nil {
		return err
	}
	var said []string
	if u.Admin != admin {
		said = append(said, map[bool]string{true: "administrator", false: "no administrator any more"}[admin])
	}
	if u.Disabled != disabled {
		said = append(said, map[bool]string{true: "disabled", false: "enabled"}[disabled])
	}
	if len(said) == 0 {
		return nil
	}
	u.Admin, u.Disabled = admin, disabled
	return s.rows.SetUser(ctx, u, s.by(w), strings.Join(said, ", "))
}

// ResetPassword gives the secret of a link that sets a user's password anew;
// administrators of the platform alone.
func (s *Service) ResetPassword(ctx context.Context, w Who, name string) (string, error) {
	if !w.Can(access.Administer, "") {
		return "", denied(w, access.Administer, "")
	}
	u, err := s.rows.UserByName(ctx, name)
	if err != nil {
		return "", err
	}
	return s.accounts.NewLink(ctx, store.Link{Purpose: store.LinkPassword, User: u.ID}, s.by(w))
}

// Audit lists the audit log, newest first: of an organization for its owners and
// auditors, of everything (org empty) for administrators of the platform.
func (s *Service) Audit(ctx context.Context, w Who, org string, before int64, limit int) ([]store.Audit, error) {
	if org == "" {
		if !w.Can(access.Administer, "") {
			return nil, denied(w, access.Administer, "")
		}
	} else if err := s.inOrg(ctx, w, access.ReadAudit, org); err != nil {
		return nil, err
	}
	return s.rows.AuditLog(ctx, org, before, min(max(limit, 1), 10_000))
}

// Settings are a project's, for its readers.
func (s *Service) Settings(ctx context.Context, w Who, org, name string) (store.Settings, error) {
	if err := s.Read(ctx, w, org, name); err != nil {
		return store.Settings{}, err
	}
	return s.rows.Settings(ctx, org, name)
}

// SetSettings changes who may see a project and what it demands.
func (s *Service) SetSettings(ctx context.Context, w Who, v store.Settings) error {
	if err := s.may(ctx, w, access.SetProject, v.Org, v.Name); err != nil {
		return err
	}
	return s.rows.SetSettings(ctx, v, s.by(w))
}

// maxWaiver is how long a waiver may hold.
const maxWaiver = 366 * 24 * time.Hour

// Waive grants a waiver for a package of the project, with its version.
func (s *Service) Waive(ctx context.Context, w Who, org, name, purl, owner, reason string, until time.Time) error {
	if err := s.may(ctx, w, access.WaiveProject, org, name); err != nil {
		return err
	}
	now := s.now()
	reason = strings.TrimSpace(strings.ToValidUTF8(reason, ""))
	switch {
	case !strings.HasPrefix(purl, "pkg:") || !strings.Contains(purl, "@") || len(purl) > 500:
		return fault.New(fault.Usage, "waiver for %.100q: want a package with its version, such as pkg:pypi/six@1.17.0", purl)
	case reason == "" || len(reason) > maxMessage:
		return fault.New(fault.Usage, "a waiver needs a reason of at most %d bytes", maxMessage)
	case !until.After(now) || until.After(now.Add(maxWaiver)):
		return fault.New(fault.Usage, "a waiver ends at a day within the next year")
	}
	if owner == "" {
		owner = w.Name
	}
	return s.rows.AddWaiver(ctx, store.Waiver{ID: s.newID(), Org: org, Name: name, PURL: purl, Owner: owner, Reason: reason, Created: now, Expires: until}, s.by(w))
}

// Waivers lists a project's waivers, newest first, for its readers.
func (s *Service) Waivers(ctx context.Context, w Who, org, name string) ([]store.Waiver, error) {
	if err := s.Read(ctx, w, org, name); err != nil {
		return nil, err
	}
	return s.rows.Waivers(ctx, org, name)
}

// EndWaiver takes a waiver back.
func (s *Service) EndWaiver(ctx context.Context, w Who, org, name, id string) error {
	if err := s.may(ctx, w, access.WaiveProject, org, name); err != nil {
		return err
	}
	return s.rows.EndWaiver(ctx, org, name, id, s.by(w))
}
