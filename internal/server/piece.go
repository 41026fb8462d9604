package server

import (
	"bytes"
	"compress/flate"
	"container/list"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"html/template"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// What is the same for all who may look at a page is by far the greatest part of it:
// it is made and packed once for them, as pieces. What is a viewer's own (forms and
// their tokens, the build's card, what was searched) is made for each, and is never
// packed: the length of an answer tells nothing of a secret in it.

// piece is a part of pages that is made once.
type piece struct {
	html   []byte
	packed []byte // html as blocks of deflate (RFC 1951) that need nothing before them; it ends on a byte
	sum    string // of html
}

// pack packs and names the HTML.
func (v *piece) pack() error {
	sum := sha256.Sum256(v.html)
	v.sum = hex.EncodeToString(sum[:])
	var packed bytes.Buffer
	z, err := flate.NewWriter(&packed, flate.BestSpeed+2)
	if err == nil {
		_, err = z.Write(v.html)
	}
	if err == nil {
		err = z.Flush()
	}
	v.packed = bytes.Clone(packed.Bytes())
	return err
}

// pieceMark stands in a page where a piece goes. Nothing that anybody sends can be
// the same: it is made anew by each process.
var pieceMark = "<!-- piece " + processSecret() + " -->"

// pieceMarkHTML is pieceMark for a template.
func pieceMarkHTML() template.HTML { return template.HTML(pieceMark) } //nolint:gosec // it is ours

// renderAround answers with a page in which pieces stand where its template puts the
// marks, in their order. A client that has the page already is told so.
func (s *Server) renderAround(w http.ResponseWriter, r *http.Request, name, title string, body any, pieces ...*piece) {
	var b bytes.Buffer
	if err := pages()[name].Execute(&b, s.pageOf(r, title, body)); err != nil {
		s.fail(w, r, fmt.Errorf("page %s: %w", name, err))
		return
	}
	own := bytes.Split(b.Bytes(), []byte(pieceMark))
	pieces = pieces[:min(len(pieces), len(own)-1)] // a page without rows has no mark
	if len(own) != len(pieces)+1 {
		s.fail(w, r, fmt.Errorf("page %s: %d pieces for %d marks", name, len(pieces), len(own)-1))
		return
	}
	packs := takesGzip(r) && len(pieces) > 0
	sum := sha256.New()
	for i, part := range own {
		fmt.Fprintf(sum, "%d ", len(part))
		sum.Write(part)
		if i < len(pieces) {
			fmt.Fprintf(sum, "%s ", pieces[i].sum)
		}
	}
	tag := hex.EncodeToString(sum.Sum(nil)[:16])
	if packs {
		tag += "-gzip"
	}
	tag = `"` + tag + `"`
	h := w.Header()
	h.Set("ETag", tag)
	h.Set("Vary", "Accept-Encoding, Cookie")
	h.Set("Cache-Control", "private, no-cache")
	if strings.Contains(r.Header.Get("If-None-Match"), tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", "text/html; charset=utf-8")
	var parts [][]byte
	if packs {
		h.Set("Content-Encoding", "gzip")
		parts = gzipAround(own, pieces)
	} else {
		for i, part := range own {
			if parts = append(parts, part); i < len(pieces) {
				parts = append(parts, pieces[i].html)
			}
		}
	}
	n := 0
	for _, part := range parts {
		n += len(part)
	}
	h.Set("Content-Length", strconv.Itoa(n))
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return
	}
	for _, part := range parts {
		if _, err := w.Write(part); err != nil {
			return
		}
	}
}

// takesGzip tells whether a client takes gzip (RFC 9110, 12.5.3): not if it says so
// with a weight of nought.
func takesGzip(r *http.Request) bool {
	for part := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, weight, weighted := strings.Cut(part, ";")
		if !strings.EqualFold(strings.TrimSpace(name), "gzip") {
			continue
		}
		if !weighted {
			return true
		}
		q, err := strconv.ParseFloat(strings.TrimPrefix(strings.ToLower(strings.TrimSpace(weight)), "q="), 64)
		return err == nil && q > 0
	}
	return false
}

// gzipAround is one member of gzip (RFC 1952): the first of own, then the first
// piece, which is packed already, and so on; own has one part more than there are
// pieces, and is stored as it is.
func gzipAround(own [][]byte, pieces []*piece) [][]byte {
	out := [][]byte{{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255}}
	sum, size := uint32(0), uint32(0)
	count := func(b []byte) { sum, size = crc32.Update(sum, crc32.IEEETable, b), size+uint32(len(b)) }
	for i, part := range own {
		out = append(out, stored(part, i == len(own)-1)...)
		count(part)
		if i < len(pieces) {
			out = append(out, pieces[i].packed)
			count(pieces[i].html)
		}
	}
	return append(out, []byte{byte(sum), byte(sum >> 8), byte(sum >> 16), byte(sum >> 24), byte(size), byte(size >> 8), byte(size >> 16), byte(size >> 24)})
}

// stored is bytes in blocks of deflate that are not packed (RFC 1951, 3.2.4).
func stored(b []byte, last bool) [][]byte {
	const most = 1<<16 - 1
	var out [][]byte
	for first := true; first || len(b) > 0; first = false {
		n := min(len(b), most)
		final := byte(0)
		if last && n == len(b) {
			final = 1
		}
		out = append(out, []byte{final, byte(n), byte(n >> 8), ^byte(n), ^byte(n >> 8)}, b[:n])
		b = b[n:]
	}
	return out
}

// maxPieces bounds what is kept of the pieces of artifacts' pages, in bytes.
const maxPieces = 48 << 20

// pieces keeps those of artifacts' pages, the ones asked for last.
type pieces struct {
	limit int
	mu    sync.Mutex // guards all below
	all   map[pieceKey]*list.Element
	order *list.List // of *kept, the one asked for last in front
	bytes int
}

// pieceKey names a piece: what is told of an artifact, which a backend changes by
// giving another, and how.
type pieceKey struct {
	of         *Artifact
	base, name string
}

// keptPiece is a piece that is made by whoever asks first.
type keptPiece struct {
	key    pieceKey
	once   sync.Once
	err    error
	weight int // as counted in pieces.bytes; guarded by pieces.mu
	piece
}

func newPieces() *pieces {
	return &pieces{limit: maxPieces, all: map[pieceKey]*list.Element{}, order: list.New()}
}

// get gives a piece, made of a template if it is not kept.
func (c *pieces) get(k pieceKey, tmpl string, data func() any) (*piece, error) {
	c.mu.Lock()
	at, ok := c.all[k]
	if !ok {
		at = c.order.PushFront(&keptPiece{key: k})
		c.all[k] = at
	}
	c.order.MoveToFront(at)
	v := at.Value.(*keptPiece)
	c.mu.Unlock()
	v.once.Do(func() {
		v.err = errUnfinished // should the making panic
		var b bytes.Buffer
		if v.err = pages()["artifact"].ExecuteTemplate(&b, tmpl, data()); v.err == nil {
			v.html = slices.Clip(b.Bytes())
			v.err = v.pack()
		}
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all[k] != at {
		return &v.piece, v.err // it was dropped meanwhile
	}
	if v.err != nil {
		c.drop(at)
		return nil, v.err
	}
	if v.weight == 0 {
		v.weight = len(v.html) + len(v.packed) + 1
		c.bytes += v.weight
	}
	for c.bytes > c.limit && c.order.Len() > 1 {
		c.drop(c.order.Back())
	}
	return &v.piece, nil
}

// drop forgets a piece; the caller holds mu.
func (c *pieces) drop(at *list.Element) {
	v := c.order.Remove(at).(*keptPiece)
	c.bytes -= v.weight
	delete(c.all, v.key)
}
