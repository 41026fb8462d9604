// Package sandbox makes one isolated, ephemeral, hermetic run of a command
// through an OCI runtime, and measures from outside what it gave.
//
// A run is made by a supervisor: this same program, executed anew in mount and
// process namespaces of its own, so that every mount, memory file system and
// process of a run is gone when the supervisor is, however it ends. The root of
// a run is an overlay of read-only folders under a memory file system; what the
// command leaves in /out is copied out by the supervisor, nothing else is kept.
// After the sandbox is made and before the command's first instruction, the
// supervisor reads namespaces, status, mounts, interfaces and limits of the
// waiting process through /proc and hands them back as facts.
//
// The package refuses to decide: a condition that the host cannot give is a
// fact that does not hold, an axis that it cannot vary is named with its cause,
// and what the build reached for on the network is listed. Whether that is good
// enough is the policy's to say. It refuses any input that is not named in the
// Spec, and any output that is not a plain file.
package sandbox

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/record"
)

// Config says how sandboxes are made.
type Config struct {
	// Runtime is the OCI runtime: a name to find on the path, or an absolute
	// path. Default "runc".
	Runtime string
	// StateDir is a folder of ours. It holds a lock file for each running
	// sandbox, so that the control groups of one that was killed are found and
	// removed the next time. Made if it is missing.
	StateDir string
}

// Tree is a folder whose contents the supervisor copies into the memory file
// system before the start: modes and modification times kept, owned by the
// build user, the entries of each folder made in sorted order or, with Reverse,
// in the opposite one. Only folders, regular files and symbolic links.
type Tree struct {
	From    string // on the host
	To      string // absolute, inside
	Reverse bool
}

// File is a small file laid into the root, owned by the sandbox's root user.
type File struct {
	Path string // absolute, inside
	Data []byte
	Mode fs.FileMode // permission bits only; 0 means 0644
}

// Limits bound one run. A zero field takes its value from DefaultLimits.
type Limits struct {
	Memory      int64         // bytes, of all processes and memory file systems together
	Disk        int64         // bytes that the root can take up
	Output      int64         // bytes in /out
	Log         int64         // bytes of standard output and error
	Processes   int           // processes and threads at one time
	Wall        time.Duration // from the command's start to its end
	OutputFiles int           // regular files in /out
}

// DefaultLimits is what a run gets that asks for nothing else.
func DefaultLimits() Limits {
	return Limits{
		Memory: 4 << 30, Disk: 4 << 30, Output: 1 << 30, Log: 256 << 20,
		Processes: 4096, Wall: time.Hour, OutputFiles: 20000,
	}
}

func (l Limits) orDefault() Limits {
	d := DefaultLimits()
	or := func(v *int64, d int64) {
		if *v <= 0 {
			*v = d
		}
	}
	or(&l.Memory, d.Memory)
	or(&l.Disk, d.Disk)
	or(&l.Output, d.Output)
	or(&l.Log, d.Log)
	if l.Processes <= 0 {
		l.Processes = d.Processes
	}
	if l.Wall <= 0 {
		l.Wall = d.Wall
	}
	if l.OutputFiles <= 0 {
		l.OutputFiles = d.OutputFiles
	}
	return l
}

// Variation is what a rebuild changes about the undeclared environment. The
// zero value of a field leaves that axis alone. The order of folders is varied
// by Tree.Reverse.
type Variation struct {
	CPUs          int           // how many CPUs to leave to the build, at most as many as there are
	FirstCPU      int           // which of the host's CPUs to take first, counted round, so that runs side by side do not share one
	KernelRelease bool          // show another kernel release (personality UNAME26)
	Clock         time.Duration // move the wall clock by this; whole seconds
	Uptime        time.Duration // move the time since boot by this; whole seconds
	PIDs          int           // the first process of the build gets an id above this
	Faketime      string        // path of libfaketime inside the root; needed for Clock
}

// Spec is one run.
type Spec struct {
	Name      string     // for people, in errors
	Layers    []string   // read-only folders of the host, top-most first; at most 500
	Trees     []Tree     // writable copies
	Files     []File     // small files
	Args      []string   // the command; found on Env's PATH
	Env       []string   // beside the fixed environment, which it may replace
	Dir       string     // where the command starts; default /build
	Limits    Limits     // see DefaultLimits
	Vary      *Variation // nil: vary nothing
	OutputDir string     // an existing empty folder of the host for what is in /out; "": no output is taken
	Log       io.Writer  `json:"-"` // standard output and error of the command, merged; may be nil
}

// Output is one file that was taken from /out.
type Output struct {
	Path   string        // relative to /out and to Spec.OutputDir, with slashes
	Size   int64         // bytes
	Mode   fs.FileMode   // permission bits as the build left them; on the host it is 0644
	Digest digest.Digest // of its bytes
}

// Result is how a run went.
type Result struct {
	Exit      int                 // exit status of the command; 128 and the signal's number if a signal ended it
	Signal    string              // the signal that ended it, "SIGKILL"; "" if none did
	Limit     record.FailureClass // the limit that it ran into; "" if none
	Refused   string              // why the output was not taken, a sentence; "" if it was
	Facts     record.Facts        // read from outside before the command started
	Measured  record.Measured     // what the environment showed on each axis
	NotVaried map[string]string   // axis to cause, of what Vary asked for and the host could not do
	Network   []record.Attempt    // what the command reached for outside the sandbox, at most 100
	Outputs   []Output            // sorted by path
	Usage     record.Usage
}

// Runner makes sandboxes. Safe for concurrent use.
type Runner struct {
	runtime  string // absolute path, or the name if it was not found
	missing  error
	stateDir string

	identify sync.Once
	version  string        // guarded by identify
	program  digest.Digest // guarded by identify; of the runtime's file
	spare    spare
}

// Open prepares a Runner. It looks for the runtime but does not start it; what
// is missing on the host is said by Check and by Run.
func Open(cfg Config) (*Runner, error) {
	name := cfg.Runtime
	if name == "" {
		name = "runc"
	}
	r := &Runner{runtime: name, stateDir: cfg.StateDir}
	if path, err := lookRuntime(name); err != nil {
		r.missing = fault.Advise(fault.Unsupported,
			"Install it (Debian: apt-get install runc), or name another OCI runtime in the configuration.",
			"look for the OCI runtime %q: %w", name, err)
	} else {
		r.runtime = path
	}
	if r.stateDir != "" {
		if err := os.MkdirAll(r.stateDir, 0o700); err != nil {
			return nil, err
		}
		sweep(r.stateDir)
	}
	return r, nil
}

// lookRuntime finds the runtime on the path and in the system's own program
// folders, which the path of an ordinary user lacks.
func lookRuntime(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil && !strings.Contains(name, "/") {
		for _, dir := range []string{"/usr/sbin", "/usr/bin", "/sbin", "/usr/local/sbin", "/usr/local/bin"} {
			if p, err2 := exec.LookPath(filepath.Join(dir, name)); err2 == nil {
				path, err = p, nil
				break
			}
		}
	}
	if err != nil {
		return "", err
	}
	return filepath.Abs(path)
}

// Runtime names the OCI runtime and its version, "runc 1.1.5+ds1".
func (r *Runner) Runtime() string {
	r.identify.Do(func() {
		base := filepath.Base(r.runtime)
		r.version = base
		if r.missing != nil {
			return
		}
		if f, err := os.Open(r.runtime); err == nil {
			h := sha256.New()
			if _, err := io.Copy(h, f); err == nil {
				r.program = digest.FromHash(h)
			}
			f.Close()
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, r.runtime, "--version")
		cmd.Env = runtimeEnv
		out, err := cmd.Output()
		if err != nil {
			return
		}
		first, _, _ := strings.Cut(string(out), "\n")
		if f := strings.Fields(first); len(f) >= 3 && f[1] == "version" {
			r.version = base + " " + f[2]
		}
		// What was built with "go install" knows its version by its module alone.
		if bi, err := buildinfo.ReadFile(r.runtime); err == nil && isGVisor(base) && strings.HasSuffix(r.version, "VERSION_MISSING") {
			r.version = base + " " + bi.Main.Version
		}
	})
	return r.version
}

// Program is the digest of the OCI runtime's own file; "" if it cannot be read.
func (r *Runner) Program() digest.Digest {
	r.Runtime()
	return r.program
}

// Profile gives the sandbox profile as canonical JSON, and its digest: all
// that every sandbox has in common, and nothing that is particular to a host.
func (r *Runner) Profile() (string, []byte) {
	d, doc := profileDocument()
	return string(d), doc
}

func (r *Runner) profile() digest.Digest {
	d, _ := profileDocument()
	return d
}

// Check tells whether this host can make a sandbox, by making one that runs
// "true" over the host's own programs, read-only. A nil error means yes; otherwise
// the error is a fault.Unsupported that says what is missing and what to do.
// Facts that do not hold are no error of Check.
func (r *Runner) Check(ctx context.Context) error {
	if r.missing != nil {
		return r.missing
	}
	// A folder of ours on top, since an ordinary user cannot write into copies
	// of folders that belong to the host's root.
	top, err := os.MkdirTemp(r.stateDir, "check-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(top)
	for _, d := range []string{"build", "dev", "etc", "out", "proc", "sys", "tmp", "var/tmp"} {
		if err := os.MkdirAll(filepath.Join(top, d), 0o755); err != nil {
			return err
		}
	}
	if err := os.Chmod(top, 0o755); err != nil {
		return err
	}
	res, err := r.Run(ctx, Spec{
		Name: "check", Layers: []string{top, checkRoot()}, Args: []string{"true"}, Dir: "/",
		Limits: Limits{Memory: 256 << 20, Disk: 16 << 20, Output: 1 << 20, Processes: 64, Wall: 30 * time.Second},
	})
	if err != nil {
		return err
	}
	if res.Exit != 0 {
		return fault.New(fault.Unsupported, "run \"true\" in a sandbox: it ended with status %d", res.Exit)
	}
	return nil
}

// checkRoot is a folder of the host that serves as a root with a shell: /usr,
// where it has all that a root needs (merged /usr), since it is seldom that
// something else is mounted in there; else the root itself.
func checkRoot() string {
	if _, err := os.Stat("/usr/bin/sh"); err == nil {
		if st, err := os.Lstat("/lib"); err == nil && st.Mode()&fs.ModeSymlink != 0 {
			return "/usr"
		}
	}
	return "/"
}

func newID() string {
	var b [10]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand, Go 1.24)
	return hex.EncodeToString(b[:])
}
