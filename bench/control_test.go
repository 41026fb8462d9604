//go:build bench

package bench

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"hallmark/internal/app"
	"hallmark/internal/app/apptest"
	"hallmark/internal/evidence/evidencetest"
)

// generated makes a project of n packages and lets the program sign it.
func generated(t *testing.T, n int, data string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	a, err := app.Open(t.Context(), app.Config{Data: data}, true)
	if err != nil {
		t.Fatal(err)
	}
	_, err = apptest.Fill(t.Context(), a, dir, apptest.Spec{Name: fmt.Sprintf("bench/p%d", n), Packages: n, FailEvery: 50})
	if e := a.Close(); err == nil {
		err = e
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := timed(t.Context(), dir, nil, binary(t), "--data", data, "--quiet", "builds"); err != nil {
		t.Fatal(err)
	}
	return dir
}

// nothingToDo is row d: builds --json where nothing is to be done, from exec to
// exit.
func nothingToDo(t *testing.T) ([]Row, error) {
	var out []Row
	for _, n := range []int{10, 100, 1000} {
		data := filepath.Join(t.TempDir(), "data")
		dir := generated(t, n, data)
		var took []float64
		for i := range rounds(20) + 2 {
			d, doc, err := timed(t.Context(), dir, nil, binary(t), "--data", data, "--quiet", "--json", "builds")
			if err != nil {
				return nil, err
			}
			var s struct {
				Artifacts []json.RawMessage `json:"artifacts"`
			}
			if err := json.Unmarshal(doc, &s); err != nil || len(s.Artifacts) != n {
				return nil, fmt.Errorf("status of %d artifacts: %d, %v", n, len(s.Artifacts), err)
			}
			if i >= 2 {
				took = append(took, d.Seconds()*1000)
			}
		}
		m := median(took)
		out = append(out, Row{ID: fmt.Sprintf("d-%04d", n), What: fmt.Sprintf("`builds --json` with nothing to do, %d artifacts", n),
			Ours: m, Unit: "ms", Figure: m, Bound: 100, AtMost: true, Rounds: len(took)})
	}
	return out, nil
}

// verifyAll is row e: verify of a project against as many runs of cosign as it has
// artifacts.
func verifyAll(t *testing.T) ([]Row, error) {
	const n = 200
	cosign := evidencetest.Cosign(t)
	data := filepath.Join(t.TempDir(), "data")
	dir := generated(t, n, data)
	h := binary(t)
	// One artifact's evidence, as cosign wants it; the others' is alike.
	ev := filepath.Join(t.TempDir(), "evidence")
	if _, _, err := timed(t.Context(), dir, nil, h, "--data", data, "export", "evidence", "pkg:pypi/package-00000@1.0", "-o", ev); err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(ev, "*.whl"))
	if err != nil || len(files) != 1 {
		return nil, fmt.Errorf("exported %v, %v", files, err)
	}
	runs := rounds(3)
	a, b, ratio, err := paired(runs, func(int) (time.Duration, error) {
		d, _, err := timed(t.Context(), dir, nil, h, "--data", data, "--quiet", "verify")
		return d, err
	}, func(int) (time.Duration, error) {
		began := time.Now()
		for range n {
			if _, _, err := timed(t.Context(), ev, []string{"HOME=" + ev}, cosign, "verify-blob-attestation", "--key", "key.pub", "--bundle", "provenance.sigstore.json",
				"--trusted-root", "trusted_root.json", "--use-signed-timestamps", "--type", "slsaprovenance1", files[0]); err != nil {
				return 0, err
			}
		}
		return time.Since(began), nil
	})
	if err != nil {
		return nil, err
	}
	return []Row{{ID: "e", What: fmt.Sprintf("`verify` of a project of %d artifacts, against %d runs of cosign", n, n), Ours: a, Theirs: b, Unit: "s",
		Figure: ratio, Bound: 0.1, AtMost: true, Rounds: runs,
		Note: "verify checks file, both provenances, rebuild, summary and the whole log; cosign one provenance"}}, nil
}
