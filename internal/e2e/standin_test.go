package e2e

import (
	"os"
	"testing"
)

// standIn gives a project a Python of its own: the seed's, copied, as a recipe of the
// project's (testdata/standin), and the libraries of recipes that it asks for, on the
// seed's C library. It is installed with sys:python, takes seconds, and is never secure.
func standIn(t *testing.T, dir string, libraries ...string) {
	t.Helper()
	b, err := os.ReadFile("testdata/standin/python.yaml")
	if err != nil {
		t.Fatal(err)
	}
	ownRecipe(t, dir, "python", string(b))
	onTheSeed(t, dir, append([]string{"zlib"}, libraries...)...)
}
