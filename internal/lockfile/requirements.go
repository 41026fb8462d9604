package lockfile

import (
	"fmt"
	"regexp"
	"strings"
)

// comment is what pip takes for a comment: a hash at the line's beginning or behind
// a blank.
var comment = regexp.MustCompile(`(^|\s+)#.*$`)

// variable is what pip replaces by an environment variable's value.
var variable = regexp.MustCompile(`\$\{[A-Z0-9_]+\}`)

// refused are options that stand on lines of their own, with why they are not
// followed. pip takes both spellings of each, with a blank or "=" behind.
var refused = []struct{ short, long, reason string }{
	{"-r", "--requirement", "It names another file; import that, too."},
	{"-c", "--constraint", "It names a file of constraints, which only narrow what other lines ask for; write them as requirements."},
	{"-e", "--editable", "It is a folder or a repository to be built in place, not a package of an index."},
	{"-i", "--index-url", "Which indexes are asked is for whoever runs Hallmark; an address in a file is not followed."},
	{"", "--extra-index-url", "Which indexes are asked is for whoever runs Hallmark; an address in a file is not followed."},
	{"-f", "--find-links", "Which indexes are asked is for whoever runs Hallmark; an address in a file is not followed."},
	{"", "--no-index", "Which indexes are asked is for whoever runs Hallmark."},
	{"", "--trusted-host", "Which hosts are trusted is for whoever runs Hallmark."},
	{"", "--pre", "Say it of a requirement: one that names a pre-release takes pre-releases."},
	{"", "--no-binary", "Everything is built from source here."},
	{"", "--only-binary", "Everything is built from source here."},
	{"", "--prefer-binary", "Everything is built from source here."},
	{"", "--require-hashes", ""}, // no word about it: digests are always checked
	{"", "--use-feature", "It is an option of pip's own."},
}

// schemes begin what is an address in place of a name.
var schemes = regexp.MustCompile(`(?i)^(?:[a-z0-9]+\+)?[a-z][a-z0-9]*://|^(?:git|hg|svn|bzr)\+`)

// requirements reads pip's requirements file (pip's documentation, "Requirements
// File Format").
func (r *reader) requirements(b []byte) error {
	lines := strings.Split(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(b)), "\n")
	v := &via{}
	hashes := false
	for i := 0; i < len(lines) && !r.full(); i++ {
		from := fmt.Sprintf("line %d", i+1)
		line := lines[i]
		v.comment(line)
		if strings.HasSuffix(line, `\`) {
			// A backslash at the end goes on with the next line; not in a comment. Each
			// piece is looked at once, however many there are.
			var whole strings.Builder
			last := byte(' ')
			for piece := line; ; piece = lines[i] {
				commented := comments(last, piece)
				if !strings.HasSuffix(piece, `\`) || commented || i+1 >= len(lines) {
					whole.WriteString(piece)
					break
				}
				if piece = strings.TrimSuffix(piece, `\`); piece != "" {
					last = piece[len(piece)-1]
				}
				whole.WriteString(piece)
				i++
				v.comment(lines[i])
			}
			line = whole.String()
		}
		if line = strings.TrimSpace(comment.ReplaceAllString(line, "")); line == "" {
			continue
		}
		if variable.MatchString(line) {
			r.leave(line, from, "It holds an environment variable, whose value is not known here.")
			continue
		}
		if strings.HasPrefix(line, "-") {
			r.option(line, from)
			continue
		}
		text, options, _ := cutOptions(line)
		hashes = hashes || strings.Contains(options, "--hash")
		if schemes.MatchString(text) {
			r.leave(text, from, "It is an address; only packages of an index can be asked for, by name and version.")
			continue
		}
		if !strings.Contains(text, "@") && (strings.HasPrefix(text, ".") || strings.HasPrefix(text, "/") || strings.HasPrefix(text, "~") || strings.HasSuffix(text, ".whl") || strings.HasSuffix(text, ".tar.gz") || strings.HasSuffix(text, ".zip")) {
			r.leave(text, from, "It is a file or a folder, not a package of an index.")
			continue
		}
		n := len(r.rows)
		r.take(text, from, true, nil)
		if len(r.rows) > n {
			v.of(&r.rows[n])
		} else {
			v.of(nil)
		}
	}
	r.DirectKnown = v.conclude(r.rows)
	if hashes {
		r.Notes = append(r.Notes, "The file's hashes are not taken over: a project's commit pins what the index says, with digests of its own.")
	}
	return nil
}

// comments tells whether a comment begins in a piece of a line; last is the byte
// before it.
func comments(last byte, piece string) bool {
	for i := range len(piece) {
		if piece[i] == '#' && strings.IndexByte(" \t\f\r\n", last) >= 0 {
			return true
		}
		last = piece[i]
	}
	return false
}

// cutOptions takes the options behind a requirement off, such as --hash=….
func cutOptions(line string) (text, options string, found bool) {
	for i := 0; i+2 < len(line); i++ {
		if (line[i] == ' ' || line[i] == '\t') && line[i+1] == '-' && (line[i+2] == '-' || line[i+2] >= 'a' && line[i+2] <= 'z') {
			return strings.TrimSpace(line[:i]), line[i+1:], true
		}
	}
	return line, "", false
}

func (r *reader) option(line, from string) {
	for _, o := range refused {
		if line == o.long || strings.HasPrefix(line, o.long+"=") || strings.HasPrefix(line, o.long+" ") || o.short != "" && strings.HasPrefix(line, o.short) && !strings.HasPrefix(line, "--") {
			if o.reason != "" {
				r.leave(line, from, "%s", o.reason)
			}
			return
		}
	}
	r.leave(line, from, "It is an option of pip's that is not known here.")
}

// credentials are a user's name and password in an address.
var credentials = regexp.MustCompile(`://[^/@\s]*@`)

// hidden takes passwords out of a line that is shown.
func hidden(line string) string { return credentials.ReplaceAllString(line, "://…@") }

// via reads the remarks that pip-compile and uv write behind each requirement: what
// asks for it. "-r FILE" or a project's file is the project itself.
type via struct {
	said   map[int]bool // rows that have a remark
	direct map[int]bool
	rows   []*row
	on     bool // the lines that follow may belong to the remark
}

// comment takes a line that may be a remark about the newest requirement.
func (v *via) comment(line string) {
	i := strings.Index(line, "#")
	if i < 0 || strings.TrimSpace(line[:i]) != "" && !strings.Contains(line[i:], "# via") {
		v.on = false
		return
	}
	text := strings.TrimSpace(line[i+1:])
	inline := strings.TrimSpace(line[:i]) != ""
	switch {
	case text == "via" || strings.HasPrefix(text, "via "):
		v.on, text = true, strings.TrimSpace(strings.TrimPrefix(text, "via"))
	case !v.on:
		return
	}
	if inline { // it stands before its own requirement is taken
		v.pending(text)
		return
	}
	v.say(len(v.rows)-1, text)
}

// inlineRemark is the remark of the requirement on the same line.
const inlineRemark = -2

func (v *via) pending(text string) { v.say(inlineRemark, text) }

func (v *via) say(i int, text string) {
	if i == -1 {
		return
	}
	if v.said == nil {
		v.said, v.direct = map[int]bool{}, map[int]bool{}
	}
	v.said[i] = true
	for _, who := range strings.Split(text, ",") {
		who = strings.TrimSpace(who)
		if strings.HasPrefix(who, "-r ") || strings.HasSuffix(who, ".toml)") || strings.HasSuffix(who, ".cfg)") || strings.HasSuffix(who, ".py)") || strings.HasSuffix(who, ":dev)") {
			v.direct[i] = true
		}
	}
}

// of says which requirement was read; nil: one that is left out.
func (v *via) of(x *row) {
	v.rows = append(v.rows, x)
	if v.said[inlineRemark] {
		i := len(v.rows) - 1
		v.said[i], v.direct[i] = true, v.direct[inlineRemark]
		delete(v.said, inlineRemark)
		delete(v.direct, inlineRemark)
	}
}

// conclude tells whether the remarks tell direct requirements from others, and
// marks them.
func (v *via) conclude(rows []row) bool {
	if len(v.direct) == 0 || len(v.said) < len(v.rows) {
		return false
	}
	n := 0
	for i, x := range v.rows {
		if x != nil {
			rows[n].Direct = v.direct[i]
			n++
		}
	}
	return n == len(rows)
}
