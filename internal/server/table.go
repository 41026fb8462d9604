package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"sort"
	"strconv"
	"sync"

	"hallmark/internal/policy"
	"hallmark/internal/purl"
	"hallmark/internal/status"
)

// The table of a status is by far the greatest part of its page, and the same for
// all who may take the same files: it is made and packed once for them.

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
	Rests             string
}

// table is one page of a table as HTML.
type table struct {
	once sync.Once
	err  error
	piece
	weight      int // as counted in tables.bytes; guarded by tables.mu
	shown       int // rows that the filter lets through, on all pages
	page, pages int // 1 to pages; page is pageAll if all are on one
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
	k := tableKey{Filter: f, Page: page, Hosted: s.opts.Platform != nil, Secure: t.says(policy.Secure), Community: t.says(policy.Community), Rests: t.says(restsClass)}
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
		return v.pack()
	})
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
