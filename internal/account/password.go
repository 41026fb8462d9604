package account

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"

	"hallmark/internal/fault"
)

// Passwords by length (NIST SP 800-63B, 5.1.1.2: long enough, no rules about kinds
// of characters).
const (
	minPassword = 12  // characters
	maxPassword = 512 // bytes
)

// cost is what one hash costs (RFC 9106, 4).
type cost struct {
	memory  uint32 // KiB
	time    uint32 // passes
	threads uint8
}

// params are those of new hashes: 19 MiB and two passes, about 30 ms.
var params = cost{memory: 19 << 10, time: 2, threads: 1}

// hash is a password's argon2id hash in PHC string form.
func hash(password string, c cost) (string, error) {
	var salt [16]byte
	if _, err := rand.Read(salt[:]); err != nil {
		return "", err
	}
	key := argon2.IDKey([]byte(password), salt[:], c.time, c.memory, c.threads, 32)
	e := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, c.memory, c.time, c.threads, e.EncodeToString(salt[:]), e.EncodeToString(key)), nil
}

// matches tells whether a hash is that of a password; an error if it is no hash
// that this program makes.
func matches(phc, password string) (bool, error) {
	bad := fault.New(fault.Corrupt, "a stored password cannot be read")
	parts := strings.Split(phc, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return false, bad
	}
	var c cost
	if n, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &c.memory, &c.time, &c.threads); n != 3 || err != nil ||
		parts[3] != fmt.Sprintf("m=%d,t=%d,p=%d", c.memory, c.time, c.threads) ||
		c.memory < 8 || c.memory > 1<<20 || c.time < 1 || c.time > 20 || c.threads < 1 || c.threads > 16 {
		return false, bad
	}
	salt, err := base64.RawStdEncoding.DecodeString(parts[4])
	if err != nil || len(salt) < 8 || len(salt) > 64 {
		return false, bad
	}
	want, err := base64.RawStdEncoding.DecodeString(parts[5])
	if err != nil || len(want) < 16 || len(want) > 64 {
		return false, bad
	}
	got := argon2.IDKey([]byte(password), salt, c.time, c.memory, c.threads, uint32(len(want)))
	return subtle.ConstantTimeCompare(got, want) == 1, nil
}

// verify is matches, a few at a time: each takes memory and a processor.
func (s *Service) verify(ctx context.Context, phc, password string) (bool, error) {
	if err := s.take(ctx); err != nil {
		return false, err
	}
	defer func() { <-s.busy }()
	return matches(phc, password)
}

// maxWrong is how many answers that are refused, at whichever door, an address may
// send in a window.
const maxWrong = 60

// guess is verify for whoever signs in from somewhere; asked is false if too many
// passwords from there were wrong. That is looked at when its turn has come: however
// many wait at a time, no more are tried than that, and those that are being tried.
func (s *Service) guess(ctx context.Context, phc, password, from string) (ok, asked bool, err error) {
	if err := s.take(ctx); err != nil {
		return false, false, err
	}
	defer func() { <-s.busy }()
	if !s.slow.under(from, maxWrong) {
		return false, false, nil
	}
	ok, err = matches(phc, password)
	if !ok {
		s.slow.allow(from, maxWrong)
	}
	return ok, true, err
}

func (s *Service) take(ctx context.Context) error {
	select {
	case s.busy <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// hashNew checks a new password of the user name and hashes it.
func (s *Service) hashNew(ctx context.Context, name, password string) (string, error) {
	n := utf8.RuneCountInString(password)
	switch {
	case !utf8.ValidString(password):
		return "", fault.New(fault.Usage, "the password is not valid UTF-8")
	case n < minPassword:
		return "", fault.Advise(fault.Usage, "Several words that do not belong together are easy to keep in mind.", "the password has %d characters: at least %d", n, minPassword)
	case len(password) > maxPassword:
		return "", fault.New(fault.Usage, "the password has %d bytes: at most %d", len(password), maxPassword)
	case simple(password, name):
		return "", fault.New(fault.Usage, "the password is too easy to guess: it repeats itself, or holds little but the login name")
	}
	if err := s.take(ctx); err != nil {
		return "", err
	}
	defer func() { <-s.busy }()
	return hash(password, params)
}

// simple tells whether a password is one of those that are guessed first: fewer
// than five different characters, or little that is not the login name, the
// product's, or the word password.
func simple(password, name string) bool {
	p := strings.ToLower(password)
	seen := map[rune]bool{}
	for _, r := range p {
		seen[r] = true
	}
	if len(seen) < 5 {
		return true
	}
	for _, w := range []string{strings.ToLower(name), "hallmark", "password", "passwort", "123456789", "12345678", "qwertyuiop", "qwertz", "qwerty"} {
		if len(w) > 2 {
			p = strings.ReplaceAll(p, w, "")
		}
	}
	return utf8.RuneCountInString(p) < minPassword/2
}
