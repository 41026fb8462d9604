package pypi

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"

	"hallmark/internal/archive"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
)

const (
	rangeTail     = 48 << 10 // first read: a wheel's directory and often its METADATA
	rangeChunk    = 32 << 10 // later reads
	maxRangeTotal = 64 << 20 // of one wheel, read by ranges
	maxZipEntries = 200_000
)

// WheelMetadata gives the METADATA of a wheel: from beside it where the index
// offers that (PEP 658), else by byte ranges out of the wheel's end, else out of
// the whole wheel. Only the first, with a digest, and the last are checked
// against a digest; solving treats all as a hint.
func (c *Client) WheelMetadata(ctx context.Context, name string, f File) ([]byte, error) {
	if !f.IsWheel() {
		return nil, fmt.Errorf("metadata of %s: not a wheel", f.Name)
	}
	key := "wheel-metadata/" + f.SHA256
	if c.Cache != nil && f.SHA256 != "" {
		if b, ok := c.Cache.Get(key); ok {
			return b, nil
		}
	}
	u, err := c.locate(ctx, name, f)
	if err != nil {
		return nil, err
	}
	b, err := c.metadataBeside(ctx, u, f)
	if b == nil && err == nil {
		b, err = c.metadataByRanges(ctx, u, f)
	}
	if errors.Is(err, errNoRanges) {
		b, err = c.metadataWhole(ctx, name, f)
	}
	if err == nil && c.Cache != nil && f.SHA256 != "" {
		c.Cache.Put(key, b)
	}
	return b, err
}

// metadataBeside is PEP 658; nil without an error if it is not offered.
func (c *Client) metadataBeside(ctx context.Context, u *url.URL, f File) ([]byte, error) {
	if f.CoreMetadata == "" {
		return nil, nil
	}
	what := "downloading the metadata of " + f.Name
	v := *u
	v.Path, v.RawPath = u.Path+".metadata", ""
	resp, err := c.do(ctx, &v, nil, what)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound, http.StatusGone:
		return nil, nil
	default:
		return nil, fault.New(fault.Unavailable, "%s: the server answered %s", what, resp.Status)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxMetadataBytes+1))
	if err != nil {
		return nil, fault.New(fault.Unavailable, "%s: %w", what, scrub(err))
	}
	if len(b) > maxMetadataBytes {
		return nil, fault.New(fault.Hostile, "%s: more than %d bytes", what, maxMetadataBytes)
	}
	if got := digest.FromBytes(b).Hex(); f.CoreMetadata != "true" && got != f.CoreMetadata {
		return nil, fault.New(fault.Unverified, "%s: want sha256 %s, got %s", what, f.CoreMetadata, got)
	}
	return b, nil
}

var errNoRanges = errors.New("the server gives no byte ranges")

// rangeReader is an io.ReaderAt over byte ranges of an address. It keeps what it
// read; its callers read one after the other.
type rangeReader struct {
	ctx    context.Context
	client *Client
	url    *url.URL
	what   string
	size   int64
	parts  []rangePart
	total  int64
}

type rangePart struct {
	from int64
	data []byte
}

// get reads one range; spec is what stands behind "bytes=".
func (r *rangeReader) get(spec string, limit int64) (rangePart, error) {
	if r.total += limit; r.total > maxRangeTotal {
		return rangePart{}, fault.New(fault.Hostile, "%s: needs more than %d bytes of the wheel", r.what, maxRangeTotal)
	}
	resp, err := r.client.do(r.ctx, r.url, http.Header{"Range": {"bytes=" + spec}, "Accept-Encoding": {"identity"}}, r.what)
	if err != nil {
		return rangePart{}, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusPartialContent:
	case http.StatusNotFound, http.StatusGone:
		return rangePart{}, fault.New(fault.NotFound, "%s: the server answered %s", r.what, resp.Status)
	case http.StatusOK, http.StatusRequestedRangeNotSatisfiable, http.StatusNotImplemented:
		return rangePart{}, errNoRanges
	default:
		return rangePart{}, fault.New(fault.Unavailable, "%s: the server answered %s", r.what, resp.Status)
	}
	// Content-Range: bytes FROM-TO/SIZE (RFC 9110, 14.4)
	span, size, ok := strings.Cut(strings.TrimPrefix(resp.Header.Get("Content-Range"), "bytes "), "/")
	from, to, ok2 := strings.Cut(span, "-")
	a, err1 := strconv.ParseInt(from, 10, 64)
	z, err2 := strconv.ParseInt(to, 10, 64)
	n, err3 := strconv.ParseInt(size, 10, 64)
	if !ok || !ok2 || err1 != nil || err2 != nil || err3 != nil || a < 0 || z < a || z >= n || z-a+1 > limit || r.size != 0 && r.size != n {
		return rangePart{}, errNoRanges
	}
	p := rangePart{from: a, data: make([]byte, z-a+1)}
	if _, err := io.ReadFull(resp.Body, p.data); err != nil {
		return rangePart{}, fault.New(fault.Unavailable, "%s: %w", r.what, scrub(err))
	}
	r.size = n
	r.parts = append(r.parts, p)
	return p, nil
}

// ReadAt is io.ReaderAt's.
func (r *rangeReader) ReadAt(b []byte, off int64) (int, error) {
	done := 0
next:
	for done < len(b) {
		at := off + int64(done)
		if at >= r.size {
			return done, io.EOF
		}
		for _, p := range r.parts {
			if at >= p.from && at < p.from+int64(len(p.data)) {
				done += copy(b[done:], p.data[at-p.from:])
				continue next
			}
		}
		want := max(int64(len(b)-done), rangeChunk)
		end := min(at+want, r.size)
		if _, err := r.get(fmt.Sprintf("%d-%d", at, end-1), end-at); err != nil {
			return done, err
		}
	}
	return done, nil
}

func (c *Client) metadataByRanges(ctx context.Context, u *url.URL, f File) ([]byte, error) {
	r := &rangeReader{ctx: ctx, client: c, url: u, what: "reading the metadata of " + f.Name}
	if _, err := r.get("-"+strconv.Itoa(rangeTail), rangeTail); err != nil {
		return nil, err
	}
	if f.Size != 0 && f.Size != r.size {
		return nil, fault.New(fault.Unverified, "%s: the server says it has %d bytes, the index %d", r.what, r.size, f.Size)
	}
	return metadataInZip(r, r.size, f)
}

// metadataInZip finds the one METADATA of a wheel (PEP 427, "The .dist-info
// directory").
func metadataInZip(r io.ReaderAt, size int64, f File) ([]byte, error) {
	bad := func(format string, args ...any) ([]byte, error) {
		return nil, fault.New(fault.Hostile, "wheel %s: "+format, append([]any{f.Name}, args...)...)
	}
	z, err := archive.ReadZipDirectory(r, size, maxZipEntries)
	switch {
	case errors.Is(err, errNoRanges), err != nil && !fault.Is(err, fault.Hostile):
		return nil, err
	case err != nil:
		return bad("%w", err)
	}
	var found *zip.File
	for _, e := range z.File {
		dir, base, _ := strings.Cut(e.Name, "/")
		stem, ok := strings.CutSuffix(dir, ".dist-info")
		if !ok || base != "METADATA" {
			continue
		}
		if n, _, _ := strings.Cut(stem, "-"); f.wheel != nil && NormalizeName(n) != f.wheel.Name {
			continue
		}
		if found != nil {
			return bad("has two METADATA files: %.80q and %.80q", found.Name, e.Name)
		}
		found = e
	}
	if found == nil {
		return bad("has no METADATA file")
	}
	if found.UncompressedSize64 > maxMetadataBytes {
		return bad("METADATA of %d bytes: at most %d", found.UncompressedSize64, maxMetadataBytes)
	}
	o, err := found.Open()
	if err != nil {
		return bad("METADATA: %w", err)
	}
	defer o.Close()
	b, err := io.ReadAll(io.LimitReader(o, maxMetadataBytes+1))
	if err != nil {
		if fault.KindOf(err) != "" {
			return nil, err
		}
		return bad("METADATA: %w", err)
	}
	return b, nil
}

// metadataWhole downloads the wheel to a temporary file, checked by its digest.
func (c *Client) metadataWhole(ctx context.Context, name string, f File) ([]byte, error) {
	t, err := os.CreateTemp("", "hallmark-wheel-*")
	if err != nil {
		return nil, fmt.Errorf("metadata of %s: %w", f.Name, err)
	}
	defer os.Remove(t.Name())
	defer t.Close()
	if err := c.Download(ctx, name, f, t); err != nil {
		return nil, err
	}
	size, err := t.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, fmt.Errorf("metadata of %s: %w", f.Name, err)
	}
	return metadataInZip(t, size, f)
}
