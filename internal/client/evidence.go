package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"hallmark/internal/api"
	"hallmark/internal/digest"
	"hallmark/internal/evidence"
	"hallmark/internal/fault"
	"hallmark/internal/policy"
	"hallmark/internal/project"
	"hallmark/internal/status"
)

// fileName is what a file of an export may be called.
var fileName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+!-]{0,199}$`)

// checkExport refuses an export whose names leave their folder, or that names an
// artifact that it is not asked to get from this project.
func checkExport(project string, e api.Export) error {
	bad := func(format string, args ...any) error {
		return fault.New(fault.Hostile, "the export of the server: "+format, args...)
	}
	if !e.Digest.Valid() || !fileName.MatchString(e.File) {
		return bad("artifact %.80q with digest %.80q", e.File, e.Digest)
	}
	if !strings.HasPrefix(e.Path, "/r/"+project+"/") || strings.ContainsAny(e.Path, "?#\\") || strings.Contains(e.Path, "..") {
		return bad("artifact at %.200q", e.Path)
	}
	names := map[string]bool{strings.ToLower(e.File): true}
	for _, f := range e.Files {
		if n := strings.ToLower(f.Name); !fileName.MatchString(f.Name) || names[n] {
			return bad("file %.80q", f.Name)
		} else {
			names[n] = true
		}
	}
	return nil
}

// SaveExport writes an artifact with all evidence about it into dir, which is made
// if it is not there, and gives the names of the files. The artifact comes under a
// temporary name and gets its own only if it has its digest. bare leaves out the
// artifact itself: its evidence is open to every tier.
func (c *Client) SaveExport(ctx context.Context, e api.Export, dir string, bare bool) (names []string, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if !bare {
		if err := c.saveArtifact(ctx, e, dir); err != nil {
			return nil, err
		}
		names = append(names, e.File)
	}
	for _, x := range e.Files {
		if err := os.WriteFile(filepath.Join(dir, x.Name), []byte(x.Content), 0o644); err != nil {
			return nil, err
		}
		names = append(names, x.Name)
	}
	return names, nil
}

func (c *Client) saveArtifact(ctx context.Context, e api.Export, dir string) error {
	f, err := os.CreateTemp(dir, ".hallmark-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already if all went well
	err = c.Download(ctx, e.Path, e.Digest, f)
	if err := errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), filepath.Join(dir, e.File))
}

// VerifyFile checks a file, or a folder of files, that came from the server: an
// artifact of the project by its digest and all that is signed about it; what was
// exported with it must be what the server gives now, byte for byte. The keys are
// those that the server gives now.
func (c *Client) VerifyFile(ctx context.Context, name, path string) (*api.Verification, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fault.New(fault.NotFound, "verify: %w", err)
	}
	files := []string{path}
	v := &api.Verification{OK: true}
	if st.IsDir() {
		es, err := os.ReadDir(path)
		if err != nil {
			return nil, fmt.Errorf("verify: %w", err)
		}
		files = nil
		for _, e := range es {
			if !e.Type().IsRegular() {
				v.Add("", "file "+e.Name(), errors.New("it is no plain file, so it was not exported"))
				continue
			}
			files = append(files, filepath.Join(path, e.Name()))
		}
		if len(es) == 0 {
			v.Add("", "folder "+filepath.Base(path), errors.New("there is nothing in it"))
		}
	}
	// First the artifacts, then what stands beside them.
	var exports []api.Export
	var rest []string
	for _, f := range files {
		d, err := digestOf(f)
		if err != nil {
			return nil, err
		}
		e, err := c.Export(ctx, name, d.String())
		if fault.Is(err, fault.NotFound) {
			if perr := c.there(ctx, name); perr != nil {
				return nil, perr
			}
			rest = append(rest, f)
			continue
		}
		if err != nil {
			return nil, err
		}
		if e.Digest != d {
			return nil, fault.New(fault.Hostile, "asked about %s, the server answers about %s", d, e.Digest)
		}
		v.Add(e.PURL, "file "+filepath.Base(f)+" has digest "+d.Short(), nil)
		c.verify(e, v, true)
		exports = append(exports, e)
	}
	for _, f := range rest {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("verify: %w", err)
		}
		err = errors.New("it is no artifact of the project's newest commit, and was not exported with one that is here")
		for _, e := range exports {
			for _, x := range e.Files {
				if x.Name == filepath.Base(f) {
					if err = nil; !bytes.Equal(b, []byte(x.Content)) {
						err = errors.New("it is not as the server exports it now: it was changed, or there is newer evidence")
					}
				}
			}
		}
		v.Add("", "file "+filepath.Base(f), err)
	}
	return v, nil
}

// there is an error if the project cannot be read at all.
func (c *Client) there(ctx context.Context, name string) error {
	_, err := c.Project(ctx, name)
	return err
}

// VerifyArtifact checks what is signed about an artifact, without its bytes.
func (c *Client) VerifyArtifact(ctx context.Context, name, artifact string) (*api.Verification, error) {
	v := &api.Verification{OK: true}
	e, err := c.Export(ctx, name, artifact)
	if fault.Is(err, fault.NotFound) {
		// No such artifact, or one without a file.
		hops, err := c.Why(ctx, name, artifact)
		if err != nil {
			return nil, err
		}
		if len(hops) > 0 {
			v.Add(hops[0].Artifact, "file", errors.New("there is none"))
			return v, nil
		}
	}
	if err != nil {
		return nil, err
	}
	c.verify(e, v, true)
	return v, nil
}

// VerifyCommit checks everything that the server claims about a commit, "" for the
// newest: what is signed about every artifact that has a file, that a signed
// summary stands behind each one that the status calls secure and none behind
// another, and that the numbers are those of the rows. Community artifacts are no
// failure: nothing is claimed of them. Bytes are not fetched.
func (c *Client) VerifyCommit(ctx context.Context, name, commit string) (*api.Verification, error) {
	d, err := c.Status(ctx, name, commit)
	if err != nil {
		return nil, err
	}
	v := &api.Verification{OK: true}
	secure := 0
	for _, r := range d.Artifacts {
		if r.Class == policy.Secure {
			secure++
		}
		if r.Digest == nil {
			var err error
			if r.Class == policy.Secure {
				err = errors.New("it is called secure and has no file")
			}
			v.Add(r.PURL, "file", err)
			continue
		}
		e, err := c.exportOf(ctx, name, d.Commit, r.Digest.String())
		switch {
		case err == nil && e.Digest != *r.Digest:
			err = fault.New(fault.Hostile, "asked about %s, the server answers about %s", *r.Digest, e.Digest)
		case fault.Is(err, fault.NotFound), fault.Is(err, fault.Conflict):
			if r.Class != policy.Secure {
				continue // nobody signed anything about it
			}
		case err != nil:
			return nil, err
		}
		if err != nil {
			v.Add(r.PURL, "evidence", err)
			continue
		}
		c.verify(e, v, r.Class == policy.Secure)
	}
	want := status.Summary{Artifacts: len(d.Artifacts), Secure: secure, Community: len(d.Artifacts) - secure, PercentSecure: policy.Percent(secure, len(d.Artifacts))}
	if got := d.Summary; got.Artifacts != want.Artifacts || got.Secure != want.Secure || got.Community != want.Community || got.Percent() != want.Percent() {
		err = fmt.Errorf("the status says %d, %d, %d and %s", got.Artifacts, got.Secure, got.Community, got.Percent())
	}
	v.Add("", fmt.Sprintf("the status counts its rows: %d, %d secure, %d community, %s", want.Artifacts, want.Secure, want.Community, want.Percent()), err)
	return v, nil
}

// VerifyLock adds to a verification whether a lock file is the one that the server
// gives for the project's newest commit, byte for byte.
func (c *Client) VerifyLock(ctx context.Context, name string, lock []byte, v *api.Verification) error {
	b, err := c.Lock(ctx, name)
	if err != nil {
		return err
	}
	if !bytes.Equal(b, lock) {
		err = errors.New("it is not the lock of the project's newest commit: it was changed, or there is a newer one")
	}
	v.Add("", project.LockFile+" says what its commit was solved to", err)
	return nil
}

// predicates are the types of the bundles of an export, by name.
var predicates = map[string]string{"provenance.sigstore.json": evidence.TypeProvenance, "rebuild.sigstore.json": evidence.TypeRebuild, "vsa.sigstore.json": evidence.TypeVSA}

// verify checks the bundles of an export under the keys in it, and that the
// verification summary calls it secure, or does not.
func (c *Client) verify(e api.Export, v *api.Verification, secure bool) {
	files := map[string][]byte{}
	var signers []evidence.SignerKey // the one that signs now, and those before it
	for _, f := range e.Files {
		files[f.Name] = []byte(f.Content)
		if f.Name == "key.pub" || strings.HasPrefix(f.Name, "key-") && strings.HasSuffix(f.Name, ".pub") {
			signers = append(signers, evidence.SignerKey{PublicKey: []byte(f.Content)})
		}
	}
	check, err := evidence.NewVerifier(evidence.Trust{TrustedRoot: files["trusted_root.json"], Signers: signers})
	if err != nil {
		v.Add(e.PURL, "keys of "+c.base, err)
		return
	}
	summary := false
	for _, name := range []string{"provenance.sigstore.json", "rebuild.sigstore.json", "vsa.sigstore.json"} {
		b, ok := files[name]
		if !ok {
			continue
		}
		got, err := check.Verify(b, e.Digest, predicates[name])
		v.Add(e.PURL, name+": signature, log entry, time stamp", err)
		if err != nil || name != "vsa.sigstore.json" {
			continue
		}
		summary = true
		var p struct {
			Result string `json:"verificationResult"`
			Policy struct {
				URI string `json:"uri"`
			} `json:"policy"`
		}
		err = json.Unmarshal(got.Predicate, &p)
		switch {
		case err != nil:
		case !secure && p.Result == "PASSED":
			err = errors.New("the signed summary passes, and the status calls it community")
		case secure && p.Result != "PASSED":
			err = errors.New("it is community: the signed summary says " + Clean(p.Result, 40))
		}
		v.Add(e.PURL, "policy "+Clean(p.Policy.URI, 200), err)
	}
	if !summary && secure {
		v.Add(e.PURL, "verification summary", errors.New("there is none that verifies"))
	}
}

func digestOf(path string) (digest.Digest, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fault.New(fault.NotFound, "verify: %w", err)
	}
	defer f.Close()
	d, _, err := digest.FromReader(io.LimitReader(f, maxFile+1))
	if err != nil {
		return "", fmt.Errorf("verify %s: %w", path, err)
	}
	return d, nil
}
