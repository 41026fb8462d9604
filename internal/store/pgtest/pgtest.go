// Package pgtest runs a PostgreSQL server of its own for tests: Debian's
// postgresql-15, in a temporary folder, on a socket there and on no network.
//
// It never skips: a test that needs it and cannot have it fails and says what to
// install. Tests call it behind testing.Short. Nothing that it makes is durable.
package pgtest

import (
	"bytes"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver pgx
)

// Bin is where Debian has the server's programs.
const Bin = "/usr/lib/postgresql/15/bin"

// Password is that of the server's one role: what must not be seen anywhere.
const Password = "correct horse/battery"

// Role is the server's one role.
const Role = "hallmark"

// Server is a running server.
type Server struct {
	dir string
	n   atomic.Int64 // of Fresh
}

// Start starts a server, which ends with the test.
func Start(t testing.TB) *Server {
	t.Helper()
	if _, err := os.Stat(filepath.Join(Bin, "postgres")); err != nil {
		t.Fatalf("this test needs PostgreSQL 15: scripts/setup test installs Debian's postgresql-15: %v", err)
	}
	// A socket's name has at most 107 bytes, so the folder's is short.
	dir, err := os.MkdirTemp("", "pg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &Server{dir: dir}
	attr := &syscall.SysProcAttr{Pdeathsig: syscall.SIGQUIT}
	if os.Getuid() == 0 { // which the server refuses to be
		u, err := user.Lookup("postgres")
		if err != nil {
			u, err = user.Lookup("nobody")
		}
		if err != nil {
			t.Fatalf("PostgreSQL does not run as root, and there is no other user: %v", err)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
		attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	pw := filepath.Join(dir, "password")
	if err := os.WriteFile(pw, []byte(Password+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	init := command(dir, attr, "initdb", "-D", data, "-U", Role, "--auth=scram-sha-256", "--pwfile="+pw, "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions")
	if out, err := init.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	s.run(t, attr, data)
	return s
}

func command(dir string, attr *syscall.SysProcAttr, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(Bin, name), args...)
	cmd.Dir, cmd.SysProcAttr = dir, attr
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
	return cmd
}

// run starts the server and waits until it answers.
func (s *Server) run(t testing.TB, attr *syscall.SysProcAttr, data string) {
	t.Helper()
	cmd := command(s.dir, attr, "postgres", "-D", data, "-k", s.dir, "-c", "listen_addresses=", "-c", "fsync=off", "-c", "full_page_writes=off",
		"-c", "shared_buffers=32MB", "-c", "max_connections=60", "-c", "autovacuum=off")
	var said bytes.Buffer
	cmd.Stderr = &said
	started, ended := make(chan error), make(chan struct{})
	go func() {
		// The thread that starts a process must live as long as it, for Pdeathsig.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
		close(ended)
	}()
	if err := <-started; err != nil {
		t.Fatalf("start PostgreSQL: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGQUIT) // at once
		<-ended
	})
	db, err := sql.Open("pgx", s.URL("postgres", ""))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if err = db.PingContext(t.Context()); err == nil {
			return
		}
		select {
		case <-ended:
			t.Fatalf("PostgreSQL ended: %s", said.String())
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("PostgreSQL does not answer: %v", err)
		}
	}
}

// URL is that of a database, with the password; schema is ours in it, empty for the
// usual one.
func (s *Server) URL(database, schema string) string {
	q := url.Values{"host": {s.dir}}
	if schema != "" {
		q.Set("search_path", schema)
	}
	u := url.URL{Scheme: "postgres", User: url.UserPassword(Role, Password), Path: "/" + database, RawQuery: q.Encode()}
	return u.String()
}

// Fresh gives the URL of an empty place: a schema of its own that is not there yet.
func (s *Server) Fresh() string { return s.URL("postgres", fmt.Sprint("hallmark_", s.n.Add(1))) }

// Exec runs SQL, several statements if need be, behind everybody's back: as the
// database's owner.
func (s *Server) Exec(t testing.TB, where, q string) error {
	t.Helper()
	db, err := sql.Open("pgx", where)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	_, err = db.ExecContext(t.Context(), q)
	return err
}

// Dump gives all that the server holds, as SQL.
func (s *Server) Dump(t testing.TB) ([]byte, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(Bin, "pg_dump"), "--host="+s.dir, "--username="+Role, "--no-password", "--inserts", "postgres")
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "PGPASSWORD=" + Password}
	return cmd.Output()
}

// Betrays tells whether a text holds the password, spelled in whatever way.
func Betrays(text string) bool {
	return strings.Contains(text, Password) || strings.Contains(text, url.QueryEscape(Password)) || strings.Contains(text, url.PathEscape(Password))
}
