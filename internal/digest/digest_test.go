package digest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"testing/quick"
)

func TestParseSpellings(t *testing.T) {
	good := strings.Repeat("0a", 32)
	for s, ok := range map[string]bool{
		"sha256:" + good:                        true,
		"sha256:" + strings.ToUpper(good):       false,
		good:                                    false,
		"sha512:" + good:                        false,
		"SHA256:" + good:                        false,
		"sha256:sha256:" + good:                 false,
		"sha256:" + good[:63]:                   false,
		"sha256:" + good + "0":                  false,
		"sha256:" + good[:63] + "g":             false,
		"sha256:" + good[:30] + "-" + good[31:]: false,
		"sha256:" + good[:63] + "\n":            false,
		" sha256:" + good:                       false,
		"sha256:":                               false,
		"":                                      false,
		"sha256:" + strings.Repeat("é", 32):     false,
		"sha256:" + good[:20] + "\x00" + good[21:64]: false,
	} {
		d, err := Parse(s)
		if (err == nil) != ok || ok && string(d) != s || !ok && d != "" {
			t.Errorf("Parse(%q) = %q, %v", s, d, err)
		}
		if Digest(s).Valid() != ok {
			t.Errorf("Valid(%q) = %t", s, !ok)
		}
	}
	if _, err := Parse(strings.Repeat("x", 1<<20)); err == nil || len(err.Error()) > 1000 {
		t.Errorf("error of %d bytes", len(err.Error()))
	}
}

func TestWordsOfADigest(t *testing.T) {
	d := FromBytes(nil)
	if want := "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"; d.String() != want {
		t.Errorf("digest of nothing is %s, want %s", d, want)
	}
	if d.Hex() != d.String()[7:] || d.Short() != "e3b0c44298fc" || Digest("").Hex() != "" || Digest("").Short() != "" || Digest("sha256:ab").Short() != "ab" {
		t.Errorf("hex %q, short %q", d.Hex(), d.Short())
	}
	if _, err := FromHex(d.String()); err == nil {
		t.Error("FromHex takes a prefix")
	}
}

func TestAllWaysToADigestAgree(t *testing.T) {
	err := quick.Check(func(b []byte) bool {
		d := FromBytes(b)
		h := sha256.New()
		h.Write(b)
		r, n, err := FromReader(iotest.OneByteReader(bytes.NewReader(b)))
		p, perr := Parse(d.String())
		x, xerr := FromHex(d.Hex())
		return d == FromHash(h) && d == r && n == int64(len(b)) && d == p && d == x && errors.Join(err, perr, xerr) == nil
	}, nil)
	if err != nil {
		t.Error(err)
	}
	if d, _, err := FromReader(iotest.ErrReader(io.ErrClosedPipe)); d != "" || !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("a reader that fails gave %q, %v", d, err)
	}
}

func TestReaderEndsOnlyWithThePromisedBytes(t *testing.T) {
	wrap := map[string]func(io.Reader) io.Reader{
		"whole": func(r io.Reader) io.Reader { return r }, "bytes": iotest.OneByteReader,
		"data and end": iotest.DataErrReader, "halves": iotest.HalfReader,
	}
	err := quick.Check(func(b []byte, at uint) bool {
		for name, w := range wrap {
			got, err := io.ReadAll(NewReader(w(bytes.NewReader(b)), FromBytes(b), int64(len(b))))
			if err != nil || !bytes.Equal(got, b) {
				t.Logf("%s: right bytes: %v", name, err)
				return false
			}
			if len(b) == 0 {
				continue
			}
			changed := bytes.Clone(b)
			changed[at%uint(len(b))] ^= 1
			if _, err := io.ReadAll(NewReader(w(bytes.NewReader(changed)), FromBytes(b), int64(len(b)))); !errors.Is(err, ErrMismatch) {
				t.Logf("%s: one bit changed: %v", name, err)
				return false
			}
			if _, err := io.ReadAll(NewReader(w(bytes.NewReader(b[:len(b)-1])), FromBytes(b), int64(len(b)))); !errors.Is(err, ErrMismatch) {
				t.Logf("%s: cut short: %v", name, err)
				return false
			}
			if _, err := io.ReadAll(NewReader(w(bytes.NewReader(b)), FromBytes(b), int64(len(b))-1)); !errors.Is(err, ErrTooLarge) {
				t.Logf("%s: over the limit: %v", name, err)
				return false
			}
		}
		return true
	}, &quick.Config{MaxCount: 50})
	if err != nil {
		t.Error(err)
	}
}

// endless never ends and has no bytes worth keeping.
type endless struct{ n int64 }

func (e *endless) Read(p []byte) (int, error) { e.n += int64(len(p)); return len(p), nil }

func TestReaderHoldsItsLimit(t *testing.T) {
	src := &endless{}
	n, err := io.Copy(io.Discard, NewReader(src, FromBytes(nil), 1<<20))
	if !errors.Is(err, ErrTooLarge) || n > 1<<20 || src.n > 2<<20 {
		t.Errorf("gave %d bytes of %d read: %v", n, src.n, err)
	}
	// Whoever goes on reading gets no further.
	r := NewReader(strings.NewReader("abc"), FromBytes([]byte("abd")), 10)
	for i := range 4 {
		_, err = r.Read(make([]byte, 8))
		if i > 0 && !errors.Is(err, ErrMismatch) {
			t.Errorf("read %d: %v", i, err)
		}
	}
	if _, err := io.ReadAll(NewReader(iotest.ErrReader(io.ErrClosedPipe), FromBytes(nil), 1)); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("error of the source: %v", err)
	}
	if _, err := io.ReadAll(NewReader(strings.NewReader("x"), "", 10)); !errors.Is(err, ErrMismatch) {
		t.Errorf("nothing was promised: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("sha256:" + strings.Repeat("ab", 32))
	f.Fuzz(func(t *testing.T, s string) {
		if d, err := Parse(s); err == nil && (d.String() != s || len(s) != 71 || s != strings.ToLower(s)) {
			t.Errorf("Parse(%q) = %q", s, d)
		}
	})
}
