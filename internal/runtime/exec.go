package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"hallmark/internal/fault"
)

// Command is what is run in an installed runtime.
type Command struct {
	Dir  string   // the installed runtime
	Args []string // the command; empty: a shell, or an interpreter, of the runtime
	Env  []string // NAME=VALUE; goes before what the runtime declares
	Work string   // the working folder, absolute; seen in the runtime at the same place, writable
	Home string   // bound likewise; empty: a home that is empty and gone afterwards
	User string   // the name of whoever runs it
	// Platform lays in the machine's C library and what belongs to it, where the runtime
	// has none: what the plan calls its platform.
	Platform bool
}

// childArg makes this program the one that moves into the runtime.
const childArg = "hallmark-into-runtime"

// entering is what that one is told.
type entering struct {
	Command
	Console string // the terminal, if there is one
}

// DefaultPath is where commands are looked for in a runtime.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// passed are variables of the caller's environment that mean the same in a runtime: the
// terminal, the time zone, and the way to the network, which is the host's.
var passed = []string{"TERM", "COLORTERM", "NO_COLOR", "TZ", "http_proxy", "https_proxy", "no_proxy", "all_proxy",
	"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"}

// Environ is the environment of a command: what the runtime declares, what says who
// and where somebody is, a few variables of the caller's, and what was asked for.
// Nothing else of the caller's comes along.
func Environ(declared, asked []string, home, user string) []string {
	vars := map[string]string{"PATH": DefaultPath, "LANG": "C.UTF-8", "HOME": home, "USER": user, "LOGNAME": user}
	for _, name := range passed {
		if v, ok := os.LookupEnv(name); ok {
			vars[name] = v
		}
	}
	for _, list := range [][]string{declared, asked} {
		for _, v := range list {
			name, value, _ := strings.Cut(v, "=")
			vars[name] = value
		}
	}
	out := make([]string, 0, len(vars))
	for name, value := range vars {
		out = append(out, name+"="+value)
	}
	slices.Sort(out)
	return out
}

// Exec replaces this process by a command that runs in an installed runtime: in a user
// and a mount namespace, with the runtime as its read-only root. So the command has
// this process's id, terminal, signals and exit code. Exec returns only if it cannot
// be done: fault.Unsupported with the way out where the host allows no user namespaces.
func Exec(ctx context.Context, c Command) error {
	fail := func(err error) error { return fmt.Errorf("run in the runtime %s: %w", c.Dir, err) }
	_, doc, err := ReadDocument(c.Dir)
	if err != nil {
		return err
	}
	if c.Dir, err = filepath.Abs(c.Dir); err != nil {
		return fail(err)
	}
	if c.Home != "" && !usableHome(c.Home) {
		c.Home = ""
	}
	if c.User == "" {
		c.User = userName()
	}
	declared := doc.Env
	if c.Platform {
		declared = append(declared, "LD_LIBRARY_PATH="+platformDir)
	}
	c.Env = Environ(declared, c.Env, homeInside(c.Home), c.User)
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		return fail(fault.Advise(fault.Unsupported, "Install util-linux.", "there is no unshare, which makes the namespaces"))
	}
	if err := probe(ctx, unshare); err != nil {
		return fail(err)
	}
	e := entering{Command: c}
	for _, fd := range []int{0, 1, 2} {
		if name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); err == nil && strings.HasPrefix(name, "/dev/pts/") && e.Console == "" {
			e.Console = name
		}
	}
	told, err := tell(e)
	if err != nil {
		return fail(err)
	}
	self, err := unix.Open("/proc/self/exe", unix.O_RDONLY, 0) // stays open over what follows
	if err != nil {
		return fail(err)
	}
	args := append(unshareArgs(unshare), "--", fmt.Sprintf("/proc/self/fd/%d", self), childArg, strconv.Itoa(told), strconv.Itoa(self))
	return fail(syscall.Exec(unshare, args, os.Environ()))
}

// unshareArgs begins unshare(1): the same user inside as outside, who may mount there
// until the command runs.
func unshareArgs(program string) []string {
	return []string{program, "--user", "--map-current-user", "--keep-caps", "--mount", "--propagation", "private"}
}

// tell writes what the next program is told to a file in memory that it inherits.
func tell(e entering) (int, error) {
	b, err := json.Marshal(e)
	if err != nil {
		return -1, err
	}
	fd, err := unix.MemfdCreate("hallmark-runtime", 0)
	if err != nil {
		return -1, err
	}
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		if err != nil {
			return -1, err
		}
		b = b[n:]
	}
	_, err = unix.Seek(fd, 0, 0)
	return fd, err
}

// probe tells whether the namespaces can be had, before this process gives itself up.
func probe(ctx context.Context, unshare string) error {
	args := append(unshareArgs(unshare)[1:], "--", "true")
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, unshare, args...)
	cmd.Stderr = &said
	err := cmd.Run()
	if err == nil {
		return nil
	}
	text := strings.Join(strings.Fields(said.String()), " ")
	return fault.Advise(fault.Unsupported, adviseNamespaces(readSetting), "this host gives no user namespace: %w: %.300s", err, text)
}

// settings are the switches that keep ordinary users from user namespaces, each with
// the value that does.
var settings = []struct{ name, no, yes string }{
	{"kernel.unprivileged_userns_clone", "0", "1"},             // Debian
	{"kernel.apparmor_restrict_unprivileged_userns", "1", "0"}, // Ubuntu
	{"user.max_user_namespaces", "0", "15000"},                 // all
}

func readSetting(name string) string {
	b, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// adviseNamespaces says what an administrator can do, and what goes without.
func adviseNamespaces(read func(string) string) string {
	const without = "Without them: run it as root, or take the runtime as an image: hallmark export oci -o runtime.tar"
	for _, s := range settings {
		if read(s.name) == s.no {
			return fmt.Sprintf("An administrator allows them with: sysctl -w %s=%s. %s", s.name, s.yes, without)
		}
	}
	return "In a container, its engine's profile may forbid them. " + without
}

// usableHome tells whether a home is a folder of somebody's, and not the root of all.
func usableHome(home string) bool {
	st, err := os.Stat(home)
	return err == nil && st.IsDir() && filepath.IsAbs(home) && filepath.Clean(home) != "/"
}

// homeInside is what HOME says in the runtime.
func homeInside(home string) string {
	if home == "" {
		return emptyHome
	}
	return home
}

// emptyHome is the home of whoever has none.
const emptyHome = "/tmp/home"

func userName() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return "user"
}

// Status is the exit code for what a command could not be started for, as shells have
// it (POSIX.1-2017, XCU 2.8.2).
func startStatus(err error) int {
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, exec.ErrNotFound) {
		return 127
	}
	return 126
}
