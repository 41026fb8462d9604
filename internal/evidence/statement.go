package evidence

import (
	"time"

	"hallmark/internal/canonical"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
)

// StatementType is in-toto Statement v1's own type.
const StatementType = "https://in-toto.io/Statement/v1"

// Predicate types. The first two are SLSA's.
const (
	TypeProvenance = "https://slsa.dev/provenance/v1"
	TypeVSA        = "https://slsa.dev/verification_summary/v1"
	TypeRebuild    = "urn:hallmark:rebuild:v1" // record.RebuildSchema
)

// maxStatement is the most bytes that a statement may have.
const maxStatement = 8 << 20

// Subject is the artifact that a statement is about.
type Subject struct {
	Name   string        // file name; people read it, nothing is decided by it
	Digest digest.Digest // of the file
}

// Statement is something that can be signed. Predicate is anything that
// encoding/json can write.
type Statement struct {
	Subject       Subject
	PredicateType string
	Predicate     any
}

// Marshal gives the in-toto statement as canonical JSON (RFC 8785). A statement
// without a proper subject or type is fault.Usage.
func (s Statement) Marshal() ([]byte, error) {
	switch {
	case s.Subject.Name == "":
		return nil, fault.New(fault.Usage, "statement %s: its subject has no name", s.PredicateType)
	case !s.Subject.Digest.Valid():
		return nil, fault.New(fault.Usage, "statement %s about %s: %.80q is no digest", s.PredicateType, s.Subject.Name, s.Subject.Digest)
	case s.PredicateType == "":
		return nil, fault.New(fault.Usage, "statement about %s: no predicate type", s.Subject.Name)
	case s.Predicate == nil:
		return nil, fault.New(fault.Usage, "statement %s about %s: no predicate", s.PredicateType, s.Subject.Name)
	}
	b, err := canonical.JSON(statementJSON{
		Type:          StatementType,
		Subject:       []descriptor{{Name: s.Subject.Name, Digest: sha256Set(s.Subject.Digest)}},
		PredicateType: s.PredicateType,
		Predicate:     s.Predicate,
	})
	if err != nil {
		return nil, err
	}
	if len(b) > maxStatement {
		return nil, fault.New(fault.Usage, "statement %s about %s has %d bytes: at most %d", s.PredicateType, s.Subject.Name, len(b), maxStatement)
	}
	return b, nil
}

type statementJSON struct {
	Type          string       `json:"_type"`
	Subject       []descriptor `json:"subject"`
	PredicateType string       `json:"predicateType"`
	Predicate     any          `json:"predicate"`
}

// descriptor is in-toto's ResourceDescriptor v1.
type descriptor struct {
	Name        string            `json:"name,omitempty"`
	URI         string            `json:"uri,omitempty"`
	Digest      map[string]string `json:"digest,omitempty"`
	MediaType   string            `json:"mediaType,omitempty"`
	Annotations map[string]any    `json:"annotations,omitempty"`
}

func sha256Set(d digest.Digest) map[string]string { return map[string]string{"sha256": d.Hex()} }

// stampTime writes a time as the predicates want it: RFC 3339, UTC, to the
// second.
func stampTime(t time.Time) string { return t.UTC().Format(time.RFC3339) }
