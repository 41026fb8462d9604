package build

import (
	"strings"
	"testing"

	"hallmark/internal/record"
)

func TestWanted(t *testing.T) {
	as := []record.Attempt{{Kind: "lookup", Target: "Files.Example.org."}, {Kind: "connect", Target: "192.0.2.7:443"}}
	for log, want := range map[string]string{
		"Downloading https://files.example.org/a/b-1.0.tar.gz to build/":    "https://files.example.org/a/b-1.0.tar.gz",
		"see https://docs.example.org/x, get 'https://files.example.org/y'": "https://files.example.org/y",
		"from http://192.0.2.7/z?key=secret#x.":                             "http://192.0.2.7/z",
		"https://files.example.org":                                         "",
		"https://user:secret@files.example.org/x":                           "",
		"https://files.example.org.evil.example/x":                          "",
		"https://files.example.org\x1b[2J/x":                                "",
		"":                                                                  "",
	} {
		if got := wanted([]byte(log), as); got != want {
			t.Errorf("%q: %q, want %q", log, got, want)
		}
	}
}

func TestReachedSaysWhatItWanted(t *testing.T) {
	as := []record.Attempt{{Kind: "lookup", Target: "files.example.org", Count: 3}}
	log := []byte("fetching https://files.example.org/lib.tar.gz\n")
	for want, said := range map[string]*record.Failure{
		"The build reached for the network: lookup files.example.org; it tried to download https://files.example.org/lib.tar.gz.": {Class: record.FailBuild, Message: "x."},
		"The build needs a; to get it, it reached for the network: lookup files.example.org; it tried":                            {Class: record.FailMissingTool, Missing: "a", Message: "The build needs a."},
		"The build needs b; it also reached for the network: lookup files.example.org; it tried":                                  {Class: record.FailMissingLib, Missing: "b", Message: "The build needs b."},
	} {
		f := reached(as, log, said)
		if f.Class != record.FailNetwork || !strings.HasPrefix(f.Message, want) || f.Missing != said.Missing || f.Advice == "" {
			t.Errorf("%+v, want %q", f, want)
		}
	}
	var many []record.Attempt
	for range 9 {
		many = append(many, as[0])
	}
	if f := reached(many, nil, &record.Failure{}); strings.Count(f.Message, "lookup") != 5 || !strings.Contains(f.Message, "and 4 more") {
		t.Error(f.Message)
	}
}

func FuzzWanted(f *testing.F) {
	f.Add([]byte("get https://a.example/x"), "a.example")
	f.Fuzz(func(t *testing.T, log []byte, host string) {
		u := wanted(log, []record.Attempt{{Kind: "lookup", Target: host}})
		if len(u) > 400 || strings.ContainsFunc(u, func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Errorf("%q", u)
		}
	})
}
