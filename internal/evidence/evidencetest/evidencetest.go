// Package evidencetest gives tests the stock programs that check our evidence:
// cosign and slsa-verifier, in the versions that the product promises to work
// with. Each is built once from the Go module proxy's sources and kept, by
// version, in the user's cache folder under hallmark-tools. It never falls back
// to another version and never skips: a tool that cannot be built fails the
// test.
package evidencetest

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	"debug/buildinfo"
)

// Versions of the stock programs.
const (
	CosignVersion       = "v3.1.3"
	SLSAVerifierVersion = "v2.7.1"
)

// How long building a tool and running it may take.
const (
	buildTimeout = 20 * time.Minute
	runTimeout   = time.Minute
)

// Cosign gives the path of cosign.
func Cosign(t testing.TB) string {
	t.Helper()
	return GoTool(t, "cosign", "github.com/sigstore/cosign/v3/cmd/cosign", CosignVersion)
}

// GoTool gives the path of a Go program in exactly one version, installed with
// "go install" if it is not there yet.
func GoTool(t testing.TB, name, pkg, version string) string {
	t.Helper()
	return tool(t, name, version, func(dir string) {
		// One that the machine has already serves, if it is that version.
		if p := installed(name); p != "" && isVersion(p, version) {
			if b, err := os.ReadFile(p); err == nil && os.WriteFile(filepath.Join(dir, name), b, 0o755) == nil {
				return
			}
		}
		run(t, dir, []string{"GOBIN=" + dir}, "go", "install", pkg+"@"+version)
	})
}

// SLSAVerifier gives the path of slsa-verifier. It is built in a copy of its
// source: go install also asks for the list of its versions, which not every
// mirror has.
func SLSAVerifier(t testing.TB) string {
	t.Helper()
	return tool(t, "slsa-verifier", SLSAVerifierVersion, func(dir string) {
		out := run(t, dir, nil, "go", "mod", "download", "-json", "github.com/slsa-framework/slsa-verifier/v2@"+SLSAVerifierVersion)
		var m struct{ Dir string }
		if err := json.Unmarshal(out, &m); err != nil || m.Dir == "" {
			t.Fatalf("source of slsa-verifier: %v in %s", err, out)
		}
		src := filepath.Join(dir, "src")
		if err := os.CopyFS(src, os.DirFS(m.Dir)); err != nil {
			t.Fatalf("copy source of slsa-verifier: %v", err)
		}
		run(t, src, nil, "go", "build", "-mod=mod", "-o", filepath.Join(dir, "slsa-verifier"), "./cli/slsa-verifier")
		os.RemoveAll(src)
	})
}

// Offline runs a program in a network namespace of its own, which has no
// interface that is up. It gives stdout and stderr together.
func Offline(t testing.TB, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), runTimeout)
	defer cancel()
	flags := []string{"-n"}
	if os.Geteuid() != 0 {
		flags = []string{"-rn"}
	}
	cmd := exec.CommandContext(ctx, "unshare", append(append(flags, "--", name), args...)...)
	// An empty home: nothing that an earlier run fetched can help.
	home := t.TempDir()
	cmd.Env = []string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "TMPDIR=" + home}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("run %s without network: %v", name, err)
	}
	if strings.Contains(string(out), "unshare: ") {
		t.Fatalf("this machine gives no network namespace, so nothing was shown: %s", out)
	}
	return string(out), err
}

// tool finds a program in the cache or has build make it; other processes wait.
func tool(t testing.TB, name, version string, build func(dir string)) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatalf("cache folder for %s: %v", name, err)
	}
	root := filepath.Join(cache, "hallmark-tools")
	if err := os.MkdirAll(root, 0o755); err != nil {
		t.Fatal(err)
	}
	final := filepath.Join(root, name+"-"+version, name)
	if executable(final) {
		return final
	}
	lock, err := os.OpenFile(filepath.Join(root, name+".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatalf("lock for building %s: %v", name, err)
	}
	if executable(final) {
		return final
	}
	tmp, err := os.MkdirTemp(root, ".build-"+name+"-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	begin := time.Now()
	build(tmp)
	if !executable(filepath.Join(tmp, name)) {
		t.Fatalf("building %s %s left no program", name, version)
	}
	if err := os.MkdirAll(filepath.Dir(final), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(tmp, name), final); err != nil {
		t.Fatal(err)
	}
	t.Logf("made %s %s in %v", name, version, time.Since(begin).Round(time.Second))
	return final
}

func run(t testing.TB, dir string, env []string, name string, args ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), buildTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off"), env...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, stderr.String())
	}
	return out
}

func executable(p string) bool {
	fi, err := os.Stat(p)
	return !errors.Is(err, fs.ErrNotExist) && err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0
}

// installed finds a program where go install puts it, or on the path.
func installed(name string) string {
	if out, err := exec.Command("go", "env", "GOPATH").Output(); err == nil {
		if p := filepath.Join(strings.TrimSpace(string(out)), "bin", name); executable(p) {
			return p
		}
	}
	p, err := exec.LookPath(name)
	if err != nil {
		return ""
	}
	return p
}

// isVersion reads a Go program's own record of the module it was built from.
func isVersion(path, version string) bool {
	var bi *debug.BuildInfo
	bi, err := buildinfo.ReadFile(path)
	return err == nil && bi.Main.Version == version
}
