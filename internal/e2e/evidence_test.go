package e2e

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"hallmark/internal/record"
)

// exported is a folder that export evidence wrote, its statements read.
type exported struct {
	dir        string
	rebuild    rebuildStatement
	provenance provenance
	vsa        struct {
		Verifier       struct{ ID string }
		ResourceURI    string
		Result         string   `json:"verificationResult"`
		VerifiedLevels []string `json:"verifiedLevels"`
	}
}

type rebuildStatement struct {
	Result record.RebuildResult
	Builds []struct{ Purpose, Outcome, Digest, Runtime, RuntimeDigest, Kernel string }
}

type provenance struct {
	BuildDefinition struct {
		InternalParameters struct {
			Runtime   string
			Limits    map[string]record.Fact
			NotVaried map[string]string
		}
		ResolvedDependencies []struct {
			URI         string
			Name        string
			Digest      map[string]string
			Annotations map[string]any
		}
	}
	RunDetails struct {
		Builder    struct{ ID string }
		Byproducts []struct {
			Name        string
			Digest      map[string]string
			Annotations map[string]any
		}
	}
}

// removed gives the paths that were taken out of the source, with their kinds.
func (p provenance) removed() map[string]string {
	out := map[string]string{}
	for _, b := range p.RunDetails.Byproducts {
		if b.Annotations["hallmark_role"] == "removed-from-source" {
			out[b.Name], _ = b.Annotations["hallmark_kind"].(string)
		}
	}
	return out
}

// export exports an artifact's evidence and reads it. A statement that is not
// there is left empty.
func (p project) export(t *testing.T, artifact string) exported {
	t.Helper()
	e := exported{dir: t.TempDir()}
	if p.user != "" { // who may not write to a folder of the test's own user
		e.dir = filepath.Join(p.dir, "exported-"+filepath.Base(e.dir))
	}
	p.run(t, done, "export", "evidence", artifact, "-o", e.dir)
	for name, to := range map[string]any{"rebuild": &e.rebuild, "provenance": &e.provenance, "vsa": &e.vsa} {
		b, err := os.ReadFile(filepath.Join(e.dir, name+".sigstore.json"))
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		statement(t, b, to)
	}
	return e
}

// statement reads the predicate out of a bundle.
func statement(t *testing.T, bundle []byte, predicate any) {
	t.Helper()
	var b struct{ DsseEnvelope struct{ Payload string } }
	if err := json.Unmarshal(bundle, &b); err != nil {
		t.Fatal(err)
	}
	payload, err := base64.StdEncoding.DecodeString(b.DsseEnvelope.Payload)
	if err != nil {
		t.Fatal(err)
	}
	var s struct{ Predicate json.RawMessage }
	if err := json.Unmarshal(payload, &s); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(s.Predicate, predicate); err != nil {
		t.Fatalf("%v in %s", err, payload)
	}
}
