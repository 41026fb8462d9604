package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/alecthomas/kong"
	"golang.org/x/term"

	"hallmark/internal/app"
	"hallmark/internal/keys"
)

// global are the flags that every command has.
type global struct {
	Data        string           `help:"Data directory: database, blobs, log and keys." env:"HALLMARK_DATA" default:"" placeholder:"DIR"`
	Database    string           `help:"PostgreSQL database that has the rows, postgres://USER@HOST/DATABASE; default: a file in the data directory. Give a password in the environment, where others do not see it." env:"HALLMARK_DATABASE" placeholder:"URL"`
	Server      string           `help:"Work on a server instead of a data directory." env:"HALLMARK_SERVER" placeholder:"URL"`
	Branch      string           `help:"The project's branch to work on; default: its default one." env:"HALLMARK_BRANCH" placeholder:"NAME"`
	JSON        bool             `name:"json" help:"One JSON document on standard output."`
	Quiet       bool             `help:"No progress on standard error."`
	Dir         string           `short:"C" help:"The project's folder." default:"." placeholder:"DIR"`
	Runtime     string           `help:"OCI runtime that runs the builds." env:"HALLMARK_RUNTIME" default:"runc" placeholder:"NAME"`
	SignerKey   string           `name:"signer-key" help:"First start: the signer's key is the one in a KMS that this URI names; no file is made. Later: refuse to write if it is not." env:"HALLMARK_SIGNER_KEY" placeholder:"KMS-URI"`
	LogKey      string           `name:"log-key" help:"The same for the log's key." env:"HALLMARK_LOG_KEY" placeholder:"KMS-URI"`
	StampKey    string           `name:"timestamp-key" help:"The same for the time stamp's key." env:"HALLMARK_TIMESTAMP_KEY" placeholder:"KMS-URI"`
	AcceptClock bool             `name:"accept-clock" help:"Sign although the clock is behind the newest time stamp here: it was wrong then and is right now."`
	Version     kong.VersionFlag `help:"Say the version."`
}

// env is what a command works with.
type env struct {
	ctx      context.Context
	out, err io.Writer
	global   *global
	bar      *progress
}

// nextBuilds is the command that builds what was just committed: on the branch that it
// was committed to.
func (e *env) nextBuilds() string {
	if e.global.Branch != "" {
		return "hallmark --branch " + harmless(e.global.Branch) + " builds"
	}
	return "hallmark builds"
}

// data gives the data directory: --data, else the folder for a user's data
// (XDG Base Directory Specification).
func (e *env) data() (string, error) {
	if e.global.Data != "" {
		return e.global.Data, nil
	}
	if d := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "hallmark"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, ".local", "share", "hallmark"), nil
}

// config is what the data directory is opened with.
func (e *env) config(writer bool) (app.Config, error) {
	if e.global.Server != "" {
		return app.Config{}, notOnServer("this command", "Leave out --server and HALLMARK_SERVER.")
	}
	dir, err := e.data()
	if err != nil {
		return app.Config{}, err
	}
	cfg := app.Config{Data: dir, Database: e.global.Database, Branch: e.global.Branch, Runtime: e.global.Runtime, AcceptClock: e.global.AcceptClock, Version: version}
	if cfg.KeyURIs, err = e.global.keyURIs(); err != nil {
		return cfg, err
	}
	if !e.global.Quiet && writer {
		e.bar = newProgress(e.err)
		cfg.Progress = e.bar
	}
	return cfg, nil
}

// keyURIs are the keys that the command line says are in a KMS.
func (g *global) keyURIs() (map[keys.Role]string, error) {
	uris := map[keys.Role]string{}
	for role, uri := range map[keys.Role]string{keys.RoleSigner: g.SignerKey, keys.RoleLog: g.LogKey, keys.RoleTimestamp: g.StampKey} {
		if uri == "" {
			continue
		}
		if err := keys.CheckURI(uri); err != nil {
			return nil, fmt.Errorf("--%s-key: %w", role, err)
		}
		uris[role] = uri
	}
	return uris, nil
}

// open opens the data directory.
func (e *env) open(writer bool, more ...func(*app.Config)) (*app.App, error) {
	cfg, err := e.config(writer)
	if err != nil {
		return nil, err
	}
	for _, m := range more {
		m(&cfg)
	}
	return app.Open(e.ctx, cfg, writer)
}

func (e *env) endProgress() {
	if e.bar != nil {
		e.bar.end()
	}
}

// print writes v as JSON if --json was given, else calls text.
func (e *env) print(v any, text func(w io.Writer) error) error {
	e.endProgress()
	if !e.global.JSON {
		return text(e.out)
	}
	enc := json.NewEncoder(e.out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// width is how many columns the output has; color whether it may have colours.
func (e *env) width() (width int, color bool) {
	f, ok := e.out.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 100, false
	}
	w, _, err := term.GetSize(int(f.Fd()))
	if err != nil || w < 40 {
		w = 80
	}
	return w, os.Getenv("NO_COLOR") == ""
}

// versionText says which build of Hallmark this is.
func versionText() string {
	s := "hallmark " + version
	if bi, ok := debug.ReadBuildInfo(); ok {
		s += " (" + strings.TrimPrefix(bi.GoVersion, "go") + ")"
	}
	return s
}

// version is set by the build.
var version = "0.1.0-dev"
