package account

import (
	"strings"
	"testing"
)

func TestHash(t *testing.T) {
	c := cost{memory: 64, time: 1, threads: 1}
	h, err := hash("a password of some length", c)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := matches(h, "a password of some length"); !ok || err != nil {
		t.Errorf("its own password: %v, %v", ok, err)
	}
	if ok, err := matches(h, "a password of some lengtH"); ok || err != nil {
		t.Errorf("another password: %v, %v", ok, err)
	}
	if again, _ := hash("a password of some length", c); again == h {
		t.Error("two hashes of a password are the same: no salt")
	}
}

// FuzzMatches: whatever stands in the row, it costs no more than the bounds allow
// and nothing but a whole hash is one.
func FuzzMatches(f *testing.F) {
	h, _ := hash("password", cost{memory: 8, time: 1, threads: 1})
	for _, s := range []string{h, "", "$", "$argon2id$v=19$m=8,t=1,p=1$$", "$argon2id$v=19$m=4294967295,t=1,p=1$c2FsdHNhbHQ$a2V5a2V5a2V5a2V5a2V5", strings.Replace(h, "t=1", "t=01", 1), strings.Replace(h, "argon2id", "argon2i", 1)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if strings.Count(s, "$") == 5 && !strings.HasPrefix(s, "$argon2id$v=19$m=8,t=1,p=1$") {
			return // dear, and bounded
		}
		ok, err := matches(s, "password")
		if ok && err != nil {
			t.Error("right and wrong")
		}
		if err != nil && strings.Contains(err.Error(), "$") {
			t.Error("the error holds the hash")
		}
	})
}
