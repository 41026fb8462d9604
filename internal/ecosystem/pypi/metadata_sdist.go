package pypi

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"hallmark/internal/archive"
	"hallmark/internal/fault"
)

// Limits for reading a source distribution until its PKG-INFO is found.
const (
	maxSdistUnpacked = 4 << 30
	maxSdistEntries  = 500_000
)

// SdistMetadata reads PKG-INFO at the top folder of a source distribution (PEP
// 643, PEP 625) and stops there: r is not read further, so a digest over r is
// the caller's to finish. fault.NotFound: it has none, which old ones may.
func SdistMetadata(r io.Reader, filename string) (Metadata, error) {
	b, err := sdistPkgInfo(r, filename)
	if err != nil {
		return Metadata{}, err
	}
	m, err := ParseMetadata(b)
	if err != nil {
		return Metadata{}, fmt.Errorf("PKG-INFO of %s: %w", filename, err)
	}
	return m, nil
}

func sdistPkgInfo(r io.Reader, filename string) ([]byte, error) {
	var format archive.Format
	br := bufio.NewReaderSize(r, 64<<10)
	switch {
	case strings.HasSuffix(filename, ".tar.gz"), strings.HasSuffix(filename, ".tgz"):
		format = archive.Gzip
	case strings.HasSuffix(filename, ".tar.bz2"):
		format = archive.Bzip2
	case strings.HasSuffix(filename, ".tar.xz"):
		format = archive.XZ
	case strings.HasSuffix(filename, ".zip"):
		return pkgInfoInZip(br, filename)
	default:
		return nil, fault.New(fault.Unsupported, "source %.120q: not an archive of a known kind", filename)
	}
	t, err := archive.Decompress(br, format)
	if err != nil {
		return nil, sdistError(filename, err)
	}
	defer t.Close()
	return pkgInfoInTar(tar.NewReader(&io.LimitedReader{R: t, N: maxSdistUnpacked}), filename)
}

// sdistError keeps the kind of an error of the reader underneath; what else goes
// wrong in an archive is the archive's.
func sdistError(filename string, err error) error {
	if fault.KindOf(err) != "" {
		return err
	}
	return fault.New(fault.Hostile, "source %s: %w", filename, err)
}

func errNoPkgInfo(filename string) error {
	return fault.New(fault.NotFound, "source %s: has no PKG-INFO in its top folder", filename)
}

// isPkgInfo tells whether an entry is PKG-INFO in a folder at the top.
func isPkgInfo(name string) bool {
	dir, base, ok := strings.Cut(strings.TrimPrefix(name, "./"), "/")
	return ok && dir != "" && dir != ".." && dir != "." && base == "PKG-INFO"
}

func pkgInfoInTar(t *tar.Reader, filename string) ([]byte, error) {
	for range maxSdistEntries {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil, errNoPkgInfo(filename)
		}
		if err != nil {
			return nil, sdistError(filename, err)
		}
		if h.Typeflag != tar.TypeReg || !isPkgInfo(h.Name) {
			continue
		}
		return readPkgInfo(t, filename)
	}
	return nil, fault.New(fault.Hostile, "source %s: more than %d entries", filename, maxSdistEntries)
}

func readPkgInfo(r io.Reader, filename string) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxMetadataBytes+1))
	if err != nil {
		return nil, sdistError(filename, err)
	}
	if len(b) > maxMetadataBytes {
		return nil, fault.New(fault.Hostile, "source %s: PKG-INFO of more than %d bytes", filename, maxMetadataBytes)
	}
	return b, nil
}

// pkgInfoInZip spools the archive, whose directory is at its end.
func pkgInfoInZip(r io.Reader, filename string) ([]byte, error) {
	f, err := os.CreateTemp("", "hallmark-sdist-*")
	if err != nil {
		return nil, fmt.Errorf("source %s: %w", filename, err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	n, err := io.Copy(f, io.LimitReader(r, maxSdistUnpacked+1))
	if err != nil {
		return nil, sdistError(filename, err)
	}
	if n > maxSdistUnpacked {
		return nil, fault.New(fault.Hostile, "source %s: more than %d bytes", filename, maxSdistUnpacked)
	}
	z, err := archive.ReadZipDirectory(f, n, maxZipEntries)
	if err != nil {
		return nil, fmt.Errorf("source %s: %w", filename, err)
	}
	for _, e := range z.File {
		if !e.Mode().IsRegular() || !isPkgInfo(e.Name) {
			continue
		}
		o, err := e.Open()
		if err != nil {
			return nil, sdistError(filename, err)
		}
		defer o.Close()
		return readPkgInfo(o, filename)
	}
	return nil, errNoPkgInfo(filename)
}
