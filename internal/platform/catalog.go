package platform

import (
	"hallmark/internal/access"
	"hallmark/internal/fault"
)

// Search is nil if w may look through the catalog: whoever reads projects of some
// organization. What the catalog holds is public packages and names no project.
func (s *Service) Search(w Who) error {
	return s.somewhere(w, access.ReadProject, "searching the catalog")
}

// LookUp is nil if w may have the server ask an index about a name: whoever changes
// projects of some organization, since that is what it is for.
func (s *Service) LookUp(w Who) error {
	return s.somewhere(w, access.ChangeProject, "looking a package up at its index")
}

// somewhere is nil if w may do a in one organization at least.
func (s *Service) somewhere(w Who, a access.Action, doing string) error {
	switch {
	case !w.SignedIn():
		return fault.Advise(fault.Denied, "Sign in, or send a token.", "%s needs an account", doing)
	case w.Sole:
		return nil
	}
	for org := range w.Roles {
		if w.Can(a, org) {
			return nil
		}
	}
	if w.Token != "" {
		return fault.Advise(fault.Denied, "Make a token with the scope for it; its user's role has to allow it, too.", "this token does not allow %s", doing)
	}
	return fault.Advise(fault.Denied, "Make an organization, or ask an owner of one for a role that allows it.", "%s is for members of an organization", doing)
}
