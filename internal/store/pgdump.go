package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"hallmark/internal/fault"
)

// A backup of rows that are in PostgreSQL is made by PostgreSQL's own programs, of the
// server's version or a newer one: pg_dump's custom format of our schema, as it is at
// one moment. Passwords go to them in the environment, never as arguments.

// DumpPostgres writes our schema of a database to a new file; others may go on writing.
// Without a fitting pg_dump it is fault.Unsupported.
func DumpPostgres(ctx context.Context, where, path string) error {
	p, err := openPlace(ctx, where)
	if err != nil {
		return fmt.Errorf("dump the database: %w", err)
	}
	if p.objects == 0 {
		return fault.New(fault.NotFound, "dump the database: there is no schema %s with anything in it", p.schema)
	}
	if err := p.run(ctx, "pg_dump", "--format=custom", "--no-password", "--no-owner", "--no-privileges", "--schema="+p.schema, "--file="+path, "--dbname="+p.uri); err != nil {
		return fmt.Errorf("dump the database: %w", err)
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// LoadPostgres puts what DumpPostgres wrote into a database in which our schema is not
// there or empty, all or nothing; else it is fault.Conflict.
func LoadPostgres(ctx context.Context, where, path string) error {
	p, err := openPlace(ctx, where)
	if err != nil {
		return fmt.Errorf("restore the database: %w", err)
	}
	if p.objects > 0 {
		return fault.Advise(fault.Conflict, "Name a database, or with ?search_path= a schema, that is empty.", "restore the database: in its schema %s there is something already", p.schema)
	}
	said, err := p.output(ctx, "pg_restore", "--list", path)
	if err != nil {
		return fmt.Errorf("restore the database: %w", err)
	}
	if m := dumpedSchema.FindSubmatch(said); m == nil || string(m[1]) != p.schema {
		name := "none"
		if m != nil {
			name = string(m[1])
		}
		return fault.Advise(fault.Conflict, "Say ?search_path="+name+" at the end of --database.", "restore the database: the backup is of a schema %.64s, and the address names %s", name, p.schema)
	}
	if p.there { // empty: the dump brings its own
		if err := p.exec(ctx, "DROP SCHEMA "+p.schema+" RESTRICT"); err != nil {
			return fmt.Errorf("restore the database: %w", postgresKind(err))
		}
	}
	if err := p.run(ctx, "pg_restore", "--single-transaction", "--exit-on-error", "--no-password", "--no-owner", "--no-privileges", "--dbname="+p.uri, path); err != nil {
		return fmt.Errorf("restore the database: %w", err)
	}
	return nil
}

// dumpedSchema finds the schema in the list of what a dump holds.
var dumpedSchema = regexp.MustCompile(`(?m)^\d+; \d+ \d+ SCHEMA - ([a-z_][a-z0-9_]{0,62})\b`)

// pgPlace is a database as PostgreSQL's programs are told of it.
type pgPlace struct {
	uri     string // without a password
	schema  string
	env     []string
	major   int // of the server
	there   bool
	objects int // in the schema
	cfg     *pgx.ConnConfig
}

func openPlace(ctx context.Context, where string) (*pgPlace, error) {
	cfg, err := postgresConfig(where, manner{})
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(where)
	if err != nil {
		return nil, fault.New(fault.Usage, "this is no address of a PostgreSQL database")
	}
	q := u.Query()
	for k := range q {
		// The others are for the driver; the programs refuse what they do not know.
		if !slices.Contains([]string{"host", "port", "sslmode", "sslcert", "sslkey", "sslrootcert", "sslcrl", "connect_timeout", "target_session_attrs", "service", "passfile"}, k) {
			q.Del(k)
		}
	}
	if !q.Has("sslmode") && os.Getenv("PGSSLMODE") == "" && remote(cfg) {
		q.Set("sslmode", "verify-full")
	}
	shown := *u
	shown.RawQuery = q.Encode()
	if u.User != nil {
		shown.User = url.User(u.User.Username())
	}
	p := &pgPlace{uri: shown.String(), schema: strings.TrimSuffix(cfg.RuntimeParams["search_path"], ",pg_temp"), cfg: cfg}
	p.env = slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "HALLMARK_DATABASE=") })
	if cfg.Password != "" {
		p.env = append(p.env, "PGPASSWORD="+cfg.Password)
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, postgresKind(err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var version string
	err = conn.QueryRow(ctx, `SELECT current_setting('server_version_num'), EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = '`+p.schema+`'),
		(SELECT COUNT(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = '`+p.schema+`')
		+ (SELECT COUNT(*) FROM pg_proc c JOIN pg_namespace n ON n.oid = c.pronamespace WHERE n.nspname = '`+p.schema+`')`).Scan(&version, &p.there, &p.objects)
	if err != nil {
		return nil, postgresKind(err)
	}
	n, err := strconv.Atoi(version)
	if err != nil {
		return nil, fault.New(fault.Unsupported, "the server is PostgreSQL of version %.20q", version)
	}
	p.major = n / 10000
	return p, nil
}

func (p *pgPlace) exec(ctx context.Context, q string) error {
	conn, err := pgx.ConnectConfig(ctx, p.cfg)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, q)
	return err
}

// programVersion is how PostgreSQL's programs say their version.
var programVersion = regexp.MustCompile(`\(PostgreSQL\) (\d{1,3})\b`)

// program finds a program of the server's version, else the oldest newer one: where
// Debian has them, and on the PATH.
func (p *pgPlace) program(ctx context.Context, name string) (string, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if onPath, err := exec.LookPath(name); err == nil {
		found = append(found, onPath)
	}
	best, version := "", 0
	for _, f := range found {
		out, err := exec.CommandContext(ctx, f, "--version").Output()
		m := programVersion.FindSubmatch(out)
		if err != nil || m == nil {
			continue
		}
		if v, err := strconv.Atoi(string(m[1])); err == nil && v >= p.major && (best == "" || v < version) {
			best, version = f, v
		}
	}
	if best == "" {
		return "", fault.Advise(fault.Unsupported, fmt.Sprintf("Install the client programs of PostgreSQL %d or newer (Debian: postgresql-client-%d).", p.major, p.major),
			"there is no %s for a server of version %d here", name, p.major)
	}
	return best, nil
}

func (p *pgPlace) run(ctx context.Context, name string, args ...string) error {
	_, err := p.output(ctx, name, args...)
	return err
}

func (p *pgPlace) output(ctx context.Context, name string, args ...string) ([]byte, error) {
	prog, err := p.program(ctx, name)
	if err != nil {
		return nil, err
	}
	var said, out bytes.Buffer
	cmd := exec.CommandContext(ctx, prog, args...)
	cmd.Env, cmd.Stderr, cmd.Stdout = p.env, &said, &out
	if err := cmd.Run(); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		text := strings.Join(strings.Fields(said.String()), " ")
		if p.cfg.Password != "" {
			text = strings.ReplaceAll(text, p.cfg.Password, "…")
		}
		return nil, fault.New(fault.Unavailable, "%s: %w: %.600s", name, err, text)
	}
	return out.Bytes(), nil
}
