package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// program gives a program that the test needs. It never skips in silence.
func program(t *testing.T, name string) string {
	t.Helper()
	p, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("this test needs %s: scripts/setup test installs Debian's systemd: %v", name, err)
	}
	return p
}

// TestUnit: systemd takes the unit without a word, and its own judgement of how much
// the service is exposed has not become worse.
func TestUnit(t *testing.T) {
	if testing.Short() {
		t.Skip("runs systemd's programs")
	}
	analyze := program(t, "systemd-analyze")
	b, err := os.ReadFile("systemd/hallmark.service")
	if err != nil {
		t.Fatal(err)
	}
	// The program and the manual need not be installed here.
	text := strings.Replace(string(b), "ExecStart=/usr/bin/hallmark ", "ExecStart=/bin/true ", 1)
	text = regexp.MustCompile(`(?m)^Documentation=.*\n`).ReplaceAllString(text, "")
	unit := filepath.Join(t.TempDir(), "hallmark.service")
	if err := os.WriteFile(unit, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", "--recursive-errors=no", unit).CombinedOutput()
	if err != nil || strings.Contains(string(out), "hallmark.service") {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	// What builds need keeps it from being low; see the unit's last comment.
	out, err = exec.CommandContext(t.Context(), analyze, "security", "--offline=yes", "--threshold=70", "--no-pager", unit).CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
	t.Log(lastLine(string(out)))
	for _, must := range []string{"User=hallmark", "ProtectSystem=strict", "KillMode=mixed", "Restart=on-failure"} {
		if !strings.Contains(text, "\n"+must) {
			t.Errorf("the unit does not say %s", must)
		}
	}
	// These would keep newuidmap, and so every build, from working.
	for _, never := range []string{"NoNewPrivileges=yes", "PrivateUsers=yes", "RestrictNamespaces=yes", "SystemCallFilter=", "PrivateDevices=yes", "ProtectProc="} {
		if strings.Contains(text, "\n"+never) {
			t.Errorf("the unit says %s", never)
		}
	}
}

func lastLine(s string) string {
	ls := strings.Split(strings.TrimSpace(s), "\n")
	return ls[len(ls)-1]
}

// TestUser: the user and the folders are made as the files beside the unit say.
func TestUser(t *testing.T) {
	if testing.Short() {
		t.Skip("runs systemd's programs")
	}
	root := t.TempDir()
	for _, d := range []string{"etc", "usr/lib/sysusers.d", "usr/lib/tmpfiles.d", "var/lib"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for from, to := range map[string]string{"systemd/hallmark.sysusers": "usr/lib/sysusers.d/hallmark.conf", "systemd/hallmark.tmpfiles": "usr/lib/tmpfiles.d/hallmark.conf"} {
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, to), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.CommandContext(t.Context(), program(t, "systemd-sysusers"), "--root="+root).CombinedOutput(); err != nil {
		t.Fatalf("systemd-sysusers: %v\n%s", err, out)
	}
	users, err := os.ReadFile(filepath.Join(root, "etc/passwd"))
	if err != nil || !regexp.MustCompile(`(?m)^hallmark:[^:]*:\d+:\d+:Hallmark:/var/lib/hallmark:/usr/sbin/nologin$`).Match(users) {
		t.Errorf("users: %s, %v", users, err)
	}
	if os.Getuid() != 0 {
		return // only root can give folders to others
	}
	if out, err := exec.CommandContext(t.Context(), program(t, "systemd-tmpfiles"), "--root="+root, "--create").CombinedOutput(); err != nil {
		t.Fatalf("systemd-tmpfiles: %v\n%s", err, out)
	}
	for dir, mode := range map[string]os.FileMode{"etc/hallmark": 0o750, "var/lib/hallmark": 0o750} {
		if st, err := os.Stat(filepath.Join(root, dir)); err != nil || st.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", dir, st, err)
		}
	}
}
