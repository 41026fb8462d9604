package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"hallmark/internal/build"
	"hallmark/internal/canonical"
	"hallmark/internal/digest"
	"hallmark/internal/ecosystem/debian"
	"hallmark/internal/ecosystem/pypi"
	"hallmark/internal/evidence"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/internal/record"
	"hallmark/internal/store"
)

// Repair mends what can be had again, and gives all that it found: what is mended
// is marked, what is not says what to do. Nothing is signed and nothing is made
// up: a blob comes back only with its own digest, an entry of the log only under a
// checkpoint that was signed, a row of evidence only for a bundle that verifies
// and whose entry the log has. The directory is opened with OpenFsck.
func (a *App) Repair(ctx context.Context) ([]Damage, error) {
	if !a.writer {
		return nil, fault.New(fault.Conflict, "repair: the data directory is not open for writing")
	}
	before, err := a.Fsck(ctx)
	if err != nil {
		return nil, err
	}
	a.progress.Stage("repair")
	notes := map[string]string{} // by place: what to do about what stays
	for _, mend := range []func(context.Context, map[string]string) error{a.mendCaches, a.mendBlobs, a.mendLog, a.mendRows} {
		if err := mend(ctx, notes); err != nil {
			return nil, err
		}
	}
	after, err := a.Fsck(ctx)
	if err != nil {
		return nil, err
	}
	left := map[string]bool{}
	for _, d := range after {
		left[d.Where+"\x00"+d.Message] = true
	}
	var out []Damage
	for _, d := range before {
		if !left[d.Where+"\x00"+d.Message] {
			d.Repaired, d.Advice = true, notes[d.Where]
			out = append(out, d)
		}
	}
	for _, d := range after {
		if n := notes[d.Where]; n != "" {
			d.Advice = n
		} else if d.Advice == repairAdvice {
			d.Advice = "It cannot be had again: put it back from a backup."
		}
		out = append(out, d)
	}
	return out, nil
}

// mendCaches takes damaged layers away; they are made anew when they are needed.
func (a *App) mendCaches(ctx context.Context, _ map[string]string) error {
	bad, err := build.CheckLayers(ctx, a.path("layers"))
	if err != nil {
		return err
	}
	for key := range bad {
		if err := build.RemoveLayer(a.path("layers"), key); err != nil {
			return fmt.Errorf("repair: %w", err)
		}
	}
	l, err := debian.LoadLayer(a.pin, a.seedDir())
	if err == nil {
		err = debian.Verify(l.Dir, l)
	}
	if err != nil && !fault.Is(err, fault.NotFound) {
		return os.RemoveAll(filepath.Dir(a.seedDir()))
	}
	making, _ := filepath.Glob(a.path("layers", ".making-*"))
	for _, d := range making {
		if err := os.RemoveAll(d); err != nil {
			return fmt.Errorf("repair: %w", err)
		}
	}
	return nil
}

// mendBlobs brings back blobs that are damaged or gone: documents that others
// hold, files that the index has. What a build makes is taken away if it is
// damaged, so that the next builds makes it.
func (a *App) mendBlobs(ctx context.Context, notes map[string]string) error {
	if a.Blobs == nil || a.Store == nil {
		return nil
	}
	want := map[digest.Digest]bool{} // true: there, but damaged
	err := a.Blobs.Walk(func(d digest.Digest, _ int64) error {
		if fault.Is(a.Blobs.Check(d), fault.Corrupt) {
			want[d] = true
		}
		return ctx.Err()
	})
	if err != nil && !fault.Is(err, fault.Corrupt) {
		return err
	}
	where := map[digest.Digest][]string{}
	err = a.Store.References(ctx, func(table, row, column string, d digest.Digest) error {
		if d.Valid() && !a.Blobs.Has(d) {
			want[d] = false
		}
		where[d] = append(where[d], table+" "+row)
		return nil
	})
	if err != nil && !fault.Is(err, fault.Corrupt) {
		return err
	}
	if len(want) == 0 {
		return nil
	}
	back := func(d digest.Digest) { delete(want, d) }
	err = a.derived(ctx, func(b []byte) error {
		d := digest.FromBytes(b)
		if _, ok := want[d]; !ok {
			return nil
		}
		_, err := a.putBytes(ctx, d, b)
		if err == nil {
			back(d)
		}
		return err
	})
	if err != nil {
		return err
	}
	seed := map[digest.Digest]bool{}
	for _, p := range a.pin.Packages {
		seed[p.Digest()] = true
	}
	say := func(d digest.Digest, text string) {
		notes["blob "+d.String()] = text
		for _, w := range where[d] {
			notes[w] = text
		}
	}
	for d, damaged := range want {
		if err := ctx.Err(); err != nil {
			return err
		}
		files, err := a.Store.Files(ctx, d)
		if err != nil {
			files = nil
		}
		switch {
		case len(files) > 0 && files[0].Kind != store.FileBuilt:
			f := files[0]
			if err := a.fetchAgain(ctx, f.PURL.Name(), pypi.File{Name: f.Name, SHA256: d.Hex(), Size: f.Size}, d); err != nil {
				say(d, fmt.Sprintf("It could not be fetched again (%s): try again when the index answers, or put the blob back from a backup.", oneSentence(err)))
			}
			continue
		case len(files) > 0:
			say(d, "Run hallmark builds in the project: it is built again, and if the same bytes come out, they take this place.")
		case seed[d]:
			say(d, "It is fetched again when the seed is unpacked the next time.")
		case len(where[d]) == 0 && damaged:
			say(d, "Nothing needed it.")
		default:
			continue // kept as it is: whoever restores it may want to look at it
		}
		if damaged {
			if err := os.Remove(a.Blobs.Path(d)); err != nil {
				return fmt.Errorf("repair: %w", err)
			}
		}
	}
	return nil
}

// fetchAgain fetches a file of a package although a blob of its name may be there.
func (a *App) fetchAgain(ctx context.Context, name string, f pypi.File, d digest.Digest) error {
	c, err := a.pypiClient(ctx)
	if err != nil {
		return err
	}
	r, w := io.Pipe()
	go func() { w.CloseWithError(c.Download(ctx, name, f, w)) }()
	_, _, err = a.Blobs.Put(ctx, r, d, maxSource)
	r.CloseWithError(context.Canceled)
	return err
}

// derived calls fn with every document that stored ones hold: the steps of plans,
// the rebuild results and the bare envelopes in bundles.
func (a *App) derived(ctx context.Context, fn func(b []byte) error) error {
	add := func(v any) error {
		_, b, err := canonical.Digest(v)
		if err != nil {
			return nil // it cannot have been stored
		}
		return fn(b)
	}
	check, err := a.verifier()
	if err != nil {
		return err
	}
	return a.Blobs.Walk(func(d digest.Digest, size int64) error {
		if ctx.Err() != nil || size > maxDocument {
			return ctx.Err()
		}
		b, err := a.Blobs.ReadAll(d, maxDocument)
		if err != nil || !bytes.HasPrefix(b, []byte("{")) {
			return nil
		}
		var head struct {
			Schema   string          `json:"schema"`
			Envelope json.RawMessage `json:"dsseEnvelope"`
		}
		if json.Unmarshal(b, &head) != nil {
			return nil
		}
		switch {
		case head.Schema == plan.Schema:
			p, err := plan.Parse(b)
			if err != nil {
				return nil
			}
			for _, s := range append(append([]plan.Step{}, p.Steps...), p.Queries...) {
				if err := add(s); err != nil {
					return err
				}
			}
		case head.Envelope != nil:
			v, err := verifyAny(check, b)
			if err != nil {
				return nil
			}
			if err := fn(v.DSSE); err != nil {
				return err
			}
			var p struct {
				Result json.RawMessage `json:"result"`
			}
			if v.PredicateType == evidence.TypeRebuild && json.Unmarshal(v.Predicate, &p) == nil {
				return add(p.Result)
			}
		}
		return nil
	})
}

// verifyAny verifies a bundle about whatever it says that it is about.
func verifyAny(check *evidence.Verifier, bundle []byte) (*evidence.Verified, error) {
	payload, err := evidence.StatementOf(bundle)
	if err != nil {
		return nil, err
	}
	var s struct {
		Subject []struct {
			Digest map[string]string `json:"digest"`
		} `json:"subject"`
		Type string `json:"predicateType"`
	}
	if err := json.Unmarshal(payload, &s); err != nil || len(s.Subject) != 1 {
		return nil, errors.New("it is not about one file")
	}
	d, err := digest.FromHex(s.Subject[0].Digest["sha256"])
	if err != nil {
		return nil, err
	}
	return check.Verify(bundle, d, s.Type)
}

// allBundles verifies every bundle among the blobs, whether a row names it or not.
func (a *App) allBundles(ctx context.Context) (map[int64]found, error) {
	check, err := a.madeHere()
	if err != nil {
		return nil, err
	}
	out := map[int64]found{} // by the entry's number
	err = a.Blobs.Walk(func(d digest.Digest, size int64) error {
		if ctx.Err() != nil || size > evidence.MaxBundle {
			return ctx.Err()
		}
		f, err := a.Blobs.Open(d)
		if err != nil {
			return nil
		}
		var start [16]byte
		_, err = io.ReadFull(f, start[:])
		f.Close()
		if err != nil || !bytes.HasPrefix(start[:], []byte(`{"dsseEnvelope"`)) {
			return nil
		}
		b, err := a.Blobs.ReadAll(d, evidence.MaxBundle)
		if err != nil {
			return nil
		}
		if v, err := verifyAny(check, b); err == nil {
			if n, err := a.number(v); err == nil {
				if _, twice := out[n]; !twice {
					out[n] = found{d, v}
				}
			}
		}
		return nil
	})
	if fault.Is(err, fault.Corrupt) {
		err = nil // a stray file; named already
	}
	return out, err
}

// found is a bundle with its blob.
type found struct {
	blob digest.Digest
	v    *evidence.Verified
}

// mendLog writes the log anew as far as bundles and checkpoints prove it.
func (a *App) mendLog(ctx context.Context, notes map[string]string) error {
	if a.keys == nil || a.Blobs == nil {
		return nil
	}
	if _, err := a.checkWholeLog(ctx); err == nil {
		return nil
	}
	all, err := a.allBundles(ctx)
	if err != nil {
		return err
	}
	shards, err := a.shards()
	if err != nil {
		return err
	}
	for _, s := range shards {
		if err := a.mendShard(ctx, s, all, notes); err != nil {
			return err
		}
	}
	return nil
}

// mendShard writes one part of the log anew.
func (a *App) mendShard(ctx context.Context, s shard, all map[int64]found, notes map[string]string) error {
	if size, err := evidence.CheckLog(ctx, s.dir, s.pub); err == nil && (s.Log.Size == nil || int64(size) == *s.Log.Size) {
		return nil
	}
	var checkpoints []string
	if s.Log.Checkpoint != "" {
		checkpoints = append(checkpoints, s.Log.Checkpoint)
	}
	for _, f := range all {
		if f.v.LogOrigin == s.origin {
			checkpoints = append(checkpoints, f.v.Checkpoint)
		}
	}
	entry := func(i uint64) []byte {
		if f, ok := all[s.Log.First+int64(i)]; ok {
			return f.v.Entry
		}
		return nil
	}
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return fmt.Errorf("repair: %w", err)
	}
	_, err := evidence.RepairLog(ctx, s.dir, s.pub, entry, checkpoints)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil && !fault.Is(err, fault.Corrupt) {
		return err
	}
	if err != nil {
		notes["log"] = "What is proven does not suffice to write it anew: put the folder " + s.Log.Folder + "/ back from a backup. It is append-only, so any later copy serves."
	}
	return nil
}

// mendRows enters bundles that the log has and the database does not.
func (a *App) mendRows(ctx context.Context, _ map[string]string) error {
	if a.keys == nil || a.Store == nil || a.Blobs == nil {
		return nil
	}
	size, err := a.wholeLogSize()
	if err != nil || size == 0 {
		return nil
	}
	have, err := a.bundles(ctx)
	if err != nil {
		return err
	}
	all, err := a.allBundles(ctx)
	if err != nil {
		return err
	}
	complete := true
	for i := range size {
		f, ok := all[i]
		if have.rows[i] != nil || have.waiting >= 0 && i >= have.waiting {
			continue
		}
		if !ok || a.logConsistent(ctx, f.v) != nil {
			complete = false
			continue
		}
		if err := a.enterBundle(ctx, f); err != nil && !fault.Is(err, fault.Conflict) && !fault.Is(err, fault.Corrupt) {
			return err
		}
	}
	if !complete {
		return nil
	}
	_, err = a.Store.ForgetEvidence(ctx)
	return err
}

// enterBundle stores the rows of a bundle that is among the blobs.
func (a *App) enterBundle(ctx context.Context, f found) error {
	var p struct {
		Build struct {
			External struct {
				Step plan.Step `json:"step"`
			} `json:"externalParameters"`
			Internal struct {
				Purpose record.Purpose `json:"purpose"`
			} `json:"internalParameters"`
		} `json:"buildDefinition"`
		Result record.RebuildResult `json:"result"`
	}
	if err := json.Unmarshal(f.v.Predicate, &p); err != nil {
		return fault.New(fault.Corrupt, "bundle %s: %w", f.blob.Short(), err)
	}
	at, err := a.number(f.v)
	if err != nil {
		return err
	}
	row := store.Evidence{Subject: f.v.Subject.Digest, PredicateType: f.v.PredicateType, Blob: f.blob, LogIndex: &at, Created: f.v.Time}
	switch f.v.PredicateType {
	case evidence.TypeProvenance:
		row.Name, row.Step = provenanceFile, p.Build.External.Step.ID
		if p.Build.Internal.Purpose == record.Rebuild {
			row.Name = provenance2File
		}
	case evidence.TypeRebuild:
		row.Name, row.Step = rebuildFile, p.Result.Step
	case evidence.TypeVSA:
		row.Name = vsaFile
		steps, err := a.Store.StepsByOutput(ctx, row.Subject)
		if err != nil {
			return err
		}
		if len(steps) == 1 {
			row.Step = steps[0].ID
		}
	default:
		return fault.New(fault.Conflict, "bundle %s is of type %.80q, which has no name here", f.blob.Short(), f.v.PredicateType)
	}
	if err := a.Store.AddEvidence(ctx, row); err != nil || row.Name != vsaFile {
		return err
	}
	d, err := a.putBytes(ctx, "", f.v.DSSE)
	if err != nil {
		return err
	}
	row.Name, row.Blob = vsaDSSEFile, d
	return a.Store.AddEvidence(ctx, row)
}
