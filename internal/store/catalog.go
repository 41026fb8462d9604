package store

import (
	"context"
	"fmt"
	"strings"

	"hallmark/internal/fault"
	"hallmark/internal/purl"
)

// KnownVersion is a version of a package that something was stored of.
type KnownVersion struct {
	PURL  purl.PURL
	Built []File // that steps of ours made of it
	Steps int    // how many steps were started for it
}

// Known lists the versions of packages of a purl type whose name holds part, or is
// part if exact, by purl, at most limit. What belongs to projects (Held), or has
// qualifiers in its purl, is left out: its name may be a secret of somebody's. part may hold what a normalised name holds (a-z, 0-9, dot, dash,
// underscore); anything else is fault.Usage.
func (s *Store) Known(ctx context.Context, typ, part string, exact bool, limit int) ([]KnownVersion, error) {
	if part == "" || len(part) > 200 || strings.Trim(part, "abcdefghijklmnopqrstuvwxyz0123456789.-_") != "" {
		return nil, fault.New(fault.Usage, "package name %.80q: want 1 to 200 of a-z, 0-9, dot, dash and underscore", part)
	}
	like := strings.ReplaceAll(part, "_", "!_")
	if !exact {
		like = "%" + like + "%"
	}
	like = "pkg:" + typ + "/" + like + "@%"
	const qualified = "%?%"
	private := func(column string) string {
		return "EXISTS (SELECT 1 FROM held WHERE thing = " + column + ") AND NOT EXISTS (SELECT 1 FROM held WHERE thing = " + column + " AND org = '" + Everybody + "')"
	}
	var out []KnownVersion
	at := map[purl.PURL]int{}
	add := func(u purl.PURL) *KnownVersion {
		i, ok := at[u]
		if !ok {
			if len(out) == limit {
				return nil
			}
			i = len(out)
			at[u] = i
			out = append(out, KnownVersion{PURL: u})
		}
		return &out[i]
	}
	var steps []struct {
		PURL purl.PURL `bun:"purl"`
		N    int       `bun:"n"`
	}
	err := s.db.NewSelect().Model((*Step)(nil)).ColumnExpr("purl, COUNT(*) AS n").Where("purl LIKE ? ESCAPE '!'", like).Where("purl NOT LIKE ?", qualified).
		Where("NOT ("+private("step.id")+")").GroupExpr("purl").OrderExpr("purl").Limit(int64(limit)).Scan(ctx, &steps)
	if err != nil {
		return nil, fmt.Errorf("list packages: %w", kind(err))
	}
	for _, r := range steps {
		if k := add(r.PURL); k != nil {
			k.Steps = r.N
		}
	}
	var files []File
	err = s.db.NewSelect().Model(&files).Where("purl LIKE ? ESCAPE '!'", like).Where("purl NOT LIKE ?", qualified).
		Where("NOT (" + private("file.digest") + ")").Where("NOT (" + private("file.step") + ")").OrderExpr("purl, id").Limit(20 * int64(limit)).Scan(ctx)
	if err != nil {
		return nil, fmt.Errorf("list packages: %w", kind(err))
	}
	for _, f := range files {
		if k := add(f.PURL); k != nil && f.Kind == FileBuilt {
			k.Built = append(k.Built, f)
		}
	}
	return out, nil
}
