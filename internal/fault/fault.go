// Package fault holds the few kinds of error that callers branch on.
//
// An error of a kind is made with New or Wrap and found again with Is. The text
// says what was attempted, on what, and why it failed; Advice, where somebody
// gave it, says what to do next. Everything else is an ordinary error: one that
// nobody but a person has to understand.
package fault

import (
	"errors"
	"fmt"
)

// Kind is what a caller may do about an error.
type Kind string

// The kinds. Surfaces turn them into exit codes and HTTP statuses in one place
// each.
const (
	Usage       Kind = "usage"       // the person asked for something malformed: exit 2, HTTP 400
	NotFound    Kind = "not-found"   // what was named is not there: HTTP 404
	Conflict    Kind = "conflict"    // the state does not allow it: HTTP 409
	Denied      Kind = "denied"      // a policy, gate or tier said no: exit 3, HTTP 403
	Unverified  Kind = "unverified"  // evidence or digest did not verify: exit 4, HTTP 422
	Unavailable Kind = "unavailable" // something outside did not answer; trying again may help: HTTP 502
	Hostile     Kind = "hostile"     // outside input broke a limit or a rule of its format: HTTP 422
	Unsupported Kind = "unsupported" // the host or this version cannot do it
	Corrupt     Kind = "corrupt"     // what we stored is not what we stored: stop the process
)

// Error is an error with its kind.
type Error struct {
	Kind   Kind
	Advice string // what to do next, a sentence; may be empty
	Err    error
}

// Error is the text of the cause and the advice behind it.
func (e *Error) Error() string {
	if e.Advice == "" {
		return e.Err.Error()
	}
	return e.Err.Error() + "\n  " + e.Advice
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// New makes an error of a kind; format and args as in fmt.Errorf, %w included.
func New(k Kind, format string, args ...any) error {
	return &Error{Kind: k, Err: fmt.Errorf(format, args...)}
}

// Advise makes an error of a kind with advice.
func Advise(k Kind, advice, format string, args ...any) error {
	return &Error{Kind: k, Advice: advice, Err: fmt.Errorf(format, args...)}
}

// Is tells whether the outermost kind in err's chain is k.
func Is(err error, k Kind) bool { return KindOf(err) == k }

// KindOf gives the outermost kind in err's chain, or "" if it has none.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return ""
}
