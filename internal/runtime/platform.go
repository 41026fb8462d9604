package runtime

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	goruntime "runtime"

	"hallmark/internal/fault"
)

// platformDir is where the machine's libraries are in a runtime that has none.
const platformDir = "/dev/platform"

// platforms say, by Go's name of the processor, where a program expects its loader and
// where Debian keeps libraries (the ABI supplements of the processors).
var platforms = map[string]struct{ loader, libraries string }{
	"amd64": {"lib64/ld-linux-x86-64.so.2", "x86_64-linux-gnu"},
	"arm64": {"lib/ld-linux-aarch64.so.1", "aarch64-linux-gnu"},
}

// platformLibraries are those of the C library and of GCC's run-time: what policies call
// the platform of a wheel, and no other.
var platformLibraries = []string{"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1", "libresolv.so.2",
	"libanl.so.1", "libnss_files.so.2", "libnss_dns.so.2", "libgcc_s.so.1", "libstdc++.so.6"}

// takePlatform takes the machine's loader and libraries, by where they go in the new
// root: none if the runtime brings a loader.
func (r *rooting) takePlatform() (map[string]tree, error) {
	p, ok := platforms[goruntime.GOARCH]
	if !ok {
		return nil, fault.New(fault.Unsupported, "nothing is known of the C library of %s", goruntime.GOARCH)
	}
	if _, err := r.from.Stat(p.loader); err == nil {
		return nil, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	real, err := filepath.EvalSymlinks("/" + p.loader)
	if err != nil {
		return nil, fault.New(fault.Unsupported, "this machine has no C library of the platform either: %w", err)
	}
	out := map[string]tree{}
	if out[p.loader], err = takeReadOnly(real); err != nil {
		return nil, err
	}
	r.opened(filepath.Dir(p.loader))
	for _, name := range platformLibraries {
		for _, dir := range []string{"/lib/" + p.libraries, "/usr/lib/" + p.libraries, "/lib64", "/usr/lib64", "/usr/lib"} {
			real, err := filepath.EvalSymlinks(filepath.Join(dir, name))
			if err != nil {
				continue
			}
			if out[platformDir[1:]+"/"+name], err = takeReadOnly(real); err != nil {
				return nil, err
			}
			break
		}
	}
	return out, nil
}

func takeReadOnly(path string) (tree, error) {
	t, err := take(path)
	if err != nil {
		return t, err
	}
	return t, t.readOnly()
}

// layPlatform puts what was taken into the new root, which is the current folder.
func layPlatform(taken map[string]tree) error {
	for name, t := range taken {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name, nil, 0o644); err != nil {
			return err
		}
		if err := t.at(name); err != nil {
			return err
		}
	}
	return nil
}
