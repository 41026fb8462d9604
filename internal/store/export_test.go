package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// CheckJournal gives what checkJournal finds, without all else that Check looks at.
func (s *Store) CheckJournal(ctx context.Context) (string, error) {
	out := ""
	err := s.checkJournal(ctx, s.db, func(table, row, column, format string, args ...any) {
		out += table + " " + row + ": " + fmt.Sprintf(format, args...) + "\n"
	})
	return out, err
}

// SealedTables are the tables that the journal vouches for, each with its columns.
func SealedTables() map[string][]string {
	m := map[string][]string{}
	for _, t := range sealed {
		m[t.name] = t.columns
	}
	return m
}

// TimeColumn tells whether a column is known to hold a time.
func TimeColumn(name string) bool { return timeColumns[name] }

// PostgresConfig reads a URL as OpenWriter does.
func PostgresConfig(where string) (*pgx.ConnConfig, error) {
	return postgresConfig(where, manner{})
}

// Scripts gives the migrations of both dialects.
func Scripts() (sqlite, postgres []string, err error) {
	if sqlite, err = scripts(sqliteDialect{}); err == nil {
		postgres, err = scripts(postgresDialect{})
	}
	return sqlite, postgres, err
}
