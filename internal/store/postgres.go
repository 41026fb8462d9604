package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/schema"

	"hallmark/internal/fault"
)

// postgresDialect is PostgreSQL. Everything lies in one schema of the database, which
// each connection has as its search path.
type postgresDialect struct{}

func (postgresDialect) goose() goose.Dialect { return goose.DialectPostgres }
func (postgresDialect) bun() schema.Dialect  { return pgdialect.New() }
func (postgresDialect) folder() string       { return "postgres" }
func (postgresDialect) snapshot() *sql.TxOptions {
	return &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}
}

// timeColumns are the columns that hold a time, in whatever table.
var timeColumns = map[string]bool{"at": true, "created": true, "ended": true, "expires": true, "finished": true, "revoked": true,
	"seen": true, "started": true, "tstamp": true, "used": true}

// cell is engine's. A time is its seconds since 1970, exact to the microsecond:
// its text would be as the session's settings have it.
func (postgresDialect) cell(column string) string {
	q := `"` + column + `"`
	text := q + "::text"
	if timeColumns[column] {
		text = "EXTRACT(EPOCH FROM " + q + ")::text"
	}
	return fmt.Sprintf("CASE WHEN %[1]s IS NULL THEN 'null' ELSE pg_typeof(%[1]s)::text || ':' || encode(convert_to(%[2]s, 'UTF8'), 'hex') END", q, text)
}

// The keys of our advisory locks: half a number of our own, half the journal's.
const (
	lockWriter = 0x48414c4c // HALL
	lockSchema = 0x4d41524b // MARK
)

// lock is engine's: an advisory lock that ends with the transaction. Every
// statement after it sees what the writer before has committed, since transactions
// are READ COMMITTED. A lock on the table would do too, but vacuuming takes one that
// stands against it.
func (postgresDialect) lock(ctx context.Context, tx bun.IConn) error {
	_, err := tx.ExecContext(ctx, fmt.Sprintf("SELECT pg_advisory_xact_lock((%d::bigint << 32) | 'journal'::regclass::oid::bigint)", lockWriter))
	return err
}

// alone is engine's: an advisory lock of the session. It makes the schema too.
func (postgresDialect) alone(ctx context.Context, db *sql.DB, fn func() error) (err error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	key := int64(lockSchema) << 32
	if _, err := conn.ExecContext(ctx, fmt.Sprintf("SELECT pg_advisory_lock(%d)", key)); err != nil {
		return err
	}
	defer func() {
		_, uerr := conn.ExecContext(context.WithoutCancel(ctx), fmt.Sprintf("SELECT pg_advisory_unlock(%d)", key))
		err = errors.Join(err, uerr)
	}()
	var name string
	var there bool
	err = conn.QueryRowContext(ctx, "SELECT p, to_regnamespace(p) IS NOT NULL FROM split_part(current_setting('search_path'), ',', 1) AS p").Scan(&name, &there)
	if err != nil {
		return err
	}
	if !there {
		if _, err := conn.ExecContext(ctx, "CREATE SCHEMA "+pgx.Identifier{name}.Sanitize()); err != nil {
			return err
		}
	}
	return fn()
}

// Settings of every connection.
const (
	postgresSchema    = "hallmark"
	postgresConns     = 8
	postgresOldest    = 150000 // server_version_num
	postgresConnect   = 10 * time.Second
	postgresLockLimit = 10 * time.Second
)

// schemaRE is what a schema may be called.
var schemaRE = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)

// openPostgres asks the server what it is before anything is done with it.
func openPostgres(ctx context.Context, where string, how manner) (*sql.DB, error) {
	cfg, err := postgresConfig(where, how)
	if err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, kind(err)
	}
	defer conn.Close(ctx)
	var version, encoding, path, durable string
	var there bool
	err = conn.QueryRow(ctx, `SELECT current_setting('server_version_num'), current_setting('server_encoding'), current_setting('search_path'),
		current_setting('synchronous_commit'), to_regclass('goose_db_version') IS NOT NULL`).Scan(&version, &encoding, &path, &durable, &there)
	if err != nil {
		return nil, kind(err)
	}
	n, err := strconv.Atoi(version)
	switch {
	case err != nil || n < postgresOldest:
		return nil, fault.Advise(fault.Unsupported, "Use PostgreSQL 15 or a newer one.", "the server is PostgreSQL of version %.20q", version)
	case encoding != "UTF8":
		return nil, fault.Advise(fault.Unsupported, "Make one: createdb --encoding=UTF8 --template=template0 NAME", "the database's encoding is %.40s, not UTF8", encoding)
	case path != cfg.RuntimeParams["search_path"]:
		return nil, fault.Advise(fault.Unsupported, "Connect to the server itself, or have the pooler in between keep sessions and their settings.", "something between here and the server drops the settings of a connection")
	case (how.read || how.exist) && !there:
		return nil, fault.Advise(fault.NotFound, "See that its address, and ?search_path=… if you use it, name the database that was used before; or put that back from a backup.",
			"nothing of ours is stored in it")
	}
	if durable == "off" {
		// A signed statement must not outlive its row.
		cfg.RuntimeParams["synchronous_commit"] = "on"
	}
	db := stdlib.OpenDB(*cfg, stdlib.OptionAfterConnect(func(_ context.Context, c *pgx.Conn) error {
		c.TypeMap().RegisterType(&pgtype.Type{Name: "timestamptz", OID: pgtype.TimestamptzOID, Codec: &pgtype.TimestamptzCodec{ScanLocation: time.UTC}})
		return nil
	}))
	db.SetMaxOpenConns(postgresConns)
	db.SetMaxIdleConns(postgresConns)
	db.SetConnMaxIdleTime(5 * time.Minute)
	return db, nil
}

// postgresConfig reads a URL. An error never holds the URL: a password is in it.
func postgresConfig(where string, how manner) (*pgx.ConnConfig, error) {
	bad := fault.Advise(fault.Usage, "It looks like this: postgres://USER:PASSWORD@HOST:PORT/DATABASE; what is special in a password is written as %XX.",
		"this is no address of a PostgreSQL database")
	u, err := url.Parse(where)
	if err != nil {
		return nil, bad
	}
	q := u.Query()
	name := q.Get("search_path")
	if name == "" {
		name = postgresSchema
	}
	if !schemaRE.MatchString(name) || strings.HasPrefix(name, "pg_") {
		return nil, fault.New(fault.Usage, "search_path: %.80q is no name for our schema: want one of small letters, digits and _", name)
	}
	cfg, err := pgx.ParseConfig(where)
	if err != nil {
		return nil, bad
	}
	if q.Get("sslmode") == "" && os.Getenv("PGSSLMODE") == "" && remote(cfg) {
		// The driver would go on without TLS where the server offers none.
		q.Set("sslmode", "verify-full")
		u.RawQuery = q.Encode()
		if cfg, err = pgx.ParseConfig(u.String()); err != nil {
			return nil, bad
		}
	}
	// A statement is written out, its values in it, so no two are the same.
	cfg.DefaultQueryExecMode = pgx.QueryExecModeDescribeExec
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = postgresConnect
	}
	p := cfg.RuntimeParams
	if p["application_name"] == "" {
		p["application_name"] = "hallmark"
	}
	p["search_path"] = name + ",pg_temp" // what is temporary comes last, not first
	p["client_encoding"] = "UTF8"
	p["standard_conforming_strings"] = "on"
	p["timezone"] = "UTC"
	p["datestyle"] = "ISO"
	p["default_transaction_isolation"] = "read committed"
	if p["lock_timeout"] == "" {
		p["lock_timeout"] = strconv.FormatInt(postgresLockLimit.Milliseconds(), 10)
	}
	if how.read {
		p["default_transaction_read_only"] = "on"
	}
	return cfg, nil
}

// remote tells whether a connection leaves this machine.
func remote(cfg *pgx.ConnConfig) bool {
	hosts := []string{cfg.Host}
	for _, f := range cfg.Fallbacks {
		hosts = append(hosts, f.Host)
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); !strings.HasPrefix(h, "/") && h != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return true
		}
	}
	return false
}

// ErrAway is in every error of a database that cannot be reached or does not let us
// in. Where it is and what it said is for its operator, not for whoever asks a server.
var ErrAway = errors.New("the database cannot be reached")

// postgresKind gives an error of PostgreSQL's, or of the way to it, the kind that
// callers branch on (PostgreSQL's manual, appendix "Error Codes").
func postgresKind(err error) error {
	var said *pgconn.PgError
	var way *pgconn.ConnectError
	var network net.Error
	switch {
	case errors.As(err, &said):
		return saidKind(err, said.Code)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.As(err, &way):
		return fault.Advise(fault.Unavailable, "See that PostgreSQL runs and can be reached from here, and that --database names it; beyond this machine it must show a certificate for its name, unless the URL says sslmode=….", "%w: %w", ErrAway, err)
	case errors.As(err, &network), errors.Is(err, driver.ErrBadConn), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, pgconn.ErrConnClosed):
		return fault.Advise(fault.Unavailable, "See that PostgreSQL runs; what was committed is kept.", "%w: the connection was lost: %w", ErrAway, err)
	}
	return err
}

func saidKind(err error, code string) error {
	switch code {
	case "42501": // insufficient_privilege
		return fault.Advise(fault.Conflict, "Make the role the database's owner (ALTER DATABASE … OWNER TO …), or give it CREATE on it and the schema to own.", "%w", err)
	case "3D000": // invalid_catalog_name
		return fault.Advise(fault.NotFound, "Make it first: createdb --encoding=UTF8 --template=template0 --owner=ROLE NAME", "%w", err)
	case "42P01": // undefined_table
		return fault.New(fault.NotFound, "%w", err)
	case "55P03", "40001", "40P01": // lock_not_available, serialization_failure, deadlock_detected
		return fault.Advise(fault.Unavailable, "Another hallmark is writing to it; try again when it is done.", "%w", err)
	case "53100": // disk_full
		return fmt.Errorf("%w: %w", err, syscall.ENOSPC)
	case "25006": // read_only_sql_transaction
		return fault.Advise(fault.Conflict, "Connect to the primary server, with a role that may write.", "%w", err)
	case "XX001", "XX002": // data_corrupted, index_corrupted
		return fault.Advise(fault.Corrupt, "Put the database back from a backup; blobs, log and keys of a later time may stay. Then run: hallmark fsck", "%w", err)
	}
	switch code[:min(len(code), 2)] {
	case "23": // integrity constraint violation
		return fault.New(fault.Conflict, "%w", err)
	case "28": // invalid authorization
		return fault.Advise(fault.Conflict, "See that role and password of --database are right, and that the server's pg_hba.conf lets the role in.", "%w: %w", ErrAway, err)
	case "08", "53", "57": // connection, resources, operator's intervention
		return fault.Advise(fault.Unavailable, "See that PostgreSQL runs and takes connections; then try again.", "%w: %w", ErrAway, err)
	}
	return err
}
