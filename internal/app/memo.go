package app

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hallmark/internal/build"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/policy"
	"hallmark/internal/project"
	"hallmark/internal/record"
	"hallmark/internal/status"
	"hallmark/internal/store"
)

// A memo is the status of a commit for which nothing was left to do, with all that
// it rests on: while that is as it was, computing it again would give the same, and
// hallmark builds would do nothing. It rests on the commit and what it was solved
// to, the policy, the keys and the builders that are trusted, this program, the rows
// about the plan's steps (by the database's journal), and the file of every blob
// that was read (by its stamp). Like a memory it is under a code, and one that is
// missing, damaged, another's or older than a day is as good as none. verify and
// fsck never look at it.
type memo struct {
	Rests   restsOn         `json:"rests_on"`
	Made    time.Time       `json:"made"`
	Mark    store.Mark      `json:"mark"`   // state of the database
	Stamps  digest.Digest   `json:"stamps"` // of the blobs
	Lock    digest.Digest   `json:"lock"`   // of hallmark.lock
	Caveats []string        `json:"caveats"`
	Rows    map[int]memoRow `json:"rows"`
	// Behind the JSON: the document's JSON, and the digests of blobs and steps.
	Document int `json:"document"` // bytes
	Blobs    int `json:"blobs"`
	Steps    int `json:"steps"`

	document     []byte
	blobs, steps []digest.Digest
}

// memoRow is what a row of the document has beside its JSON; a row without any is
// left out.
type memoRow struct {
	Direct  bool            `json:"direct,omitempty"`
	Failure *status.Failure `json:"failure,omitempty"`
}

// restsOn is what a memo rests on beside rows and blobs.
type restsOn struct {
	Schema   int           `json:"schema"`
	Program  string        `json:"program"`
	Commit   digest.Digest `json:"commit"`
	Plan     digest.Digest `json:"plan"`
	Policy   digest.Digest `json:"policy"`
	Trust    digest.Digest `json:"trust"`
	Builders []string      `json:"builders"`
}

const (
	memoSchema = 2
	memoAge    = 24 * time.Hour
	maxMemo    = 256 << 20
)

func memoFile(commit digest.Digest) string { return filepath.Join("status", commit.Hex()) }

// rests gives what a memo of a commit made now would rest on.
func (a *App) rests(ctx context.Context, id digest.Digest, c project.Commit) (restsOn, error) {
	sol, err := a.Store.Solution(ctx, id)
	if err != nil {
		return restsOn{}, err
	}
	_, pol, err := Policy(c.Policy)
	if err != nil {
		return restsOn{}, err
	}
	_, trust, err := a.ownVerifier()
	if err != nil {
		return restsOn{}, err
	}
	r := restsOn{Schema: memoSchema, Program: program(), Commit: id, Plan: sol.Plan, Policy: pol,
		Trust: digest.FromBytes(trust), Builders: append([]string{a.BuilderID()}, a.settings.Builders...)}
	if r.Program == "" {
		return r, errors.New("this program cannot tell which one it is")
	}
	return r, nil
}

// Settled gives the status of a commit for which nothing is to be done; false if
// there may be something, or that is not known without computing it. The
// document is what Builds and Status would give. With a folder it also asks that
// the hallmark.lock in there is the commit's.
func (a *App) Settled(ctx context.Context, id digest.Digest, c project.Commit, dir string) (status.Document, bool) {
	if a.cfg.Retry || a.cfg.Fresh {
		return status.Document{}, false
	}
	m := a.readMemo(id)
	if m == nil {
		return status.Document{}, false
	}
	age := time.Since(m.Made)
	rests, err := a.rests(ctx, id, c)
	if err != nil || age < 0 || age > memoAge || !sameRests(rests, m.Rests) {
		return status.Document{}, false
	}
	if dir != "" && lockDigest(dir) != m.Lock {
		return status.Document{}, false
	}
	touched, ok, err := a.Store.StepsSince(ctx, m.Mark)
	if err != nil || !ok {
		return status.Document{}, false
	}
	if len(touched) > 0 {
		if touched[""] {
			return status.Document{}, false
		}
		for _, s := range m.steps {
			if touched[s] {
				return status.Document{}, false
			}
		}
	}
	if a.Blobs.Stamps(m.blobs) != m.Stamps {
		return status.Document{}, false
	}
	var doc status.Document
	if json.Unmarshal(m.document, &doc) != nil {
		return status.Document{}, false
	}
	// What the document's JSON leaves out.
	doc.Caveats = m.Caveats
	for i, row := range m.Rows {
		if i < 0 || i >= len(doc.Artifacts) {
			return status.Document{}, false
		}
		doc.Artifacts[i].Direct, doc.Artifacts[i].Failure = row.Direct, row.Failure
	}
	return doc, true
}

// Glance is Status for whoever only shows it: what the report rests on (Solved,
// Verdicts and Input) may be missing from it.
func (a *App) Glance(ctx context.Context, id digest.Digest) (*Report, error) {
	c, err := a.Commit(ctx, id)
	if err != nil {
		return nil, err
	}
	doc, ok := a.Settled(ctx, id, c, "")
	if !ok {
		return a.Status(ctx, id)
	}
	r := &Report{Document: doc, Commit: c, CommitID: id}
	r.Policy, r.PolicyID, err = Policy(c.Policy)
	return r, err
}

func sameRests(x, y restsOn) bool {
	a, errA := json.Marshal(x)
	b, errB := json.Marshal(y)
	return errA == nil && errB == nil && bytes.Equal(a, b)
}

func lockDigest(dir string) digest.Digest {
	b, err := os.ReadFile(filepath.Join(dir, project.LockFile))
	if err != nil {
		return ""
	}
	return digest.FromBytes(b)
}

// Settle keeps the status of a commit for Settled, if nothing is left to do. dir is
// the project's folder, whose lock was written. It changes nothing but the cache,
// and does nothing where that cannot be written.
func (a *App) Settle(ctx context.Context, dir string, r *Report) error {
	if !a.writer || !a.idle(r) {
		return nil
	}
	rests, err := a.rests(ctx, r.CommitID, r.Commit)
	if err != nil {
		return nil
	}
	mark, err := a.Store.Mark(ctx)
	if err != nil {
		return err
	}
	m := memo{Rests: rests, Made: time.Now().UTC(), Mark: mark, Lock: lockDigest(dir), Caveats: r.Document.Caveats, Rows: map[int]memoRow{}}
	for i, row := range r.Document.Artifacts {
		if row.Direct || row.Failure != nil {
			m.Rows[i] = memoRow{row.Direct, row.Failure}
		}
	}
	if m.blobs, m.steps, err = a.lookedAt(ctx, r); err != nil {
		return err
	}
	m.Blobs, m.Steps = len(m.blobs), len(m.steps)
	m.Stamps = a.Blobs.Stamps(m.blobs)
	if m.document, err = json.Marshal(r.Document); err != nil {
		return err
	}
	m.Document = len(m.document)
	b, err := m.encode()
	if err != nil {
		return err
	}
	a.sweepMemos()
	return a.writeCoded(memoFile(r.CommitID), b)
}

// idle tells whether hallmark builds would do nothing but compute the same status
// again. What it cannot tell is not idle.
func (a *App) idle(r *Report) bool {
	p := r.Solved.Plan
	good := map[digest.Digest]bool{}
	firsts, believed := map[digest.Digest]*record.Build{}, map[digest.Digest][]record.Build{}
	for _, s := range p.Steps {
		st := r.Input.Steps[s.ID]
		all := make([]record.Build, 0, len(st.Builds))
		for _, b := range st.Builds {
			if b.Revoked {
				continue // the engine does not see it
			}
			all = append(all, b.Build)
			if b.Outcome == record.Succeeded && b.Trusted && !b.Verified && (b.Purpose == record.First || b.Purpose == record.Rebuild) {
				return false // still to be signed
			}
		}
		believed[s.ID], firsts[s.ID] = all, build.First(all)
		good[s.ID] = firsts[s.ID] != nil && firsts[s.ID].Outcome == record.Succeeded
	}
	for _, s := range p.Steps {
		st, first := r.Input.Steps[s.ID], firsts[s.ID]
		switch {
		case first == nil:
			blocked := false
			for _, d := range s.Deps() {
				blocked = blocked || !good[d]
			}
			if !blocked {
				return false
			}
		case first.Outcome != record.Succeeded:
			if passing(first.Failure) {
				return false
			}
		default:
			if !a.Blobs.Has(first.Output.Digest) || len(st.Rebuilds) == 0 {
				return false
			}
			last := st.Rebuilds[len(st.Rebuilds)-1]
			if last.FirstDigest != first.Output.Digest || !build.Compares(last, believed[s.ID]) || last.Outcome == record.CouldNotBuild && passing(last.Failure) {
				return false
			}
		}
		if src, ok := p.SourceOf(s.Source()); ok && len(src.Removed) > 0 && first != nil {
			for _, b := range st.Builds {
				if b.Purpose == record.Prebuilt && b.Outcome != record.Succeeded && passing(b.Failure) {
					return false
				}
			}
			if !st.PrebuiltChecked {
				return false
			}
		}
	}
	for _, art := range p.Artifacts {
		if r.Commit.OnUnproven == project.Published && art.Published != nil && r.Verdicts[art.PURL].Class != policy.Secure && !a.Blobs.Has(art.Published.Digest) {
			return false // it is asked for again each time
		}
	}
	return true
}

// passing tells whether a failure may be another the next time.
func passing(f *record.Failure) bool {
	return f == nil || f.Class == record.FailTimeout || f.Class == record.FailSandbox
}

// lookedAt lists the blobs that a report rests on and the steps that it is about.
func (a *App) lookedAt(ctx context.Context, r *Report) (blobs, steps []digest.Digest, err error) {
	p := r.Solved.Plan
	for _, s := range p.Steps {
		steps = append(steps, s.ID)
	}
	for _, s := range p.Queries {
		steps = append(steps, s.ID)
	}
	for _, u := range p.Unplanned {
		if u.Query != "" {
			steps = append(steps, u.Query)
		}
	}
	slices.Sort(steps)
	steps = slices.Compact(steps)
	var subjects []digest.Digest
	builds, err := a.Store.BuildsOf(ctx, steps)
	if err != nil {
		return nil, nil, err
	}
	rebuilds, err := a.Store.RebuildsOf(ctx, steps)
	if err != nil {
		return nil, nil, err
	}
	blobs = append(blobs, r.Solved.ID, r.CommitID)
	for _, s := range steps {
		for _, b := range builds[s] {
			blobs = append(blobs, b.Record)
			if b.Output != "" {
				blobs = append(blobs, b.Output)
				subjects = append(subjects, b.Output)
			}
		}
		for _, b := range rebuilds[s] {
			blobs = append(blobs, b.Document)
		}
	}
	for _, st := range r.Input.Steps {
		for _, b := range st.Builds {
			if b.Output != nil && b.Output.Raw != "" {
				blobs = append(blobs, b.Output.Raw)
			}
		}
	}
	for _, art := range p.Artifacts {
		if art.Published != nil {
			blobs = append(blobs, art.Published.Digest) // whether it is there
		}
		if f, ok := r.Input.Served[art.PURL]; ok {
			subjects = append(subjects, f.Digest)
		}
	}
	slices.Sort(subjects)
	evidence, err := a.Store.EvidenceOf(ctx, slices.Compact(subjects))
	if err != nil {
		return nil, nil, err
	}
	for _, rows := range evidence {
		for _, row := range rows {
			blobs = append(blobs, row.Blob)
		}
	}
	slices.Sort(blobs)
	return slices.Compact(blobs), steps, nil
}

// digestSize is the length of a digest as text.
const digestSize = len(digest.Prefix) + 2*sha256.Size

// encode gives the length of the JSON, the JSON, the document, and the digests.
func (m *memo) encode() ([]byte, error) {
	head, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(len(head)))
	b = append(append(b, head...), m.document...)
	for _, d := range slices.Concat(m.blobs, m.steps) {
		if !d.Valid() {
			return nil, fault.New(fault.Corrupt, "what the status rests on: %.80q is no digest", d)
		}
		b = append(b, d...)
	}
	return b, nil
}

// readMemo reads what encode gave; nil if there is none that is whole.
func (a *App) readMemo(commit digest.Digest) *memo {
	b := a.readCoded(memoFile(commit), maxMemo)
	if len(b) < 4 {
		return nil
	}
	n := int(binary.BigEndian.Uint32(b))
	if b = b[4:]; n > len(b) {
		return nil
	}
	var m memo
	if json.Unmarshal(b[:n], &m) != nil {
		return nil
	}
	b = b[n:]
	if m.Document < 0 || m.Document > len(b) {
		return nil
	}
	m.document, b = b[:m.Document], b[m.Document:]
	if m.Blobs < 0 || m.Steps < 0 || m.Blobs > maxMemo || m.Steps > maxMemo || len(b) != (m.Blobs+m.Steps)*digestSize {
		return nil
	}
	text := string(b) // the digests are parts of it: no copies
	all := make([]digest.Digest, m.Blobs+m.Steps)
	for i := range all {
		all[i] = digest.Digest(text[i*digestSize : (i+1)*digestSize])
	}
	m.blobs, m.steps = all[:m.Blobs], all[m.Blobs:]
	return &m
}

// keepMemos is how many memos are kept: of the newest commits.
const keepMemos = 200

// sweepMemos removes the oldest memos, so that there is room for one more.
func (a *App) sweepMemos() {
	dir := a.cacheFile("status")
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) < keepMemos {
		return
	}
	age := func(e fs.DirEntry) int64 {
		if fi, err := e.Info(); err == nil {
			return fi.ModTime().UnixNano()
		}
		return 0
	}
	slices.SortFunc(entries, func(x, y fs.DirEntry) int {
		return cmp.Or(cmp.Compare(age(x), age(y)), strings.Compare(x.Name(), y.Name()))
	})
	for _, e := range entries[:len(entries)-keepMemos+1] {
		_ = os.Remove(filepath.Join(dir, e.Name())) // a cache: it is tried again the next time
	}
}
