package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hallmark/internal/keys"
	"hallmark/internal/policy"
)

// builtWhen is what the provenance of an artifact says of its build, as exported.
type builtWhen struct {
	builder, invocation string
	started             time.Time
}

// provenanceOf exports an artifact's evidence and reads its provenance.
func (p project) provenanceOf(t *testing.T, name string) builtWhen {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "out")
	p.run(t, done, "export", "evidence", name, "-o", dir)
	b, err := os.ReadFile(filepath.Join(dir, "provenance.sigstore.json"))
	if err != nil {
		t.Fatal(err)
	}
	var bundle struct {
		Envelope struct{ Payload []byte } `json:"dsseEnvelope"`
	}
	var st struct {
		Predicate struct {
			RunDetails struct {
				Builder  struct{ ID string }
				Metadata struct {
					InvocationID string
					StartedOn    time.Time
				}
			}
		}
	}
	if err := json.Unmarshal(b, &bundle); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(bundle.Envelope.Payload, &st); err != nil {
		t.Fatal(err)
	}
	d := st.Predicate.RunDetails
	return builtWhen{d.Builder.ID, d.Metadata.InvocationID, d.Metadata.StartedOn}
}

// TestBuiltAgainAfterARevocation: what a revoked signer signed since it was stolen is
// community, and due again; the next builds make it anew in the sandbox, twice, and it
// is secure under the new key, with the same bytes. What was signed before is neither
// doubted nor built again.
func TestBuiltAgainAfterARevocation(t *testing.T) {
	need(t)
	data, err := newData(filepath.Join(world.cache, "revoked"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(data) })
	env := index(t, sdist{Name: "e2e-before", Version: "1.0"}, sdist{Name: "e2e-since", Version: "1.0", Requires: []string{"e2e-before"}})
	before := newProjectIn(t, data, "acme/before", env, "e2e-before")
	if d := before.status(t, done, "builds"); *d.Summary.PercentSecure != 100 {
		t.Fatalf("%+v", d.Artifacts)
	}
	time.Sleep(1100 * time.Millisecond) // time stamps are told in seconds
	stolen := time.Now().UTC()
	since := newProjectIn(t, data, "acme/since", env, "e2e-since")
	d := since.status(t, done, "builds")
	if *d.Summary.PercentSecure != 100 {
		t.Fatalf("%+v", d.Artifacts)
	}
	first := map[string]builtWhen{"e2e-before": since.provenanceOf(t, "e2e-before"), "e2e-since": since.provenanceOf(t, "e2e-since")}
	was := *row(t, d, "e2e-since").Digest
	old := signerOf(t, since)

	since.run(t, done, "keys", "revoke", "signer", "current", "--since", stolen.Format(time.RFC3339Nano), "--why", "the key was stolen")
	d = since.status(t, done, "status")
	if r := row(t, d, "e2e-since"); r.Class != policy.Community {
		t.Errorf("made by a key that was stolen: %s", show(r))
	} else if _, ok := reason(r, policy.SignerRevoked); !ok {
		t.Errorf("it does not say why: %s", show(r))
	}
	since.run(t, denied, "status", "--min-secure", "100")
	since.run(t, unverified, "verify", "e2e-since")

	again := time.Now()
	d = since.status(t, done, "builds")
	r := row(t, d, "e2e-since")
	if *d.Summary.PercentSecure != 100 || *r.Digest != was || r.Reproduced == nil || r.Reproduced.Builds < 2 || r.Reproduced.Identical != r.Reproduced.Builds {
		t.Fatalf("built again: %s, %+v", show(r), r.Reproduced)
	}
	now := signerOf(t, since)
	if now == old {
		t.Fatal("the key is the same")
	}
	got := since.provenanceOf(t, "e2e-since")
	if got.started.Before(again.Truncate(time.Second)) || got.invocation == first["e2e-since"].invocation || !strings.Contains(got.builder, now) || !strings.Contains(*r.Builder, now) {
		t.Errorf("its provenance is of %+v, the first was %+v; the key is %s", got, first["e2e-since"], now)
	}
	if got := since.provenanceOf(t, "e2e-before"); got != first["e2e-before"] {
		t.Errorf("what was built before is said to be built as %+v, and was as %+v", got, first["e2e-before"])
	}
	since.run(t, done, "status", "--min-secure", "100")
	since.run(t, done, "verify", "e2e-since")
	since.run(t, done, "verify")
	before.run(t, done, "verify")
	since.run(t, done, "fsck")
	// Nothing is left to do.
	first["e2e-since"] = got
	since.status(t, done, "builds")
	if got := since.provenanceOf(t, "e2e-since"); got != first["e2e-since"] {
		t.Errorf("with nothing to do it was built again: %+v", got)
	}
}

// signerOf is the ID of the signer's key that is in use.
func signerOf(t *testing.T, p project) string {
	t.Helper()
	var ks []struct {
		Role  keys.Role
		ID    string
		State string
	}
	p.json(t, &ks, done, "keys", "list")
	for _, k := range ks {
		if k.Role == keys.RoleSigner && k.State == "in-use" {
			return k.ID
		}
	}
	t.Fatalf("no signer is in use: %+v", ks)
	return ""
}
