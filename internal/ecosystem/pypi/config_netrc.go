package pypi

import (
	"os"
	"path/filepath"
	"strings"
)

// maxNetrcBytes limits what is read of a netrc file.
const maxNetrcBytes = 1 << 20

// netrcPath is the file that pip would read, or empty.
func netrcPath() string {
	if p := os.Getenv("NETRC"); p != "" {
		return p
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	for _, n := range []string{".netrc", "_netrc"} {
		if p := filepath.Join(home, n); fileExists(p) {
			return p
		}
	}
	return ""
}

func fileExists(p string) bool {
	st, err := os.Stat(p)
	return err == nil && st.Mode().IsRegular()
}

// login is a user and a password.
type login struct{ user, password string }

// parseNetrc reads the logins of a netrc file by host; "" is its default entry.
// As elsewhere the first entry of a host counts. Macros are skipped.
func parseNetrc(text string) map[string]login {
	out := map[string]login{}
	var toks []string
	macro := false
	for _, line := range strings.Split(text, "\n") {
		f := strings.Fields(line)
		if macro {
			macro = len(f) > 0
			continue
		}
		for i, t := range f {
			if strings.HasPrefix(t, "#") && (i == 0 || f[i-1] != "password" && f[i-1] != "login") {
				break
			}
			if t == "macdef" {
				macro = true
				break
			}
			toks = append(toks, t)
		}
	}
	host, in := "", false
	var l login
	flush := func() {
		if _, has := out[host]; in && !has && l.user != "" {
			out[host] = l
		}
		l = login{}
	}
	for i := 0; i < len(toks); i++ {
		next := func() string {
			if i++; i < len(toks) {
				return toks[i]
			}
			return ""
		}
		switch toks[i] {
		case "machine":
			flush()
			host, in = next(), true
		case "default":
			flush()
			host, in = "", true
		case "login", "user":
			l.user = next()
		case "password":
			l.password = next()
		case "account":
			next()
		}
	}
	flush()
	return out
}
