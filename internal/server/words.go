package server

import (
	"net/url"
	"strconv"
	"strings"
	"time"
)

// beginnings are the words that our own sentences begin with, as errors have them:
// in small letters. Whatever else stands at a beginning may be a name and stays as it
// is: a package's, an organization's, a file's.
var beginnings = map[string]bool{
	"a": true, "an": true, "another": true, "each": true, "every": true, "it": true, "no": true, "nobody": true, "nothing": true, "one": true,
	"only": true, "somebody": true, "that": true, "the": true, "there": true, "these": true, "this": true, "to": true, "too": true,
	"what": true, "whoever": true, "you": true, "your": true,
}

// sentence writes an error's first letter large, for a page where it stands alone.
func sentence(s string) string {
	if word, _, _ := strings.Cut(s, " "); beginnings[word] {
		return strings.ToUpper(s[:1]) + s[1:]
	}
	return s
}

// tokenHost is what ~/.netrc calls this server: the host without its port. It is empty
// where there are no accounts, and so no tokens.
func (s *Server) tokenHost() string {
	if s.opts.Accounts == nil {
		return ""
	}
	u, err := url.Parse(s.opts.ExternalURL)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// minutes are whole ones: "1 minute", "30,000 minutes".
func minutes(d time.Duration) string {
	n := int(d.Minutes())
	if n == 1 {
		return "1 minute"
	}
	digits := strconv.Itoa(n)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits + " minutes"
}
