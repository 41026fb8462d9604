package runtime

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	ocidigest "github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	oci "github.com/opencontainers/image-spec/specs-go/v1"

	"hallmark/internal/canonical"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
)

// Labels of an image that are our own.
const (
	labelPlan     = "hallmark.plan"     // the plan's digest
	labelPlatform = "hallmark.platform" // what the runtime expects of the machine
)

// Image is an OCI image of a runtime (OCI image specification 1.1), of which the
// layers lie elsewhere.
type Image struct {
	Digest digest.Digest // of the manifest: the image's
	Ref    string        // what it is called when it is loaded
	spec   Spec
	blobs  map[digest.Digest][]byte // config, manifest
	index  []byte
	docker []byte // manifest.json, for `docker load` from before OCI layouts
}

// Image makes the image of a runtime. Its digest depends on plan, platform,
// environment and layers alone: not on who makes it, when, where or for which project.
func (s Spec) Image(ix *Index) (*Image, error) {
	if len(s.Layers) == 0 {
		return nil, fault.New(fault.Conflict, "an image of no layers")
	}
	created := s.Created.UTC().Truncate(time.Second)
	platform := oci.Platform{OS: s.Platform.OS, Architecture: s.Platform.Arch}
	conf := oci.Image{Created: &created, Platform: platform, RootFS: oci.RootFS{Type: "layers"},
		Config: oci.ImageConfig{Env: s.Env, Cmd: ix.Start(), WorkingDir: "/", Labels: map[string]string{
			oci.AnnotationCreated: created.Format(time.RFC3339), oci.AnnotationTitle: strings.Join(s.Direct, ", "),
			labelPlan: s.Plan.String(), labelPlatform: s.Platform.String()}}}
	man := oci.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: oci.MediaTypeImageManifest,
		Annotations: map[string]string{oci.AnnotationCreated: created.Format(time.RFC3339), labelPlan: s.Plan.String()}}
	seen := map[digest.Digest]bool{}
	for _, l := range s.Layers {
		if seen[l.Digest] {
			continue
		}
		seen[l.Digest] = true
		d := ocidigest.Digest(l.Digest)
		conf.RootFS.DiffIDs = append(conf.RootFS.DiffIDs, d)
		conf.History = append(conf.History, oci.History{Created: &created, CreatedBy: string(l.PURL), Comment: l.File + " " + l.Artifact.String()})
		// Not packed: so the blob is the artifact, byte for byte.
		man.Layers = append(man.Layers, oci.Descriptor{MediaType: oci.MediaTypeImageLayer, Digest: d, Size: l.Size,
			Annotations: map[string]string{oci.AnnotationTitle: l.File}})
	}
	im := &Image{spec: s, blobs: map[digest.Digest][]byte{}}
	var err error
	if man.Config, err = im.blob(oci.MediaTypeImageConfig, conf); err != nil {
		return nil, err
	}
	desc, err := im.blob(oci.MediaTypeImageManifest, man)
	if err != nil {
		return nil, err
	}
	im.Digest, desc.Platform = digest.Digest(desc.Digest), &platform
	name, tag := cmp.Or(s.Name, "hallmark"), s.Plan.Short()
	im.Ref = strings.ToLower(name) + ":" + tag
	desc.Annotations = map[string]string{oci.AnnotationRefName: tag}
	if im.index, err = canonical.JSON(oci.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: oci.MediaTypeImageIndex, Manifests: []oci.Descriptor{desc}}); err != nil {
		return nil, err
	}
	type saved struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	d := saved{blobPath(digest.Digest(man.Config.Digest)), []string{im.Ref}, nil}
	for _, l := range man.Layers {
		d.Layers = append(d.Layers, blobPath(digest.Digest(l.Digest)))
	}
	im.docker, err = json.Marshal([]saved{d})
	return im, err
}

// blob keeps a document of the image and describes it.
func (im *Image) blob(mediaType string, v any) (oci.Descriptor, error) {
	b, err := canonical.JSON(v)
	if err != nil {
		return oci.Descriptor{}, err
	}
	d := digest.FromBytes(b)
	im.blobs[d] = b
	return oci.Descriptor{MediaType: mediaType, Digest: ocidigest.Digest(d), Size: int64(len(b))}, nil
}

func blobPath(d digest.Digest) string { return oci.ImageBlobsDir + "/sha256/" + d.Hex() }

// part is one file of an image's layout.
type part struct {
	name  string
	bytes []byte
	layer *Layer // if there are no bytes
}

// parts are the files of the layout, sorted within their kind, small ones first.
func (im *Image) parts() []part {
	layout, _ := json.Marshal(oci.ImageLayout{Version: oci.ImageLayoutVersion}) // of a text: cannot fail
	out := []part{{name: oci.ImageLayoutFile, bytes: layout}, {name: oci.ImageIndexFile, bytes: im.index}, {name: "manifest.json", bytes: im.docker}}
	var blobs []part
	for d, b := range im.blobs {
		blobs = append(blobs, part{name: blobPath(d), bytes: b})
	}
	seen := map[digest.Digest]bool{}
	for i, l := range im.spec.Layers {
		if !seen[l.Digest] {
			seen[l.Digest] = true
			blobs = append(blobs, part{name: blobPath(l.Digest), layer: &im.spec.Layers[i]})
		}
	}
	slices.SortFunc(blobs, func(a, b part) int {
		return cmp.Or(cmp.Compare(btoi(a.layer != nil), btoi(b.layer != nil)), cmp.Compare(a.name, b.name))
	})
	return append(out, blobs...)
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Size is how many bytes the image's layout has, without the tar around it.
func (im *Image) Size() (n int64) {
	for _, p := range im.parts() {
		n += p.size()
	}
	return n
}

func (p part) size() int64 {
	if p.layer != nil {
		return p.layer.Size
	}
	return int64(len(p.bytes))
}

// open gives a part's content, held against its digest.
func (p part) open() (io.Reader, func(), error) {
	if p.layer == nil {
		return bytes.NewReader(p.bytes), func() {}, nil
	}
	f, err := p.layer.Open()
	if err != nil {
		return nil, nil, err
	}
	return digest.NewReader(f, p.layer.Digest, p.layer.Size), func() { f.Close() }, nil
}

// WriteArchive writes the image's layout as one tar, as `podman load`, `docker load` and
// skopeo's oci-archive take it; the same image gives the same bytes.
func (im *Image) WriteArchive(ctx context.Context, w io.Writer) error {
	tw := tar.NewWriter(w)
	at := im.spec.Created.UTC().Truncate(time.Second)
	folder := func(name string) error {
		return tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755, ModTime: at})
	}
	began := false
	for _, p := range im.parts() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if strings.Contains(p.name, "/") && !began {
			began = true
			if err := errors.Join(folder("blobs/"), folder("blobs/sha256/")); err != nil {
				return err
			}
		}
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: p.name, Mode: 0o644, Size: p.size(), ModTime: at}); err != nil {
			return err
		}
		r, done, err := p.open()
		if err != nil {
			return err
		}
		_, err = io.Copy(tw, r)
		done()
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return tw.Close()
}

// WriteLayout writes the image's layout into a folder, which must be missing or empty.
func (im *Image) WriteLayout(ctx context.Context, dir string) error {
	if names, err := os.ReadDir(dir); err == nil && len(names) > 0 {
		return fault.Advise(fault.Conflict, "Name a folder that is not there yet, or a file.", "write the image to %s: the folder is not empty", dir)
	}
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755); err != nil {
		return err
	}
	parts := im.parts()
	// The index last: without it there is no image.
	slices.SortStableFunc(parts, func(a, b part) int {
		return cmp.Compare(btoi(a.name == oci.ImageIndexFile), btoi(b.name == oci.ImageIndexFile))
	})
	for _, p := range parts {
		if err := ctx.Err(); err != nil {
			return err
		}
		if p.name == "manifest.json" {
			continue // for archives alone
		}
		if err := p.write(filepath.Join(dir, filepath.FromSlash(p.name))); err != nil {
			return fmt.Errorf("write the image to %s: %w", dir, err)
		}
	}
	return nil
}

func (p part) write(name string) error {
	r, done, err := p.open()
	if err != nil {
		return err
	}
	defer done()
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}
