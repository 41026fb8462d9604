package pypi

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"

	"hallmark/internal/record"
)

// symptom is one sign in a log of what a build lacked. The first group is the
// name of what is missing, unless name is given.
type symptom struct {
	re    *regexp.Regexp
	class record.FailureClass
	name  string
	what  string // "the program", "the header", …
}

// symptoms are tried in order; each is a message of a tool in wide use, not of
// one package.
var symptoms = []symptom{
	{regexp.MustCompile(`(?i)\bRust (?:toolchain |compiler )?not found`), record.FailMissingTool, "rustc", "the Rust compiler"},
	{regexp.MustCompile(`(?i)can't find Rust compiler|Failed to find Rust|is Rust (?:compiler )?installed`), record.FailMissingTool, "rustc", "the Rust compiler"},
	{regexp.MustCompile(`(?i)Cargo, the Rust package manager, is not installed`), record.FailMissingTool, "cargo", "Rust's package manager"},
	{regexp.MustCompile(`(?:FileNotFoundError|OSError).*No such file or directory: '([A-Za-z0-9_.+-]{1,60})'`), record.FailMissingTool, "", "the program"},
	{regexp.MustCompile(`error: command '([^']{1,100})' failed: (?:No such file|not found)`), record.FailMissingTool, "", "the program"},
	{regexp.MustCompile(`(?:^|[\s:/])(?:sh|bash|dash|env|make): (?:\d+: |line \d+: )?'?([A-Za-z0-9_.+-]{1,60})'?: (?:command )?not found`), record.FailMissingTool, "", "the program"},
	{regexp.MustCompile(`env: '([A-Za-z0-9_.+-]{1,60})': No such file or directory`), record.FailMissingTool, "", "the program"},
	{regexp.MustCompile(`make(?:\[\d+\])?: ([A-Za-z0-9_.+-]{1,60}): No such file or directory`), record.FailMissingTool, "", "the program"},
	{regexp.MustCompile(`([A-Za-z0-9_-]{1,40}[_-]config) (?:executable )?(?:is )?(?:required|not found)`), record.FailMissingTool, "", "the program"},
	{regexp.MustCompile(`fatal error: ([^\s:]{1,120}): No such file or directory`), record.FailMissingLib, "", "the header"},
	{regexp.MustCompile(`cannot find -l([A-Za-z0-9_.+-]{1,60})`), record.FailMissingLib, "", "the library"},
	{regexp.MustCompile(`No package '([^']{1,60})' found|Package '?([A-Za-z0-9_.+-]{1,60})'?,? (?:required by .* )?(?:was )?not found`), record.FailMissingLib, "", "the library"},
	{regexp.MustCompile(`Dependency "?([A-Za-z0-9_.+-]{1,60})"? not found`), record.FailMissingLib, "", "the library"},
	{regexp.MustCompile(`ModuleNotFoundError: No module named '([A-Za-z0-9_.]{1,100})'`), record.FailBuild, "", "the Python module"},
}

// telling are words that make a line of a log worth showing.
var telling = regexp.MustCompile(`(?i)error|fatal|not found|no such file|failed|cannot|can't|denied|missing|required|undefined|exception|killed|out of memory`)

// maxDiagnosed is how much of a log's end is read for symptoms, in bytes.
const maxDiagnosed = 512 << 10

// Diagnose reads a failed build's log and says why it failed, for people. exit
// is the command's exit code. What it says is a reading of the build's own
// words: it is shown, never believed.
func Diagnose(log []byte, exit int) *record.Failure {
	if len(log) > maxDiagnosed {
		log = log[len(log)-maxDiagnosed:]
	}
	var lines []string
	for _, l := range bytes.Split(log, []byte("\n")) {
		if s := printable(string(l)); s != "" {
			lines = append(lines, s)
		}
	}
	f := &record.Failure{Class: record.FailBuild, Log: tellingLines(lines)}
	for _, s := range symptoms {
		for i := len(lines) - 1; i >= 0; i-- {
			m := s.re.FindStringSubmatch(lines[i])
			if m == nil {
				continue
			}
			f.Class, f.Missing = s.class, s.name
			for _, g := range m[1:] {
				if f.Missing == "" {
					f.Missing = g
				}
			}
			switch {
			case s.class == record.FailBuild:
				f.Message = fmt.Sprintf("The build needs %s %s, which none of its declared requirements gives.", s.what, f.Missing)
				f.Advice = "Its source should name it in build-system.requires."
			case s.name != "":
				f.Message = fmt.Sprintf("The build needs %s (%s), which the build environment lacks.", s.what, f.Missing)
			default:
				f.Message = fmt.Sprintf("The build needs %s %s, which the build environment lacks.", s.what, f.Missing)
			}
			if f.Advice == "" {
				f.Advice = "The seed does not have it; another version of the package may do without it."
			}
			return f
		}
	}
	last := "it said nothing"
	for i := len(lines) - 1; i >= 0; i-- {
		if telling.MatchString(lines[i]) {
			last = lines[i]
			break
		}
	}
	if last == "it said nothing" && len(lines) > 0 {
		last = lines[len(lines)-1]
	}
	f.Message = fmt.Sprintf("The build ended with exit code %d: %s.", exit, strings.TrimRight(clip(last, 240), ". "))
	f.Advice = "Read the whole log; it is stored with the build."
	return f
}

// tellingLines picks at most 20 lines: the last ones, and before them those
// that name an error.
func tellingLines(lines []string) []string {
	const most, tail = 20, 8
	if len(lines) <= most {
		return clipAll(lines)
	}
	end := lines[len(lines)-tail:]
	var picked []string
	for i := len(lines) - tail - 1; i >= 0 && len(picked) < most-tail; i-- {
		if telling.MatchString(lines[i]) {
			picked = append([]string{lines[i]}, picked...)
		}
	}
	return clipAll(append(picked, end...))
}

func clipAll(in []string) []string {
	out := make([]string, len(in))
	for i, s := range in {
		out[i] = clip(s, 400)
	}
	return out
}

func clip(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n]) + "…"
	}
	return s
}

// printable drops control characters and escape sequences, so that a log cannot
// draw on somebody's terminal.
func printable(s string) string {
	s = ansi.ReplaceAllString(strings.ToValidUTF8(s, "\uFFFD"), "")
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case r < 0x20 || r == 0x7f || (r >= 0x80 && r < 0xa0) || (r >= 0x202a && r <= 0x202e) || (r >= 0x2066 && r <= 0x2069):
			return -1
		}
		return r
	}, s)
	return strings.TrimRight(s, " ")
}

var ansi = regexp.MustCompile("\x1b(?:\\[[0-9;?]*[A-Za-z]|\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?|.)")
