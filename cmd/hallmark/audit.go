package main

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"hallmark/internal/api"
	"hallmark/internal/fault"
)

// auditCmd is about who did what to what, and when.
type auditCmd struct {
	Export auditExportCmd `cmd:"" help:"Write the audit log, verified, oldest entry first."`
}

type auditExportCmd struct {
	Since  timeFlag `help:"Entries from this time on." placeholder:"TIME"`
	Until  timeFlag `help:"Entries before this time." placeholder:"TIME"`
	Org    string   `help:"Of one organization." placeholder:"ORG"`
	Format string   `help:"jsonl or csv." enum:"jsonl,csv" default:"jsonl"`
	Output string   `short:"o" help:"File to write, which must not be there yet; default: standard output." placeholder:"FILE"`
}

// Run writes the log. A file gets its name only when all of it was verified.
func (c *auditExportCmd) Run(e *env) (err error) {
	out, keep := e.out, func() error { return nil }
	if c.Output != "" {
		if _, err := os.Lstat(c.Output); err == nil {
			return fault.New(fault.Conflict, "export the audit log to %s: there is a file of this name", c.Output)
		}
		f, err := os.CreateTemp(filepath.Dir(c.Output), ".hallmark-audit-")
		if err != nil {
			return fmt.Errorf("export the audit log: %w", err)
		}
		defer os.Remove(f.Name())
		out, keep = f, func() error {
			if err := f.Sync(); err != nil {
				return err
			}
			if err := f.Close(); err != nil {
				return err
			}
			return os.Rename(f.Name(), c.Output)
		}
	}
	w := newAuditWriter(out, c.Format)
	n := 0
	write := func(a api.AuditEntry) error {
		if !c.Since.IsZero() && a.At.Before(c.Since.Time) || !c.Until.IsZero() && !a.At.Before(c.Until.Time) || c.Org != "" && a.Organization != c.Org {
			return nil
		}
		n++
		return w.write(a)
	}
	says := ""
	if e.remote() {
		s, err := e.server()
		if err != nil {
			return err
		}
		all, err := s.AuditLog(e.ctx, c.Org)
		if err != nil {
			return err
		}
		for _, a := range all {
			if err := write(a); err != nil {
				return err
			}
		}
		says = fmt.Sprintf("%d entries, as the server tells them", n)
	} else {
		a, err := e.open(false)
		if err != nil {
			return err
		}
		defer a.Close()
		all, err := a.ExportAudit(e.ctx, write)
		if err != nil {
			return err
		}
		says = fmt.Sprintf("%d of %d entries; none is missing or was changed", n, all)
	}
	if err := w.flush(); err != nil {
		return fmt.Errorf("export the audit log: %w", err)
	}
	if err := keep(); err != nil {
		return fmt.Errorf("export the audit log: %w", err)
	}
	if !e.global.Quiet {
		fmt.Fprintln(e.err, says)
	}
	return nil
}

// auditWriter writes entries in a format.
type auditWriter struct {
	b    *bufio.Writer
	csv  *csv.Writer // nil: JSON, one entry a line
	json *json.Encoder
	head bool
}

func newAuditWriter(w io.Writer, format string) *auditWriter {
	a := &auditWriter{b: bufio.NewWriter(w)}
	if format == "csv" {
		a.csv = csv.NewWriter(a.b)
		return a
	}
	a.json = json.NewEncoder(a.b)
	a.json.SetEscapeHTML(false)
	return a
}

func (a *auditWriter) write(e api.AuditEntry) error {
	if a.csv == nil {
		return a.json.Encode(e)
	}
	if err := a.header(); err != nil {
		return err
	}
	row := []string{strconv.FormatInt(e.Seq, 10), e.At.UTC().Format(time.RFC3339Nano), e.Actor, e.Via, e.Address, e.Organization, e.Project, e.Action, e.Object, e.Detail}
	for i := range row {
		row[i] = plainCell(row[i])
	}
	return a.csv.Write(row)
}

func (a *auditWriter) header() error {
	if a.csv == nil || a.head {
		return nil
	}
	a.head = true
	return a.csv.Write([]string{"seq", "at", "actor", "via", "address", "organization", "project", "action", "object", "detail"})
}

func (a *auditWriter) flush() error {
	if err := a.header(); err != nil {
		return err
	}
	if a.csv != nil {
		a.csv.Flush()
		if err := a.csv.Error(); err != nil {
			return err
		}
	}
	return a.b.Flush()
}

// plainCell keeps a spreadsheet from taking a cell for a formula: what people typed
// is in the log.
func plainCell(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}
