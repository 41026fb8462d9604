package pypi

import (
	"strings"
	"testing"
)

func TestLicence(t *testing.T) {
	for in, want := range map[string]string{
		"Name: a\nLicense-Expression: MIT OR Apache-2.0\nLicense: BSD\n":                                                       "MIT OR Apache-2.0",
		"Name: a\nLicense: BSD 3-Clause\n":                                                                                     "BSD 3-Clause",
		"Classifier: License :: OSI Approved :: MIT License\nClassifier: License :: OSI Approved\nLicense: see the file\n":     "MIT License",
		"Classifier: License :: OSI Approved :: MIT License\nClassifier: License :: Public Domain\nClassifier: Topic :: X\n\n": "MIT License, Public Domain",
		"License: UNKNOWN\n": "",
		"License: " + strings.Repeat("All rights reserved. ", 20) + "\n": "",
		"License: a\x01b\n": "",
		"":                  "",
		"\n\nLicense: MIT":  "",
	} {
		if got := Licence([]byte(in)); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// FuzzLicence: what Licence gives is one line of a bounded length.
func FuzzLicence(f *testing.F) {
	f.Add([]byte("License-Expression: MIT\nClassifier: License :: OSI Approved :: MIT License\nLicense: MIT\n"))
	f.Add([]byte("license: a\r\n b\r\rClassifier: License :: :\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if l := Licence(b); len(l) > maxLicence || strings.ContainsAny(l, "\r\n\x00") {
			t.Fatalf("%q gives %q", b, l)
		}
	})
}
