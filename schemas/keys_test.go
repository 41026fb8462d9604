package schemas_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"hallmark/internal/keys"
)

// TestRing: what a rotation and a revocation leave is as the schema says.
func TestRing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	if _, err := keys.Open(dir); err != nil {
		t.Fatal(err)
	}
	var first string
	for _, c := range []keys.Change{{Role: keys.RoleLog, Size: 3, Checkpoint: "x"}, {Role: keys.RoleSigner}, {Role: keys.RoleSigner, Revoke: "first", Since: time.Now().Add(-time.Hour), Why: "stolen", Index: 1}} {
		s, err := keys.Read(dir)
		if err != nil {
			t.Fatal(err)
		}
		if first == "" {
			first = s.Ring().Signers[0].ID
		}
		if c.Revoke != "" {
			c.Revoke = first
		}
		c.Now = time.Now()
		if _, err := s.Apply(c); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, "ring.json"))
	if err != nil {
		t.Fatal(err)
	}
	var doc any
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	check(t, "keys.v1", doc)
}
