package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/uptrace/bun"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
)

// Held says that a thing belongs to a project: a step (by its id), a source or a
// published file from an index that is not the default one, or a signed file. What
// has no such row is public. No organization is called as those below.
type Held struct {
	bun.BaseModel `bun:"table:held"`

	Thing   digest.Digest `bun:"thing,pk"`
	Org     string        `bun:"org,pk"`
	Project string        `bun:"project,pk"`
}

// Holders that are no project.
const (
	Everybody = "*" // it is public by another commit as well
	Operator  = "-" // it was made for no project; whoever runs the data directory has it
)

func (h Held) place() place {
	return place{"held", string(h.Thing) + " " + h.Org + "/" + h.Project, "thing = ? AND org = ? AND project = ?", []any{h.Thing, h.Org, h.Project}}
}

// allHeld is what has a row once it is known of all that is stored whose it is.
var allHeld = digest.FromBytes([]byte("held: all that was stored before"))

// Hold stores whose private things are, and that public things are everybody's. It
// is written before any evidence of them. What a public commit had signed before stays
// everybody's; what a private one had signed becomes so by a public one.
func (s *Store) Hold(ctx context.Context, org, project string, private, public []digest.Digest) error {
	what := fmt.Sprintf("what belongs to %.64s/%.64s", org, project)
	private, public = distinct(private), distinct(public)
	return s.inTx(ctx, what, func(ctx context.Context, tx bun.Tx) error {
		have, err := s.holders(ctx, tx, append(slices.Clone(private), public...))
		if err != nil {
			return err
		}
		for _, d := range private {
			if len(have[d]) == 0 {
				known, err := tx.NewSelect().Model((*Evidence)(nil)).Where("step = ? OR subject = ?", d, d).Count(ctx)
				if err != nil {
					return err
				}
				if known > 0 {
					if err := s.hold(ctx, tx, Held{Thing: d, Org: Everybody, Project: Everybody}); err != nil {
						return err
					}
				}
			}
			if slices.ContainsFunc(have[d], func(h Held) bool { return h.Org == org && h.Project == project }) {
				continue
			}
			if err := s.hold(ctx, tx, Held{Thing: d, Org: org, Project: project}); err != nil {
				return err
			}
		}
		for _, d := range public {
			if len(have[d]) == 0 || isPublic(have[d]) {
				continue
			}
			if err := s.hold(ctx, tx, Held{Thing: d, Org: Everybody, Project: Everybody}); err != nil {
				return err
			}
		}
		return nil
	})
}

// HoldAll stores whose all that is stored is, once: of a data directory whose rows
// are older than the table. AllHeld tells whether that was done.
func (s *Store) HoldAll(ctx context.Context, rows []Held) error {
	return s.inTx(ctx, "whose all that is stored is", func(ctx context.Context, tx bun.Tx) error {
		return s.hold(ctx, tx, append(slices.Clone(rows), Held{Thing: allHeld, Org: Operator, Project: Operator})...)
	})
}

// AllHeld tells whether HoldAll was done. That is never taken back, so it is asked
// until it was.
func (s *Store) AllHeld(ctx context.Context) (bool, error) {
	if s.allHeld.Load() {
		return true, nil
	}
	n, err := s.db.NewSelect().Model((*Held)(nil)).Where("thing = ?", allHeld).Count(ctx)
	if err != nil {
		return false, fmt.Errorf("find whose things are: %w", kind(err))
	}
	s.allHeld.Store(n > 0)
	return n > 0, nil
}

func (s *Store) hold(ctx context.Context, tx bun.Tx, rows ...Held) error {
	for _, h := range rows {
		if !h.Thing.Valid() || h.Org == "" || h.Project == "" {
			return fault.New(fault.Usage, "it needs a digest, an organization and a project")
		}
		if _, err := once(ctx, s, tx, &h, func(Held) bool { return true }, "thing = ? AND org = ? AND project = ?", h.Thing, h.Org, h.Project); err != nil {
			return err
		}
	}
	return nil
}

// Holders gives whose the private ones among things are; what is not in it is public.
func (s *Store) Holders(ctx context.Context, things []digest.Digest) (map[digest.Digest][]Held, error) {
	out, err := s.holders(ctx, s.db, distinct(things))
	if err != nil {
		return nil, fmt.Errorf("find whose things are: %w", kind(err))
	}
	for d, hs := range out {
		if isPublic(hs) {
			delete(out, d)
		}
	}
	return out, nil
}

func (s *Store) holders(ctx context.Context, db bun.IDB, things []digest.Digest) (map[digest.Digest][]Held, error) {
	out := map[digest.Digest][]Held{}
	for part := range slices.Chunk(things, chunk) {
		var rows []Held
		if err := db.NewSelect().Model(&rows).Where("thing IN ?", bun.Tuple(part)).OrderExpr("thing, org, project").Scan(ctx); err != nil {
			return nil, err
		}
		for _, h := range rows {
			out[h.Thing] = append(out[h.Thing], h)
		}
	}
	return out, nil
}

func isPublic(hs []Held) bool {
	return slices.ContainsFunc(hs, func(h Held) bool { return h.Org == Everybody })
}

func distinct(ds []digest.Digest) []digest.Digest {
	ds = slices.DeleteFunc(slices.Clone(ds), func(d digest.Digest) bool { return d == "" })
	slices.Sort(ds)
	return slices.Compact(ds)
}

// Solutions lists what all commits were solved to, oldest first.
func (s *Store) Solutions(ctx context.Context) ([]Solution, error) {
	return list[Solution](ctx, s, "solutions", `created, "commit"`, "1 = 1")
}
