package server

import (
	"testing"
	"time"

	"hallmark/internal/account"
	"hallmark/internal/remedy"
)

func TestSentence(t *testing.T) {
	for in, want := range map[string]string{
		"the login name or the password is wrong":         "The login name or the password is wrong",
		"there is no project acme/web that you may read":  "There is no project acme/web that you may read",
		"pkg:pypi/six@1.17.0 is a secure artifact":        "pkg:pypi/six@1.17.0 is a secure artifact",
		"flask is not known at its index":                 "flask is not known at its index",
		"acme has 3 projects, as many as its tier allows": "acme has 3 projects, as many as its tier allows",
		"Something": "Something", "": "", " the": " the",
	} {
		if got := sentence(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

func TestTokenHost(t *testing.T) {
	s := &Server{opts: Options{ExternalURL: "https://hallmark.example:8420"}}
	if got := s.tokenHost(); got != "" {
		t.Errorf("without accounts: %q", got)
	}
	s.opts.Accounts = new(account.Service)
	if got := s.tokenHost(); got != "hallmark.example" {
		t.Errorf("with accounts: %q", got)
	}
}

func TestMinutes(t *testing.T) {
	for in, want := range map[time.Duration]string{
		0: "0 minutes", time.Minute + 59*time.Second: "1 minute", 600 * time.Minute: "600 minutes",
		30000 * time.Minute: "30,000 minutes", 1234567 * time.Minute: "1,234,567 minutes",
	} {
		if got := minutes(in); got != want {
			t.Errorf("%s are %q, want %q", in, got, want)
		}
	}
}

func TestToDo(t *testing.T) {
	for want, in := range map[string]remedy.Work{"": {Done: 3}, "1 build": {First: 1}, "2 builds, 1 second build, 3 sources to fetch": {First: 2, Rebuild: 1, Fetch: 3}} {
		if got := toDo(in); got != want {
			t.Errorf("%+v is %q, want %q", in, got, want)
		}
	}
	if got := inDays(365, "2026-11-23") + inDays(1, "x"); got != "2027-11-23" {
		t.Errorf("a year on: %q", got)
	}
	for in, want := range map[string]string{"2026-11-23T17:34:37Z": "23 November 2026, 17:34 UTC", "yesterday": "yesterday"} {
		if got := when(in); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
}
