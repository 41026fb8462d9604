package server

import (
	"bytes"
	"compress/flate"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"html/template"
	"net/http"
	"net/url"
	"sort"
	"strconv"
	"strings"
	"sync"

	"hallmark/internal/policy"
	"hallmark/internal/purl"
	"hallmark/internal/status"
)

// The table of a status is by far the greatest part of its page, and the same for
// all who may take the same files: it is made and packed once for them. What is a
// viewer's own (forms and their tokens, the build's card, what was searched) is made
// for each, and is never packed: the length of an answer tells nothing of a secret
// in it.

const (
	// pageRows is how many rows a page of the table has, unless all are asked for.
	pageRows = 500
	// maxTables and maxTableBytes bound the tables that are kept of one status.
	maxTables     = 24
	maxTableBytes = 24 << 20
)

// pageAll asks for all rows on one page.
const pageAll = -1

// readPage reads which page of the table an address asks for, the first is 1.
func readPage(q url.Values) int {
	if q.Get("page") == "all" {
		return pageAll
	}
	n, err := strconv.Atoi(q.Get("page"))
	if err != nil || n < 1 {
		return 1
	}
	return n
}

// tables are the tables that were made of one status. Each is made once.
type tables struct {
	p    *Project
	once sync.Once
	of   outline

	simpleOnce sync.Once
	simple     []simplePackage

	mu    sync.Mutex // guards all below
	all   map[tableKey]*table
	order []tableKey // the oldest first
	bytes int
}

// packages are what a registry offers of the status; they are read alone.
func (t *tables) packages() []simplePackage {
	t.simpleOnce.Do(func() { t.simple = packages(t.p) })
	return t.simple
}

func newTables(p *Project) *tables { return &tables{p: p, all: map[tableKey]*table{}} }

// size is about how many bytes they take.
func (t *tables) size() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.bytes + len(t.p.Document.Artifacts)*512
}

// tableKey names a table: what is left out, which page, and what the gate says of
// the bytes, by class.
type tableKey struct {
	Filter            filter
	Page              int
	Hosted            bool
	Secure, Community string
}

// table is one page of a table as HTML.
type table struct {
	once        sync.Once
	err         error
	html        []byte
	weight      int    // as counted in tables.bytes; guarded by tables.mu
	packed      []byte // html as blocks of deflate (RFC 1951) that need nothing before them; it ends on a byte
	sum         string // of html
	shown       int    // rows that the filter lets through, on all pages
	page, pages int    // 1 to pages; page is pageAll if all are on one
}

// outline is what a page says of all rows together.
type outline struct {
	rows      []status.Row // in the order for people
	anchors   map[purl.PURL]string
	place     map[purl.PURL]int // in rows
	classes   map[policy.Class]int
	grades    map[policy.Grade]int
	reasons   []option
	languages []option
	ask       string
	example   int // in rows; -1: none
	work      int
}

// outline reads the status once.
func (t *tables) outline() *outline {
	t.once.Do(func() {
		p := t.p
		o := outline{rows: status.ForPeople(p.Document.Artifacts), anchors: map[purl.PURL]string{}, place: map[purl.PURL]int{}, classes: map[policy.Class]int{},
			grades: map[policy.Grade]int{}, ask: "PACKAGE", example: -1}
		reasons, languages := map[string]int{}, map[string]int{}
		asked := false // ask is a secure one
		for i, row := range o.rows {
			o.anchors[row.PURL], o.place[row.PURL] = anchor(row), i
			o.classes[row.Class]++
			languages[row.PURL.Type()]++
			if row.Grade != nil {
				o.grades[*row.Grade]++
			}
			seen := map[string]bool{}
			for _, x := range row.Reasons {
				if !seen[x.Code] {
					reasons[x.Code]++
					seen[x.Code] = true
				}
			}
			if row.Direct && row.File != nil && (o.ask == "PACKAGE" || secure(row) && !asked) {
				o.ask, asked = row.PURL.Name(), secure(row)
			}
			if row.Status == status.Queued || row.Status == status.Running {
				o.work++
			}
			if o.example < 0 && secure(row) && row.File != nil {
				o.example = i
			}
		}
		for c, n := range reasons {
			o.reasons = append(o.reasons, option{Value: c, Label: c, Count: n})
		}
		for l, n := range languages {
			o.languages = append(o.languages, option{Value: l, Label: languageOf(l), Count: n})
		}
		for _, list := range [][]option{o.reasons, o.languages} {
			sort.Slice(list, func(i, j int) bool { return list[i].Value < list[j].Value })
		}
		t.of = o
	})
	return &t.of
}

// selected is options with the one selected that the filter asks for.
func selected(all []option, value string) []option {
	out := make([]option, len(all))
	for i, o := range all {
		o.Selected = o.Value == value
		out[i] = o
	}
	return out
}

// errUnfinished is what whoever comes later hears of a table whose making panicked.
var errUnfinished = errors.New("the table could not be made")

// table gives a table, made by build if it is not kept.
func (t *tables) table(k tableKey, build func(*table) error) (*table, error) {
	t.mu.Lock()
	v := t.all[k]
	if v == nil {
		for len(t.order) > 0 && (len(t.order) >= maxTables || t.bytes > maxTableBytes) {
			t.drop(t.order[0])
		}
		v = &table{}
		t.all[k] = v
		t.order = append(t.order, k)
	}
	t.mu.Unlock()
	v.once.Do(func() {
		v.err = errUnfinished // should build panic
		v.err = build(v)
		t.mu.Lock()
		defer t.mu.Unlock()
		switch {
		case t.all[k] != v: // dropped meanwhile
		case v.err != nil:
			t.drop(k)
		default:
			v.weight = len(v.html) + len(v.packed)
			t.bytes += v.weight
		}
	})
	return v, v.err
}

// drop takes a table out; the caller holds mu.
func (t *tables) drop(k tableKey) {
	if v := t.all[k]; v != nil {
		t.bytes -= v.weight // nothing while it is being made
		delete(t.all, k)
	}
	for i, o := range t.order {
		if o == k {
			t.order = append(t.order[:i:i], t.order[i+1:]...)
			return
		}
	}
}

// tableView is what the template of the table gets.
type tableView struct {
	Name   string // ORG/PROJECT
	Hosted bool
	Rows   []rowView
}

// table makes or finds the table of a project's page.
func (s *Server) table(ctx context.Context, p *Project, f filter, page int, t takes) (*table, error) {
	k := tableKey{Filter: f, Page: page, Hosted: s.opts.Platform != nil, Secure: t.says(policy.Secure), Community: t.says(policy.Community)}
	made := s.cache.tables(p)
	defer s.cache.weigh(p, made)
	return made.table(k, func(v *table) error {
		o := made.outline()
		var rows []status.Row
		at := map[purl.PURL]int{} // in rows
		for _, row := range o.rows {
			if f.match(row) {
				at[row.PURL] = len(rows)
				rows = append(rows, row)
			}
		}
		v.shown, v.page, v.pages = len(rows), page, max(1, (len(rows)+pageRows-1)/pageRows)
		from, to := 0, len(rows)
		if page != pageAll {
			v.page = min(page, v.pages)
			from, to = (v.page-1)*pageRows, min(v.page*pageRows, len(rows))
		}
		// Where the row of an artifact at fault is: on this page, or on another one.
		link := func(u purl.PURL) string {
			if i, ok := at[u]; ok && i >= from && i < to {
				return "#" + o.anchors[u]
			}
			return s.rowLink(p, u)
		}
		view := tableView{Name: p.Document.Project, Hosted: k.Hosted}
		builders := map[string]string{} // pages of builder ids, each asked for once
		for _, row := range rows[from:to] {
			view.Rows = append(view.Rows, s.rowView(context.WithoutCancel(ctx), p, row, o.anchors[row.PURL], link, t, builders))
		}
		var b bytes.Buffer
		if err := pages()["project"].ExecuteTemplate(&b, "table", view); err != nil {
			return fmt.Errorf("table of %s: %w", p.Document.Project, err)
		}
		v.html = b.Bytes()
		sum := sha256.Sum256(v.html)
		v.sum = hex.EncodeToString(sum[:])
		return v.pack()
	})
}

// pack packs the HTML.
func (v *table) pack() error {
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

// rowLink is the address of an artifact's row in a project's unfiltered table; empty
// if it has none.
func (s *Server) rowLink(p *Project, u purl.PURL) string {
	o := s.cache.tables(p).outline()
	i, ok := o.place[u]
	if !ok {
		return ""
	}
	to := "/" + p.Document.Project
	if n := i/pageRows + 1; n > 1 {
		to += "?page=" + strconv.Itoa(n)
	}
	return to + "#" + o.anchors[u]
}

// says is what the gate said of a class, with the artifact that it was asked about.
func (t takes) says(c policy.Class) string {
	r, ok := t[c]
	if !ok || r.err == nil {
		return ""
	}
	return string(r.of) + " " + r.err.Error()
}

// pageLink is a page of the table, to go to.
type pageLink struct {
	Label, Link string
	Current     bool
}

// pageLinks are the pages of a table under its filter; none if there is but one.
func (v *table) pageLinks(name string, f filter) []pageLink {
	if v.pages < 2 {
		return nil
	}
	q := url.Values{}
	for key, value := range map[string]string{"class": f.Class, "grade": f.Grade, "reason": f.Reason, "language": f.Language, "q": f.Text, "branch": f.branch} {
		if value != "" {
			q.Set(key, value)
		}
	}
	link := func(page string) string {
		q.Set("page", page)
		return "/" + name + "?" + q.Encode() + "#builds"
	}
	var out []pageLink
	for n := 1; n <= v.pages; n++ {
		// Of very many the first, the last and those around the one that is shown.
		if n > 3 && n < v.pages-2 && (n < v.page-3 || n > v.page+3) {
			continue
		}
		out = append(out, pageLink{strconv.Itoa(n), link(strconv.Itoa(n)), n == v.page})
	}
	return append(out, pageLink{"all on one page", link("all"), v.page == pageAll})
}

// renderAround answers with a page in which a table stands where its template puts
// the mark. A client that has the page already is told so.
func (s *Server) renderAround(w http.ResponseWriter, r *http.Request, name, title string, body any, v *table) {
	var b bytes.Buffer
	if err := pages()[name].Execute(&b, s.pageOf(r, title, body)); err != nil {
		s.fail(w, r, fmt.Errorf("page %s: %w", name, err))
		return
	}
	head, tail, ok := bytes.Cut(b.Bytes(), []byte(tableMark))
	if !ok { // a page without rows
		head, tail, v = b.Bytes(), nil, &table{}
	}
	sum := sha256.New()
	fmt.Fprintf(sum, "%d %s ", len(head), v.sum)
	sum.Write(head)
	sum.Write(tail)
	tag := hex.EncodeToString(sum.Sum(nil)[:16])
	packs := len(v.packed) > 0 && takesGzip(r)
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
	parts := [][]byte{head, v.html, tail}
	if packs {
		h.Set("Content-Encoding", "gzip")
		parts = gzipAround(head, v.html, v.packed, tail)
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

// tableMark stands in a page where its table goes. Nothing that anybody sends can be
// the same: it is made anew by each process.
var tableMark = "<!-- table " + processSecret() + " -->"

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

// gzipAround is one member of gzip (RFC 1952): head, then text, which is packed
// already, then tail. Head and tail are stored as they are.
func gzipAround(head, text, packed, tail []byte) [][]byte {
	out := [][]byte{{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255}}
	out = append(out, stored(head, false)...)
	out = append(out, packed)
	out = append(out, stored(tail, true)...)
	sum, size := uint32(0), uint32(0)
	for _, part := range [][]byte{head, text, tail} {
		sum, size = crc32.Update(sum, crc32.IEEETable, part), size+uint32(len(part))
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

// tableMarkHTML is tableMark for a template.
func tableMarkHTML() template.HTML { return template.HTML(tableMark) } //nolint:gosec // it is ours
