package access

import (
	"regexp"

	"hallmark/internal/fault"
)

// nameRE is what organizations, projects, branches and users may be called: what
// is safe in a path, a URL and a shell.
var nameRE = regexp.MustCompile(`^[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?$`)

// reserved are first parts of a path of the server's that are no organization.
var reserved = map[string]bool{"api": true, "r": true, "evidence": true, "log": true, "builder": true,
	"verifier": true, "static": true, "healthz": true, "metrics": true, "openapi.json": true, "openapi.yaml": true, "openapi-3.0.json": true, "openapi-3.0.yaml": true, "trusted_root.json": true,
	"sign-in": true, "sign-out": true, "link": true, "account": true, "admin": true, "orgs": true, "new": true, "search": true,
	"events": true, "badge": true, "audit": true, "artifact": true, "oidc": true, "robots.txt": true, "favicon.ico": true}

// CheckName is fault.Usage if s cannot name a what: 1 to 64 of a-z, 0-9, dot, dash
// and underscore, with a letter or digit at both ends.
func CheckName(what, s string) error {
	if !nameRE.MatchString(s) {
		return fault.New(fault.Usage, "%s %.80q: want 1 to 64 of a-z, 0-9, dot, dash and underscore, with a letter or digit at both ends", what, s)
	}
	return nil
}

// Reserved tells whether a first part of a path belongs to the server itself, so
// that no organization can have the name.
func Reserved(s string) bool { return reserved[s] }

// CheckOrg is fault.Usage if s cannot name an organization: as CheckName, and no
// page of the server may have the name.
func CheckOrg(s string) error {
	if err := CheckName("organization", s); err != nil {
		return err
	}
	if reserved[s] {
		return fault.New(fault.Usage, "%q cannot name an organization: the name is reserved for pages of the server", s)
	}
	return nil
}

// CheckProject is fault.Usage if org and name cannot name a project, ORG/PROJECT.
func CheckProject(org, name string) error {
	if nameRE.MatchString(org) && nameRE.MatchString(name) {
		return CheckOrg(org)
	}
	return fault.Advise(fault.Usage, "Use lower case letters, digits, and . _ - within, such as acme/web.",
		"project name %.140q: want ORG/PROJECT", org+"/"+name)
}
