// Package app wires the rooms together: it opens a data directory and has one
// function for each command. What a command says to a person or a program is
// written by its caller; app returns values.
package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sync/singleflight"

	"hallmark/internal/blob"
	"hallmark/internal/build"
	"hallmark/internal/digest"
	"hallmark/internal/ecosystem/debian"
	"hallmark/internal/ecosystem/pypi"
	"hallmark/internal/ecosystem/system"
	"hallmark/internal/evidence"
	"hallmark/internal/fault"
	"hallmark/internal/keys"
	"hallmark/internal/plan"
	"hallmark/internal/sandbox"
	"hallmark/internal/store"
	"hallmark/internal/timeline"
	"hallmark/seed"
)

// Config is what a data directory is opened with.
type Config struct {
	// Data is the data directory; made by a writer if it is not there.
	Data string
	// Database is where the rows are: the URL of a PostgreSQL database
	// (store.IsPostgres), with a schema in it that is this data directory's alone. Empty:
	// an SQLite file in the data directory. Blobs, log and keys are in the data directory
	// in both cases. Risk: a password may be in it; it is never shown.
	Database string
	// ExternalURL is the base of builder and verifier ids. Empty: what the data
	// directory has used so far, else http://localhost:8420. Another one than
	// before makes another builder, whose builds have to be trusted anew.
	ExternalURL string
	// AcceptClock signs although the clock is behind the newest time stamp.
	AcceptClock bool
	// Runtime is the OCI runtime; empty: runc.
	Runtime string
	// Workers is how many builds run at a time; 0: as many as there are
	// processors.
	Workers int
	// Branch is the branch of a project that is worked on; empty: the default one.
	Branch string
	// Retry runs again what failed before.
	Retry bool
	// Fresh verifies everything anew, whatever earlier commands have verified.
	Fresh bool
	// Still opens for reading without leaving a trace in the data directory.
	Still bool
	// Timeline is a file to which a trace of what ran when is written at the end;
	// empty: none.
	Timeline string
	// Progress is told what goes on; may be nil.
	Progress Progress
	// KeyURIs are keys in a KMS that a new data directory begins with, by role; of a role
	// that is left out a file is made. A writer of a directory that has its keys
	// elsewhere is fault.Conflict.
	KeyURIs map[keys.Role]string
	// LostKey is the role of a key whose private half is gone: it is about to be
	// rotated, and until then nothing can be signed with it.
	LostKey keys.Role
	// Recipes gives the recipes in place of those that ship; nil: those. For tests.
	Recipes func() (system.Catalog, error)
	// Version is the program's, for documents that name what wrote them.
	Version string
}

// App is an open data directory.
type App struct {
	cfg      Config
	dir      string
	writer   bool
	lock     *os.File
	Blobs    *blob.Store
	Store    *store.Store
	keys     *keys.Set
	runner   *sandbox.Runner
	pin      debian.Pin
	pinID    digest.Digest
	progress Progress
	trace    *timeline.Recorder // nil: not asked for
	settings settings

	authority *evidence.Authority // opened when something is signed
	engine    *build.Engine
	client    *pypi.Client
	aptMu     sync.Mutex
	apt       *debian.Client     // guarded by aptMu; nil: not asked for yet
	fetching  singleflight.Group // downloads, by digest
	fetched   downloads
	memory    memory
	shelving  sync.Once // makes shelf
	shelf     *shelf    // of a server; see kept
	offers    offers
}

// Open opens a data directory. There is one writer at a time; a second one gets
// fault.Conflict. Readers need no lock, see what was committed, and write
// nothing.
func Open(ctx context.Context, cfg Config, writer bool) (*App, error) {
	a, err := newApp(cfg, writer)
	if err != nil {
		return nil, err
	}
	ok := false
	defer func() {
		if !ok {
			a.Close()
		}
	}()
	if writer {
		err = a.openWriter(ctx)
	} else {
		err = a.openReader(ctx)
	}
	if err != nil {
		return nil, err
	}
	if err := a.settle(); err != nil {
		return nil, err
	}
	if err := a.openTimeline(); err != nil {
		return nil, err
	}
	if a.runner, err = sandbox.Open(sandbox.Config{Runtime: cfg.Runtime, StateDir: a.stateDir()}); err != nil {
		return nil, err
	}
	ok = true
	return a, nil
}

// newApp is an App that nothing is open of yet.
func newApp(cfg Config, writer bool) (*App, error) {
	a := &App{cfg: cfg, dir: cfg.Data, writer: writer, progress: cfg.Progress}
	if a.progress == nil {
		a.progress = silent{}
	}
	if a.dir == "" {
		return nil, fault.New(fault.Usage, "no data directory: set --data or HALLMARK_DATA")
	}
	var err error
	if a.dir, err = filepath.Abs(a.dir); err != nil {
		return nil, err
	}
	if a.cfg.Database != "" && !store.IsPostgres(a.cfg.Database) {
		return nil, fault.Advise(fault.Usage, "It looks like this: postgres://USER@HOST/DATABASE. Left out, the rows are in a file of the data directory.",
			"--database is no address of a PostgreSQL database")
	}
	if a.pin, err = debian.ParsePin(seed.Bookworm); err != nil {
		return nil, fmt.Errorf("the seed's pin in this program: %w", err)
	}
	if a.pinID, err = a.pin.Digest(); err != nil {
		return nil, err
	}
	return a, nil
}

func (a *App) stateDir() string {
	if a.writer {
		return a.path("tmp", "sandbox")
	}
	return ""
}

func (a *App) openWriter(ctx context.Context) error {
	if err := os.MkdirAll(a.dir, 0o755); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if err := a.takeLock(); err != nil {
		return err
	}
	if err := a.emptyTmp(); err != nil {
		return err
	}
	if err := a.place(); err != nil {
		return err
	}
	if err := a.openKeys(); err != nil {
		return err
	}
	if err := keys.Sweep(a.path("keys")); err != nil {
		return err
	}
	var err error
	if a.Blobs, err = blob.Open(a.path("blobs")); err != nil {
		return err
	}
	if err := a.openRows(ctx, store.OpenWriter); err != nil {
		return err
	}
	if err := a.holdAll(ctx); err != nil {
		return err
	}
	return a.auditKeys(ctx)
}

// openRows opens the database by open.
func (a *App) openRows(ctx context.Context, open openStore) (err error) {
	a.Store, err = a.rows(ctx, open, a.Blobs)
	return err
}

type openStore = func(ctx context.Context, where string, blobs store.Blobs, opts ...store.Option) (*store.Store, error)

// rows opens the database by open, with blobs to look for.
func (a *App) rows(ctx context.Context, open openStore, blobs store.Blobs) (*store.Store, error) {
	opts := []store.Option{store.WithKey(a.keys.Journal())}
	if a.settings.Database != "" {
		opts = append(opts, store.MustExist())
	}
	return open(ctx, a.database(), blobs, opts...)
}

// databaseFile is the SQLite file in a data directory.
const databaseFile = "hallmark.db"

// database is where the rows are, for package store.
func (a *App) database() string {
	if a.cfg.Database != "" {
		return a.cfg.Database
	}
	return a.path(databaseFile)
}

// databaseName is what a person puts back from a backup.
func (a *App) databaseName() string {
	if a.cfg.Database != "" {
		return "the PostgreSQL database"
	}
	return databaseFile
}

// place reads the settings, and is fault.Conflict if the rows of this data directory
// are elsewhere than the caller says: nobody should find it empty by leaving a flag
// out.
func (a *App) place() error {
	var err error
	if a.settings, err = a.readSettings(); err != nil {
		return err
	}
	_, err = os.Lstat(a.path(databaseFile))
	switch {
	case a.cfg.Database == "" && a.settings.Database != "":
		return fault.Advise(fault.Conflict, "Say which: --database postgres://… or HALLMARK_DATABASE.", "the data directory %s keeps its rows in a PostgreSQL database", a.dir)
	case a.cfg.Database != "" && err == nil:
		return fault.Advise(fault.Conflict, "Leave --database and HALLMARK_DATABASE out, or use another data directory (--data): rows are not moved from one kind of database to the other.",
			"the data directory %s keeps its rows in its file %s", a.dir, databaseFile)
	}
	return nil
}

// emptyTmp takes away what earlier writers left unfinished.
func (a *App) emptyTmp() error {
	left, err := filepath.Glob(a.path(".keys-new-*"))
	for _, d := range append(left, a.path("tmp"), a.path("settings.json.new")) {
		err = errors.Join(err, os.RemoveAll(d))
	}
	if err = errors.Join(err, os.MkdirAll(a.path("tmp", "sandbox"), 0o755)); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	return nil
}

// openKeys reads the keys, or makes them where nothing was ever signed: they come
// before the database and the log, so that a folder with one of these and without
// keys has lost them.
func (a *App) openKeys() error {
	signs := []string{databaseFile, "log"}
	if a.settings.Database != "" {
		signs = append(signs, settingsFile)
	}
	for _, name := range signs {
		if _, err := os.Lstat(a.path(name)); err == nil {
			if a.keys, err = keys.ReadWithout(a.path("keys"), a.cfg.LostKey); err != nil {
				return err
			}
			return a.keys.At(a.cfg.KeyURIs)
		}
	}
	var err error
	a.keys, err = keys.OpenAt(a.path("keys"), a.cfg.KeyURIs)
	return err
}

func (a *App) openReader(ctx context.Context) error {
	if err := a.place(); err != nil {
		return err
	}
	sign := databaseFile
	if a.cfg.Database != "" {
		sign = settingsFile
	}
	if _, err := os.Stat(a.path(sign)); err != nil {
		return fault.Advise(fault.NotFound, "Make a project first: hallmark init ORG/PROJECT",
			"nothing is stored in the data directory %s yet", a.dir)
	}
	var err error
	if a.keys, err = keys.Read(a.path("keys")); err != nil {
		return err
	}
	if a.Blobs, err = blob.OpenReader(a.path("blobs")); err != nil {
		return err
	}
	open := store.OpenReader
	if a.cfg.Still {
		open = store.OpenStill
	}
	return a.openRows(ctx, open)
}

// takeLock makes this process the one writer of the data directory.
func (a *App) takeLock() error {
	f, err := os.OpenFile(a.path("lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if errors.Is(err, errReadOnly) || errors.Is(err, os.ErrPermission) {
		return fault.Advise(fault.Conflict, "See that it is not mounted read-only and belongs to this user, or name another one with --data. Commands that only read, such as status and verify, work as it is.",
			"the data directory %s cannot be written: %w", a.dir, err)
	}
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		b, _ := io.ReadAll(io.LimitReader(f, 32))
		f.Close()
		return fault.Advise(fault.Conflict, "Wait for it to end, or use another data directory (--data).",
			"%w: the data directory %s is in use by process %s", errInUse, a.dir, strings.TrimSpace(string(b)))
	}
	if err := errors.Join(f.Truncate(0), writeAt(f, strconv.Itoa(os.Getpid())+"\n")); err != nil {
		f.Close()
		return fmt.Errorf("data directory: %w", err)
	}
	a.lock = f
	return nil
}

// errInUse is what a second writer gets.
var errInUse = errors.New("somebody else is at work")

// inUse tells whether an error says that the data directory has another writer.
func inUse(err error) bool { return errors.Is(err, errInUse) }

// errReadOnly is what the kernel says of a file system that is mounted read-only.
const errReadOnly = syscall.EROFS

func writeAt(f *os.File, s string) error { _, err := f.WriteAt([]byte(s), 0); return err }

// settings are what a data directory keeps about itself.
type settings struct {
	ExternalURL string `json:"external_url"`
	// Builders are the builder ids that this directory has built under: each is
	// trusted with the key that is in it.
	Builders []string `json:"builders"`
	// Database is what kind of database has the rows; empty: the file beside it. Which
	// one, and its password, are not kept here.
	Database string `json:"database,omitempty"`
}

// settingsFile holds the settings.
const settingsFile = "settings.json"

// postgresRows is settings.Database of a data directory whose rows are in PostgreSQL.
const postgresRows = "postgresql"

// readSettings reads the settings; of a new data directory they are empty.
func (a *App) readSettings() (settings, error) {
	name := a.path(settingsFile)
	var s settings
	b, err := os.ReadFile(name)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return s, fmt.Errorf("settings: %w", err)
	default:
		if err := json.Unmarshal(b, &s); err != nil {
			return s, fault.New(fault.Corrupt, "settings in %s: %w", name, err)
		}
	}
	if s.Database != "" && s.Database != postgresRows {
		return s, fault.New(fault.Unsupported, "settings in %s: the rows are in a database of kind %.40q", name, s.Database)
	}
	return s, nil
}

// settle reads the data directory's settings and writes them if they changed.
func (a *App) settle() error {
	s, err := a.readSettings()
	if err != nil {
		return err
	}
	kind := ""
	if a.cfg.Database != "" {
		kind = postgresRows
	}
	if s.ExternalURL == "" {
		s.ExternalURL = evidence.DefaultExternalURL
	}
	if a.cfg.ExternalURL == "" {
		a.cfg.ExternalURL = s.ExternalURL
	}
	a.settings = s
	if !a.writer || slices.Contains(s.Builders, a.BuilderID()) && a.cfg.ExternalURL == s.ExternalURL && s.Database == kind {
		return nil
	}
	s.ExternalURL, s.Database = a.cfg.ExternalURL, kind
	if !slices.Contains(s.Builders, a.BuilderID()) {
		s.Builders = append(s.Builders, a.BuilderID())
	}
	a.settings = s
	b, err := s.marshal()
	if err != nil {
		return err
	}
	name := a.path(settingsFile)
	tmp := name + ".new"
	f, err := os.Create(tmp)
	if err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	if err := errors.Join(writeAt(f, string(b)), f.Sync(), f.Close(), os.Rename(tmp, name)); err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	return nil
}

// marshal is the settings' file.
func (s settings) marshal() ([]byte, error) {
	b, err := json.MarshalIndent(s, "", "  ")
	return append(b, '\n'), err
}

func (a *App) path(parts ...string) string {
	return filepath.Join(append([]string{a.dir}, parts...)...)
}

// Close lets go of everything, and writes the timeline if there is one.
func (a *App) Close() error {
	if a.engine != nil {
		a.engine.Rest()
	}
	err := a.closeTimeline()
	if a.authority != nil {
		err = errors.Join(err, a.authority.Close())
	}
	if a.Store != nil {
		err = errors.Join(err, a.Store.Close())
	}
	if a.lock != nil {
		err = errors.Join(err, a.lock.Close())
	}
	return err
}

// Authority opens the log and the signer; writers only.
func (a *App) Authority(ctx context.Context) (*evidence.Authority, error) {
	if !a.writer {
		return nil, fault.New(fault.Conflict, "signing needs the data directory opened for writing")
	}
	if a.authority != nil {
		return a.authority, nil
	}
	last, err := a.Store.NewestEvidence(ctx)
	if err != nil {
		return nil, err
	}
	auth, err := evidence.Open(ctx, evidence.Config{Dir: a.logDir(), Keys: a.keys, ExternalURL: a.cfg.ExternalURL, Last: last, AcceptClock: a.cfg.AcceptClock})
	if err != nil {
		return nil, err
	}
	if err := a.finish(ctx, auth); err != nil {
		return nil, errors.Join(err, auth.Close())
	}
	a.authority = auth
	return auth, nil
}

// Mode is the one security setting that builds run under.
const Mode = "hermetic"

// KeyID names the key that this data directory signs with.
func (a *App) KeyID() string { return keys.ID(a.keys.Signer.Public()) }

// PublicKey is the signer's public key in PEM.
func (a *App) PublicKey() []byte { return keys.PublicPEM(a.keys.Signer.Public()) }

// TrustedRoot names our log and time stamp for verifiers.
func (a *App) TrustedRoot() ([]byte, error) { return evidence.TrustedRoot(a.keys) }

// BuilderID is the builder.id of the builds that are made here.
func (a *App) BuilderID() string {
	return strings.TrimSuffix(a.cfg.ExternalURL, "/") + "/builder/" + a.KeyID() + "/" + Mode
}

// Platform is what artifacts expect of the machine they are installed on, as the
// seed can promise it.
func (a *App) Platform() plan.Platform {
	minor := strings.Join(strings.SplitN(a.pin.PythonVersion(), ".", 3)[:2], ".")
	return plan.Platform{OS: "linux", Arch: "amd64", Interpreter: "cpython-" + minor, Libc: "glibc-" + a.pin.GlibcVersion()}
}

// environment is the Python that requirements are solved for.
func (a *App) environment() (pypi.Environment, error) {
	_, minor, _ := strings.Cut(a.pin.GlibcVersion(), ".")
	n, err := strconv.Atoi(minor)
	if err != nil {
		return pypi.Environment{}, fmt.Errorf("the seed's glibc version %q: %w", a.pin.GlibcVersion(), err)
	}
	return pypi.NewEnvironment(a.pin.PythonVersion(), "x86_64", n)
}

// Runner is the sandbox.
func (a *App) Runner() *sandbox.Runner { return a.runner }

// Engine is what runs steps, made when it is first needed.
func (a *App) Engine() (*build.Engine, error) {
	if a.engine != nil {
		return a.engine, nil
	}
	e := &build.Engine{
		Blobs: a.Blobs, Records: records{a}, Runner: a.runner, Language: pypi.Language{}, Others: otherLanguages,
		Builder: a.BuilderID(), Platform: a.Platform(), Limits: sandbox.DefaultLimits(),
		Workers: a.workers(), Faketime: faketimePath, Tmp: a.path("tmp"), Seed: a.unpackSeed, Retry: a.cfg.Retry,
		Progress: a.event, Watch: a.progress.Work, Timeline: a.trace, History: a.times,
	}
	follower, follows := a.progress.(Follower)
	if follows {
		e.Output = follower.Output
	}
	if err := e.Open(a.path("layers")); err != nil {
		return nil, err
	}
	if follows {
		follower.Tasks(e.Tasks)
	}
	a.engine = e
	return e, nil
}

// workers is how many builds run at a time.
func (a *App) workers() int {
	if a.cfg.Workers > 0 {
		return a.cfg.Workers
	}
	return runtime.NumCPU()
}

// faketimePath is where Debian's libfaketime is in the seed's tree.
const faketimePath = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
