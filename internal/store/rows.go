package store

import (
	"context"
	"database/sql"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"hallmark/internal/access"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/purl"
)

// CreateProject makes a project without commits. One that exists is
// fault.Conflict. An organization that is not there comes into being with tier
// enterprise: its owner runs the data directory. A server, whose organizations are
// made by their owners, asks for one before.
func (s *Store) CreateProject(ctx context.Context, org, name string, created time.Time) (Project, error) {
	if err := access.CheckProject(org, name); err != nil {
		return Project{}, err
	}
	what := "project " + org + "/" + name
	if err := s.need(what); err != nil {
		return Project{}, err
	}
	p := Project{Org: org, Name: name, Created: utc(created)}
	return p, s.inTx(ctx, what, func(ctx context.Context, tx bun.Tx) error {
		o := Org{Name: org, Tier: string(access.Enterprise), Created: p.Created}
		if _, err := once(ctx, s, tx, &o, func(Org) bool { return true }, "name = ?", org); err != nil {
			return err
		}
		_, err := once(ctx, s, tx, &p, func(Project) bool { return false }, "org = ? AND name = ?", org, name)
		return err
	})
}

// Project finds a project.
func (s *Store) Project(ctx context.Context, org, name string) (Project, error) {
	return one[Project](ctx, s, fmt.Sprintf("project %.80s/%.80s", org, name), "org", "org = ? AND name = ?", org, name)
}

// Projects lists all projects, sorted by organization and name.
func (s *Store) Projects(ctx context.Context) ([]Project, error) {
	return list[Project](ctx, s, "projects", "org, name", "1 = 1")
}

// AddCommit stores a commit of an existing project; its parent must be stored.
// It does not move the head.
func (s *Store) AddCommit(ctx context.Context, c Commit) error {
	what := "commit " + c.ID.String()
	if !c.ID.Valid() || c.Document == "" {
		return fault.New(fault.Usage, "store %s: it needs an id and a document", what)
	}
	if err := s.need(what, c.Document); err != nil {
		return err
	}
	return s.inTx(ctx, what, func(ctx context.Context, tx bun.Tx) error { return s.addCommit(ctx, tx, c) })
}

func (s *Store) addCommit(ctx context.Context, tx bun.Tx, c Commit) error {
	c.Created = utc(c.Created)
	if c.Parent != "" {
		n, err := tx.NewSelect().Model((*Commit)(nil)).Where("id = ? AND org = ? AND name = ?", c.Parent, c.Org, c.Name).Count(ctx)
		if err != nil {
			return err
		}
		if n == 0 {
			return fault.New(fault.Conflict, "its parent %s is no commit of %s/%s", c.Parent, c.Org, c.Name)
		}
	}
	_, err := once(ctx, s, tx, &c, func(h Commit) bool {
		return h.Org == c.Org && h.Name == c.Name && h.Parent == c.Parent && h.Document == c.Document
	}, "id = ?", c.ID)
	return err
}

// Commit finds a commit by id.
func (s *Store) Commit(ctx context.Context, id digest.Digest) (Commit, error) {
	return one[Commit](ctx, s, "commit "+id.String(), "id", "id = ?", id)
}

// CommitsByPrefix lists commits whose id begins with "sha256:" and these hex
// digits, at most 10.
func (s *Store) CommitsByPrefix(ctx context.Context, hex string) ([]Commit, error) {
	lo, hi, err := prefix(hex)
	if err != nil {
		return nil, err
	}
	return list[Commit](ctx, s, "commits", "id LIMIT 10", "id >= ? AND id < ?", lo, hi)
}

// Head is a project's newest commit; fault.NotFound if it has none.
func (s *Store) Head(ctx context.Context, org, name string) (Commit, error) {
	p, err := s.Project(ctx, org, name)
	if err != nil {
		return Commit{}, err
	}
	if p.Head == "" {
		return Commit{}, fault.New(fault.NotFound, "project %s/%s has no commit yet", org, name)
	}
	return s.Commit(ctx, p.Head)
}

// SetHead moves a project's head from old (empty: none) to the stored commit
// next, whose project it must be; fault.Conflict if the head is another by now.
func (s *Store) SetHead(ctx context.Context, org, name string, old, next digest.Digest) error {
	what := fmt.Sprintf("head of %s/%s", org, name)
	if err := s.need(what); err != nil {
		return err
	}
	return s.inTx(ctx, what, func(ctx context.Context, tx bun.Tx) error { return s.setHead(ctx, tx, org, name, old, next) })
}

func (s *Store) setHead(ctx context.Context, tx bun.Tx, org, name string, old, next digest.Digest) error {
	if err := commitOf(ctx, tx, org, name, next); err != nil {
		return err
	}
	res, err := tx.NewUpdate().Model((*Project)(nil)).Set("head = ?", next).
		Where("org = ? AND name = ? AND COALESCE(head, '') = ?", org, name, string(old)).Exec(ctx)
	if err := changedOne(res, err, "it is no longer %q: somebody else made a commit", old); err != nil {
		return err
	}
	return s.seal(ctx, tx, Project{Org: org, Name: name}.place())
}

// commitOf is fault.Conflict if id is no commit of the project.
func commitOf(ctx context.Context, tx bun.Tx, org, name string, id digest.Digest) error {
	n, err := tx.NewSelect().Model((*Commit)(nil)).Where("id = ? AND org = ? AND name = ?", id, org, name).Count(ctx)
	if err == nil && n == 0 {
		err = fault.New(fault.Conflict, "%s is no commit of this project", id)
	}
	return err
}

func changedOne(res sql.Result, err error, format string, args ...any) error {
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		return fault.New(fault.Conflict, format, args...)
	}
	return nil
}

// History lists a commit and its ancestors, newest first, at most limit.
func (s *Store) History(ctx context.Context, from digest.Digest, limit int) ([]Commit, error) {
	var out []Commit
	for id := from; id != "" && len(out) < limit; {
		c, err := s.Commit(ctx, id)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
		id = c.Parent
	}
	return out, nil
}

// PutSolution stores what a commit was solved to. The same plan and answers
// again are fine; others are fault.Conflict.
func (s *Store) PutSolution(ctx context.Context, v Solution) error {
	what := "solution of commit " + v.Commit.String()
	if v.Plan == "" {
		return fault.New(fault.Usage, "store %s: it needs a plan", what)
	}
	if err := s.need(what, v.Plan, v.Answers); err != nil {
		return err
	}
	v.Created = utc(v.Created)
	return s.inTx(ctx, what, func(ctx context.Context, tx bun.Tx) error {
		_, err := once(ctx, s, tx, &v, func(h Solution) bool { return h.Plan == v.Plan && h.Answers == v.Answers },
			`"commit" = ?`, v.Commit)
		return err
	})
}

// Solution finds what a commit was solved to; fault.NotFound if it was not.
func (s *Store) Solution(ctx context.Context, commit digest.Digest) (Solution, error) {
	return one[Solution](ctx, s, "a solution of commit "+commit.String(), "created", `"commit" = ?`, commit)
}

// PutStep stores a step.
func (s *Store) PutStep(ctx context.Context, v Step) error {
	what := "step " + v.ID.String()
	if !v.ID.Valid() || v.Document == "" || v.PURL == "" {
		return fault.New(fault.Usage, "store %s: it needs an id, a purl and a document", what)
	}
	if err := s.need(what, v.Document); err != nil {
		return err
	}
	return s.inTx(ctx, what, func(ctx context.Context, tx bun.Tx) error {
		_, err := once(ctx, s, tx, &v, func(h Step) bool { return h.PURL == v.PURL && h.Document == v.Document }, "id = ?", v.ID)
		return err
	})
}

// Step finds a step by id.
func (s *Store) Step(ctx context.Context, id digest.Digest) (Step, error) {
	return one[Step](ctx, s, "step "+id.String(), "id", "id = ?", id)
}

// StepsByPURL lists the steps that build a package, sorted by id.
func (s *Store) StepsByPURL(ctx context.Context, u purl.PURL) ([]Step, error) {
	return list[Step](ctx, s, "steps", "id", "purl = ?", u)
}

// StepsByOutput lists the steps that a file came out of, sorted by id.
func (s *Store) StepsByOutput(ctx context.Context, output digest.Digest) ([]Step, error) {
	return list[Step](ctx, s, "steps", "id", "id IN (SELECT step FROM builds WHERE output = ?)", output)
}

// AppendBuild appends a build to its step's series and gives it with its Seq. A
// build id that is there already must be the same build.
func (s *Store) AppendBuild(ctx context.Context, b Build) (Build, error) {
	what := fmt.Sprintf("build %s of step %s", b.ID, b.Step.Short())
	if b.ID == "" || b.Record == "" {
		return Build{}, fault.New(fault.Usage, "store %s: it needs an id and a record", what)
	}
	if err := s.need(what, b.Record, b.Output); err != nil {
		return Build{}, err
	}
	b.Started, b.Finished = utc(b.Started), utc(b.Finished)
	err := s.inTx(ctx, what, func(ctx context.Context, tx bun.Tx) error {
		if err := tx.NewSelect().Model((*Build)(nil)).ColumnExpr("COALESCE(MAX(seq), 0) + 1").Where("step = ?", b.Step).Scan(ctx, &b.Seq); err != nil {
			return err
		}
		_, err := once(ctx, s, tx, &b, func(h Build) bool { return h.Step == b.Step && h.Record == b.Record && h.Output == b.Output }, "id = ?", b.ID)
		return err
	})
	return b, err
}

// Builds lists a step's builds in their order.
func (s *Store) Builds(ctx context.Context, step digest.Digest) ([]Build, error) {
	return list[Build](ctx, s, "builds", "seq", "step = ?", step)
}

// Build finds a build by its id.
func (s *Store) Build(ctx context.Context, id string) (Build, error) {
	return one[Build](ctx, s, fmt.Sprintf("build %.80s", id), "seq", "id = ?", id)
}

// NewestBuild gives the build of a builder that ended last; fault.NotFound if it
// has made none.
func (s *Store) NewestBuild(ctx context.Context, builder string) (Build, error) {
	return one[Build](ctx, s, fmt.Sprintf("a build by %.200s", builder), "finished DESC", "builder = ?", builder)
}

// AppendRebuild appends a rebuild result to its step's series. Its Seq must be
// the next, its Previous the document of the last; else fault.Conflict.
func (s *Store) AppendRebuild(ctx context.Context, r Rebuild) error {
	what := fmt.Sprintf("rebuild %d of step %s", r.Seq, r.Step.Short())
	if r.Document == "" {
		return fault.New(fault.Usage, "store %s: it needs a document", what)
	}
	if err := s.need(what, r.Document); err != nil {
		return err
	}
	r.Created = utc(r.Created)
	return s.inTx(ctx, what, func(ctx context.Context, tx bun.Tx) error {
		var last []Rebuild
		if err := tx.NewSelect().Model(&last).Where("step = ? AND seq <> ?", r.Step, r.Seq).OrderExpr("seq DESC").Limit(1).Scan(ctx); err != nil {
			return err
		}
		inserted, err := once(ctx, s, tx, &r, func(h Rebuild) bool { return h.Document == r.Document && h.Previous == r.Previous },
			"step = ? AND seq = ?", r.Step, r.Seq)
		if err != nil || !inserted {
			return err
		}
		want, prev := 1, digest.Digest("")
		if len(last) > 0 {
			want, prev = last[0].Seq+1, last[0].Document
		}
		if r.Seq != want || r.Previous != prev {
			return fault.New(fault.Conflict, "the series continues with %d after %q, not with %d after %q", want, prev, r.Seq, r.Previous)
		}
		return nil
	})
}

// Rebuilds lists a step's rebuild results in their order.
func (s *Store) Rebuilds(ctx context.Context, step digest.Digest) ([]Rebuild, error) {
	return list[Rebuild](ctx, s, "rebuilds", "seq", "step = ?", step)
}

// AddFile stores a file's row.
func (s *Store) AddFile(ctx context.Context, f File) error {
	what := fmt.Sprintf("file %.200s", f.Name)
	if !f.Digest.Valid() || f.PURL == "" || f.Name == "" || strings.ContainsAny(f.Name, "/\\\x00") {
		return fault.New(fault.Usage, "store %s: it needs a digest, a purl and a base name", what)
	}
	if err := s.need(what, f.Digest); err != nil {
		return err
	}
	f.RowID = 0
	return s.inTx(ctx, what, func(ctx context.Context, tx bun.Tx) error {
		_, err := once(ctx, s, tx, &f, func(h File) bool { return h.Size == f.Size },
			"digest = ? AND purl = ? AND name = ? AND kind = ? AND COALESCE(step, '') = ?", f.Digest, f.PURL, f.Name, f.Kind, string(f.Step))
		return err
	})
}

// Files lists the rows of a file, oldest first.
func (s *Store) Files(ctx context.Context, d digest.Digest) ([]File, error) {
	return list[File](ctx, s, "files", "id", "digest = ?", d)
}

// FilesByPURL lists the files of a package, oldest first.
func (s *Store) FilesByPURL(ctx context.Context, u purl.PURL) ([]File, error) {
	return list[File](ctx, s, "files", "id", "purl = ?", u)
}

// FilesByPrefix lists files whose digest begins with "sha256:" and these hex
// digits (8 to 64 of them), at most 10.
func (s *Store) FilesByPrefix(ctx context.Context, hex string) ([]File, error) {
	lo, hi, err := prefix(hex)
	if err != nil {
		return nil, err
	}
	return list[File](ctx, s, "files", "digest, id LIMIT 10", "digest >= ? AND digest < ?", lo, hi)
}

// prefix gives the range of digests that begin with hex: "g" is above every hex
// digit.
func prefix(hex string) (lo, hi string, err error) {
	hex = strings.TrimPrefix(hex, digest.Prefix)
	if len(hex) < 8 || len(hex) > 64 || strings.Trim(hex, "0123456789abcdef") != "" {
		return "", "", fault.New(fault.Usage, "%.80q: want sha256: and 8 to 64 hex digits", hex)
	}
	return digest.Prefix + hex, digest.Prefix + hex + "g", nil
}

// evidenceRE is what evidence may be called: a base name that is safe in a path
// and a URL.
var evidenceRE = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,99}$`)

// AddEvidence stores the row of a signed file. A newer one of the same name does
// not remove the older.
func (s *Store) AddEvidence(ctx context.Context, e Evidence) error {
	if err := s.checkEvidence(e); err != nil {
		return err
	}
	return s.inTx(ctx, e.what(), func(ctx context.Context, tx bun.Tx) error { return s.addEvidence(ctx, tx, e) })
}

func (e Evidence) what() string { return fmt.Sprintf("evidence %.120s of %s", e.Name, e.Subject) }

func (s *Store) checkEvidence(e Evidence) error {
	if !e.Subject.Valid() || e.Blob == "" || !evidenceRE.MatchString(e.Name) {
		return fault.New(fault.Usage, "store %s: it needs a subject, a blob and a plain name", e.what())
	}
	return s.need(e.what(), e.Blob)
}

func (s *Store) addEvidence(ctx context.Context, tx bun.Tx, e Evidence) error {
	e.Created, e.RowID = utc(e.Created), 0
	_, err := once(ctx, s, tx, &e, func(h Evidence) bool { return h.PredicateType == e.PredicateType },
		"subject = ? AND name = ? AND blob = ?", e.Subject, e.Name, e.Blob)
	return err
}

// Evidence lists what is served for a subject: of each name the newest, sorted
// by name. The newest is the one that the log has last: a row that was lost and
// found again does not become newer by that.
func (s *Store) Evidence(ctx context.Context, subject digest.Digest) ([]Evidence, error) {
	return list[Evidence](ctx, s, "evidence", "name",
		`subject = ? AND NOT EXISTS (SELECT 1 FROM evidence AS later WHERE later.subject = evidence.subject AND later.name = evidence.name
			AND (COALESCE(later.log_index, -1), later.id) > (COALESCE(evidence.log_index, -1), evidence.id))`, subject)
}

// EvidenceFile finds the newest evidence of a subject and a name.
func (s *Store) EvidenceFile(ctx context.Context, subject digest.Digest, name string) (Evidence, error) {
	return one[Evidence](ctx, s, fmt.Sprintf("evidence %.120s of %s", name, subject), "COALESCE(log_index, -1) DESC, id DESC", "subject = ? AND name = ?", subject, name)
}

// EvidenceHistory lists all evidence of a subject, oldest first.
func (s *Store) EvidenceHistory(ctx context.Context, subject digest.Digest) ([]Evidence, error) {
	return list[Evidence](ctx, s, "evidence", "COALESCE(log_index, -1), id", "subject = ?", subject)
}

// AllEvidence lists every row of evidence, in the order in which they came.
func (s *Store) AllEvidence(ctx context.Context) ([]Evidence, error) {
	return list[Evidence](ctx, s, "evidence", "id", "1 = 1")
}

// NewestEvidence is when the last row of evidence in the log's order was stored; zero
// if there is none. An earlier one may bear a later time, if the clock was wrong then
// and somebody has said so.
func (s *Store) NewestEvidence(ctx context.Context) (time.Time, error) {
	rows, err := list[Evidence](ctx, s, "evidence", "log_index DESC, id DESC LIMIT 1", "log_index IS NOT NULL")
	if err != nil || len(rows) == 0 {
		return time.Time{}, err
	}
	return rows[0].Created, nil
}

// Builders lists the builder ids that builds were made under, sorted.
func (s *Store) Builders(ctx context.Context) ([]string, error) {
	var ids []string
	if err := s.db.NewSelect().Model((*Build)(nil)).Distinct().Column("builder").OrderExpr("builder").Scan(ctx, &ids); err != nil {
		return nil, fmt.Errorf("list builders: %w", kind(err))
	}
	return ids, nil
}
