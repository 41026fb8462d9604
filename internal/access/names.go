package access

import (
	"regexp"
	"strings"

	"hallmark/internal/fault"
)

// nameRE is what organizations, projects and users may be called: what
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

// branchRE is what branches may be called, but for what CheckBranch adds.
var branchRE = regexp.MustCompile(`^[A-Za-z0-9](?:[A-Za-z0-9._/-]*[A-Za-z0-9_-])?$`)

// maxBranch is how many bytes a branch's name may have.
const maxBranch = 64

// CheckBranch is fault.Usage if s cannot name a branch. What can is a strict subset
// of what git takes (git-check-ref-format): letters, digits, dot, dash, underscore
// and slash; nothing begins with a dot or a dash, and no part ends in ".lock".
func CheckBranch(s string) error {
	ok := len(s) <= maxBranch && branchRE.MatchString(s) && s != "HEAD"
	for _, part := range strings.Split(s, "/") {
		ok = ok && branchRE.MatchString(part) && !strings.Contains(part, "..") && !strings.HasSuffix(strings.ToLower(part), ".lock")
	}
	if !ok {
		return fault.Advise(fault.Usage, "Such as try-flask-3 or feature/new-api.",
			"branch %.80q: want 1 to 64 of letters, digits, dot, dash, underscore and slash; each part between slashes begins with a letter or digit, ends with neither a dot nor .lock, and has no two dots", s)
	}
	return nil
}
