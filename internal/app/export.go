package app

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"

	"hallmark/internal/api"
	"hallmark/internal/digest"
	"hallmark/internal/evidence"
	"hallmark/internal/fault"
	"hallmark/internal/policy"
	"hallmark/internal/project"
	"hallmark/internal/store"
)

// readmeName is the file of an export that says how to verify the others.
const readmeName = "README"

// exports gives the files of an artifact's evidence, as export evidence writes
// them, but for the artifact itself: the same bytes each time for the same
// evidence.
func (a *App) exports(ctx context.Context, r *Report, f Found) (names []string, files map[string][]byte, err error) {
	rows, err := a.Store.EvidenceHistory(ctx, f.Digest)
	if err != nil {
		return nil, nil, err
	}
	// Another project's summary may speak of what only that one has.
	if rows, err = a.visible(ctx, rows, only(r.Document.Project)); err != nil {
		return nil, nil, err
	}
	newest := map[string]store.Evidence{}
	for _, row := range rows {
		if row.Step == f.Step {
			newest[row.Name] = row
		}
	}
	in := evidence.ReadmeInput{File: f.File, Digest: f.Digest, PURL: f.PURL, Secure: r.Verdicts[f.PURL].Class == policy.Secure,
		Policy: r.Policy.URI, Verifier: a.VerifierID(), Level: evidence.LevelBuild1, KeyID: a.KeyID()}
	files = map[string][]byte{}
	add := func(name string, b []byte) { names, files[name] = append(names, name), b }
	for _, name := range []string{provenanceFile, rebuildFile, vsaFile, vsaDSSEFile} {
		row, ok := newest[name]
		if !ok {
			continue
		}
		b, err := a.Blobs.ReadAll(row.Blob, maxDocument)
		if err != nil {
			return nil, nil, err
		}
		add(name, b)
		signer, key := a.signerFile(b)
		if key != publicKeyFile && files[key] == nil {
			add(key, []byte(signer.Public))
		}
		switch name {
		case provenanceFile:
			in.ProvenanceKey, in.Builder = key, a.builderOf(signer.ID)
		case rebuildFile:
			in.RebuildKey = key
		}
		if row.Created.After(in.Newest) {
			in.Newest = row.Created
		}
	}
	root, err := a.TrustedRoot()
	if err != nil {
		return nil, nil, err
	}
	_, in.Rebuild = newest[rebuildFile]
	readme, err := evidence.README(in)
	if err != nil {
		return nil, nil, err
	}
	add(publicKeyFile, a.PublicKey())
	add(trustedRootName, root)
	add(readmeName, readme)
	return names, files, nil
}

// ExportEvidence writes an artifact and all evidence about it into dir, which is
// made if it is not there, and gives the names of the files. bare leaves out the
// artifact itself.
func (a *App) ExportEvidence(ctx context.Context, r *Report, f Found, dir string, bare bool) ([]string, error) {
	if f.Digest == "" {
		return nil, fault.New(fault.NotFound, "export evidence: there is no file for %s", f.PURL)
	}
	file, err := a.Blobs.ReadAll(f.Digest, maxSource)
	if err != nil {
		return nil, err
	}
	names, files, err := a.exports(ctx, r, f)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if !bare {
		names, files[f.File] = append([]string{f.File}, names...), file
	}
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(dir, name), files[name], 0o644); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// VerifyFile checks a file that lies somewhere: an artifact of the report, with
// all that VerifyArtifact checks, or a file that was exported from here, which
// must be what would be exported now, byte for byte. A folder is checked file by
// file.
func (a *App) VerifyFile(ctx context.Context, r *Report, path string) (*api.Verification, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fault.New(fault.NotFound, "verify: %w", err)
	}
	if !st.IsDir() {
		return a.verifyFile(ctx, r, path)
	}
	es, err := os.ReadDir(path)
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	all := &api.Verification{OK: true}
	for _, e := range es {
		if !e.Type().IsRegular() {
			all.Add("", "file "+e.Name(), errors.New("it is no plain file, so it was not exported from here"))
			continue
		}
		v, err := a.verifyFile(ctx, r, filepath.Join(path, e.Name()))
		if err != nil {
			return nil, err
		}
		all.Checks, all.OK = append(all.Checks, v.Checks...), all.OK && v.OK
	}
	if len(es) == 0 {
		all.Add("", "folder "+filepath.Base(path), errors.New("there is nothing in it"))
	}
	return all, nil
}

func (a *App) verifyFile(ctx context.Context, r *Report, path string) (*api.Verification, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.New(fault.NotFound, "verify: %w", err)
	}
	defer f.Close()
	d, size, err := digest.FromReader(f)
	if err != nil {
		return nil, fmt.Errorf("verify %s: %w", path, err)
	}
	if found, err := r.Find(d.String()); err == nil {
		return a.VerifyArtifact(ctx, r, found)
	}
	v := &api.Verification{OK: true}
	var b []byte
	if size <= evidence.MaxBundle {
		if b, err = io.ReadAll(io.NewSectionReader(f, 0, size)); err != nil {
			return nil, fmt.Errorf("verify %s: %w", path, err)
		}
	}
	what, err := a.exported(ctx, r, d, b)
	v.Add("", "file "+filepath.Base(path)+" is "+what, err)
	return v, nil
}

// readmeDigest finds the artifact that a README speaks of.
var readmeDigest = regexp.MustCompile(`(?m)^digest +(sha256:[0-9a-f]{64})$`)

// exported says what a file that is no artifact is, and what speaks against its
// having been exported from here.
func (a *App) exported(ctx context.Context, r *Report, d digest.Digest, b []byte) (string, error) {
	root, err := a.TrustedRoot()
	if err != nil {
		return "", err
	}
	check, err := a.verifier()
	if err != nil {
		return "", err
	}
	rows, err := a.Store.AllEvidence(ctx)
	if err != nil {
		return "", err
	}
	switch {
	case bytes.Equal(b, root):
		return "the trusted root of this data directory", nil
	case bytes.Equal(b, a.PublicKey()):
		return "the signer's key of this data directory", nil
	case a.formerKey(b):
		return "an earlier signer's key of this data directory", nil
	case d == r.Solved.ID:
		return "the plan of " + r.Document.Commit, r.Solved.Plan.Check()
	case d == r.CommitID:
		return "the commit " + r.Document.Commit, nil
	}
	for _, row := range rows {
		if row.Blob != d {
			continue
		}
		what := row.Name + " of " + row.Subject.Short()
		if row.Name == vsaDSSEFile || row.PredicateType == seedEvidenceType {
			return what, nil // the same bytes as those that fsck compares with the bundle
		}
		vf, err := check.Verify(b, row.Subject, row.PredicateType)
		if err == nil {
			err = a.logConsistent(ctx, vf)
		}
		return what, err
	}
	// None of ours. Say what is nearest.
	if m := readmeDigest.FindSubmatch(b); m != nil {
		if f, err := r.Find(string(m[1])); err == nil {
			if _, files, err := a.exports(ctx, r, f); err == nil && bytes.Equal(files[readmeName], b) {
				return "the README of " + string(f.PURL), nil
			}
			return "the README of " + string(f.PURL), errors.New("it is not as it would be exported now: it was changed, or there is newer evidence")
		}
	}
	if _, err := evidence.StatementOf(b); err == nil {
		if _, err := verifyAny(check, b); err != nil {
			return "a signed bundle", err
		}
		return "a signed bundle", errors.New("it verifies, but it is not stored here")
	}
	if block, _ := pem.Decode(b); block != nil || bytes.Contains(b, []byte("PUBLIC KEY")) {
		return "the signer's key of this data directory", errors.New("it is another key, or it was changed")
	}
	if bytes.Contains(b, []byte("trustedroot")) || bytes.Contains(b, []byte("tlogs")) {
		return "the trusted root of this data directory", errors.New("it names other keys, or it was changed")
	}
	return "an artifact of the project, or was exported from here", fmt.Errorf("nothing of %s has its digest %s", r.Document.Commit, d)
}

// VerifyLock adds to a verification whether hallmark.lock in dir, if there is one,
// says what the commit that it names was solved to, byte for byte.
func (a *App) VerifyLock(ctx context.Context, dir string, v *api.Verification) error {
	b, err := os.ReadFile(filepath.Join(dir, project.LockFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("verify %s: %w", project.LockFile, err)
	}
	v.Add("", project.LockFile+" says what its commit was solved to", a.checkLock(ctx, b))
	return nil
}

// lockCommit finds the commit that a lock names.
var lockCommit = regexp.MustCompile(`"commit": "(commit:sha256:[0-9a-f]{64})"`)

func (a *App) checkLock(ctx context.Context, b []byte) error {
	m := lockCommit.FindSubmatch(b)
	if m == nil {
		return errors.New("it names no commit; hallmark builds writes it anew")
	}
	id, err := project.ParseCommitID(string(m[1]))
	if err != nil {
		return err
	}
	s, err := a.Stored(ctx, id)
	if err != nil {
		return fmt.Errorf("of its commit %s no solution is stored here: %w", id.Short(), err)
	}
	want, err := lockOf(id, s).Marshal()
	if err != nil {
		return err
	}
	if !bytes.Equal(want, b) {
		return errors.New("it was changed; hallmark builds writes it anew")
	}
	return nil
}
