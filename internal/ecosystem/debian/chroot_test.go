package debian_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"hallmark/internal/ecosystem/debian"
)

// unpacked unpacks the committed seed into a folder of the test.
func unpacked(t *testing.T) (debian.Pin, folderSink, debian.Layer) {
	t.Helper()
	pin, sink := fetched(t)
	start := time.Now()
	l, err := debian.Unpack(pin, sink.Open, filepath.Join(t.TempDir(), "tree"))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("unpacked in %v: %s, %d bytes, %d entries", time.Since(start).Round(time.Millisecond), l.Digest, l.Bytes, l.Files)
	return pin, sink, l
}

// inside runs a command with dir as its root: as root by chroot, else in a user
// namespace.
func inside(t *testing.T, dir string, arg ...string) string {
	t.Helper()
	cmd := exec.Command(arg[0], arg[1:]...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", "HOME=/tmp"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: dir}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("in the seed: %s: %v\n%s", strings.Join(arg, " "), err, out)
	}
	return string(out)
}

// TestSeedWorks unpacks the real seed and uses what a build needs.
func TestSeedWorks(t *testing.T) {
	if testing.Short() {
		t.Skip("needs the network, and root or a user namespace")
	}
	pin, _, l := unpacked(t)
	sh := func(script string) string { t.Helper(); return inside(t, l.Dir, "/bin/sh", "-ec", script) }
	// The test's root has no devices; the programs are content with a plain file.
	if err := os.WriteFile(filepath.Join(l.Dir, "dev", "null"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ script, want string }{
		{"gcc --version | head -1; g++ --version | head -1; cc -dumpversion; c++ -dumpversion", "12"},
		{"make --version | head -1; cmake --version; ninja --version; pkg-config --version; patchelf --version", "cmake version 3.25"},
		{"perl -MData::Dumper -MFile::Find -MPOSIX -e 'print qq(perl $])'", "perl 5.036"},
		{"python3.11 -c 'import ssl, zlib, ctypes, sqlite3, bz2, lzma, curses, readline, distutils.core, lib2to3.pygram; print(ssl.OPENSSL_VERSION)'", "OpenSSL 3"},
		{"python3 -V; python3 -c 'import sysconfig; print(sysconfig.get_platform())'", "Python " + pin.PythonVersion()},
		{"awk 'BEGIN{print 6*7}'; echo x | sed s/x/y/ | grep y; which ls; m4 --version | head -1; patch --version | head -1; tar --version | head -1; xz --version; bzip2 --help 2>&1 | head -1; file /bin/true; hostname >/dev/null; id -un; nproc", "42"},
		{"/sbin/ldconfig -p | grep -q 'libz.so.1 (libc6,x86-64) => /lib/x86_64-linux-gnu/libz.so.1' && echo cache", "cache"},
		{"/sbin/ldconfig -X -C /tmp/theirs; /sbin/ldconfig -p -C /tmp/theirs | grep '=>' > /tmp/theirs.txt; /sbin/ldconfig -p | grep '=>' > /tmp/ours.txt; diff /tmp/theirs.txt /tmp/ours.txt && echo as ldconfig; rm /tmp/theirs*", "as ldconfig"},
		{"echo 'root x' > /dev/null; getent passwd build; id build; getent group nogroup; locale -a", "uid=1000(build)"},
	} {
		out := sh(c.script)
		t.Logf("%s\n%s", c.script, out)
		if !strings.Contains(out, c.want) {
			t.Errorf("%s: want %q in\n%s", c.script, c.want, out)
		}
	}
	// What the pin says of its programs is what they say of themselves.
	for _, name := range debian.ProgramNames() {
		if want, out := pin.Programs()[name], sh(name+" --version"); want == "" || !strings.Contains(" "+strings.ReplaceAll(out, "\n", " ")+" ", " "+want+" ") {
			t.Errorf("%s --version: the pin says %q, the program %q", name, want, out)
		}
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(l.Dir, "tmp", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("a.c", "#include <Python.h>\nstatic struct PyModuleDef m = {PyModuleDef_HEAD_INIT, \"a\", 0, -1, 0};\nPyMODINIT_FUNC PyInit_a(void){return PyModule_Create(&m);}\n")
	write("b.cc", "#include <iostream>\n#include <thread>\nint main(){std::thread([]{std::cout<<\"hello\\n\";}).join();}\n")
	write("CMakeLists.txt", "cmake_minimum_required(VERSION 3.20)\nproject(b CXX)\nfind_package(Threads REQUIRED)\nadd_executable(b b.cc)\ntarget_link_libraries(b Threads::Threads)\n")
	out := sh(`cd /tmp
gcc -shared -fPIC $(python3.11-config --includes) a.c -o a.so
python3.11 -c 'import sys; sys.path.insert(0, "/tmp"); import a; print("extension", a.__name__)'
g++ -O2 -flto b.cc -o b -pthread && ./b
echo 'int main(void){return 0;}' > s.c
gcc -static s.c -o s 2>/dev/null && echo linked statically
gcc -ffast-math s.c -o s && ./s
cmake -G Ninja -S . -B o >/dev/null && ninja -C o && ./o/b
LD_PRELOAD=/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1 FAKETIME=+9601h date +%Y
python3.11 -c 'import ctypes.util; print(ctypes.util.find_library("z"))'`)
	t.Log(out)
	if strings.Contains(out, "linked statically") {
		t.Error("a program could be linked statically: bytes of the seed that nobody named would be in it")
	}
	for _, w := range []string{"extension a", "hello", "libz.so.1"} {
		if !strings.Contains(out, w) {
			t.Errorf("want %q in\n%s", w, out)
		}
	}
	if err := debian.Verify(l.Dir, l); err == nil {
		t.Error("files were added to the tree, and Verify says nothing")
	}
}
