package pypi

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"hallmark/internal/record"
)

// Limits of what is read of a log.
const (
	maxDiagnosed = 512 << 10 // bytes of its end
	maxLine      = 4 << 10   // bytes of one line
	maxTried     = 5000      // lines, from the end, that carry a sign of an error
)

// Diagnose reads a failed build's log and says why it failed, for people: what
// is missing by name, where that can be told, and the lines that show it. exit is
// the command's exit code. What it says is a reading of the build's own words: it
// is shown, never believed.
//
// The strongest sign that stands last in the log is taken: what comes before may
// have been a harmless trial, and what comes after the cause are consequences.
func Diagnose(log []byte, exit int) *record.Failure {
	lines := logLines(log)
	x, found := cause(lines)
	var f *record.Failure
	if found {
		f = explain(x, lines, exit)
	} else {
		x.at = lastTelling(lines)
		f = &record.Failure{Class: record.FailBuild, Message: fmt.Sprintf("The build ended with exit code %d: it said nothing.", exit), Advice: adviceLog}
		if e := lastException(lines); e >= 0 && !consequence().MatchString(lines[e]) {
			x.at = e
		}
		if x.at >= 0 {
			f.Message = fmt.Sprintf("The build ended with exit code %d: %s", exit, sentence(x, lines))
		}
	}
	f.Log = shownLines(lines, x.at)
	return f
}

// logLines gives the lines of a log's end that say anything, fit to be shown.
func logLines(log []byte) []string {
	if len(log) > maxDiagnosed {
		log = log[len(log)-maxDiagnosed:]
		if i := bytes.IndexByte(log, '\n'); i >= 0 && i < maxLine {
			log = log[i+1:] // the first line is not whole
		}
	}
	var lines []string
	for _, l := range bytes.Split(log, []byte("\n")) {
		// A line that was drawn over and over, such as a bar, is as it was last.
		l = bytes.TrimRight(l, "\r")
		if i := bytes.LastIndexByte(l, '\r'); i >= 0 {
			l = l[i+1:]
		}
		if s := printable(string(l[:min(len(l), maxLine)])); s != "" {
			lines = append(lines, s)
		}
	}
	return lines
}

// consequence are the words of a program whose child failed: they say that, not
// why.
var consequence = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)command '?.{0,200} failed with exit|CalledProcessError|returned non-zero exit|(?:Compile|Link|DistutilsExec|DistutilsPlatform|BackendUnavailable|BuildFailed?)Error\b|FailedBuild|build failed|make(?:\[\d+\])?: \*\*\* |ninja: build stopped|^error: subprocess`)
})

// exception is the last line of a Python traceback: the exception's name and
// what it says.
var exception = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(?:[A-Za-z_][A-Za-z0-9_.]{0,100}(?:Error|Exception|Exit|Interrupt|Failure|NotFound|Missing)[A-Za-z0-9_]{0,40}|Exception)(?::|$)`)
})

// mistake is an exception that Python's own code made, not one that says that a
// program failed.
var mistake = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(?:ModuleNotFound|Import|Attribute|Name|Type|Value|Syntax|Indentation|Key|Index|Unicode[A-Za-z]*|Assertion|NotImplemented|Recursion|Lookup|ZeroDivision)Error\b`)
})

// cause finds the line that says why the build failed.
func cause(lines []string) (finding, bool) {
	last := lastException(lines)
	var strong, weak, excepted *finding
	tried := 0
	for i := len(lines) - 1; i >= 0 && strong == nil && tried < maxTried; i-- {
		if !signed(lines[i]) {
			continue
		}
		tried++
		x, ok := look(lines[i])
		if !ok {
			continue
		}
		x.at = i
		if x.kind == lacksProgram && strings.HasPrefix(lines[i], "FileNotFoundError") && openedFile(lines, i) {
			x.kind = lacksFile
		}
		switch {
		case !x.weak:
			strong = &x
		case i == last && excepted == nil:
			excepted = &x
		case weak == nil:
			weak = &x
		}
	}
	if strong != nil && (strong.kind == compileError || strong.kind == cmakeError) {
		strong = firstOfSeries(lines, strong)
	}
	if strong != nil && strong.kind == lacksPkgconfig {
		alternatives(lines, strong)
	}
	switch {
	case excepted != nil && (strong == nil || !followed(lines, strong.at)):
		return *excepted, true
	case strong != nil && last > strong.at && mistake().MatchString(lines[last]) && !followed(lines, strong.at):
		// A trial that failed, and later a mistake of the program's own.
		return finding{at: -1}, false
	case strong != nil:
		return *strong, true
	case weak != nil && (last < 0 || !mistake().MatchString(lines[last])):
		return *weak, true
	}
	return finding{at: -1}, false
}

// followed tells whether something behind line i says that a program failed.
func followed(lines []string, i int) bool {
	for _, l := range lines[i+1:] {
		if consequence().MatchString(l) {
			return true
		}
	}
	return false
}

// firstOfSeries goes back from an error of the compiler or of CMake to the first
// one of the same run: the ones that follow are often its consequences.
func firstOfSeries(lines []string, x *finding) *finding {
	best := x
	for i := x.at - 1; i >= 0 && i >= best.at-60; i-- {
		if isCommand(lines[i]) {
			break
		}
		y, ok := look(lines[i])
		if !ok || y.weak || x.kind == compileError && y.kind != compileError && y.kind != lacksHeader {
			continue
		}
		// A "CMake Error" whose text says what is missing is that.
		if y.kind == cmakeError && best.kind != cmakeError && best.at-i <= 2 {
			continue
		}
		y.at = i
		best = &y
	}
	return best
}

// openedFile tells whether an exception about a missing file is about one that
// Python's code wanted to open, not about a program that it wanted to run.
func openedFile(lines []string, i int) bool {
	frames := 0
	for j := i - 1; j >= 0 && j >= i-8; j-- {
		if strings.Contains(lines[j], "_execute_child") || strings.Contains(lines[j], "subprocess") || strings.Contains(lines[j], "posix_spawn") {
			return false
		}
		if frame().MatchString(lines[j]) {
			frames++
		}
	}
	return frames > 0
}

// alternatives gathers the other names that a script asked pkg-config for just
// before the last: any of them would have done, and the first is what it wants
// most.
func alternatives(lines []string, x *finding) {
	for i := x.at - 1; i >= 0 && i >= x.at-12; i-- {
		if y, ok := look(lines[i]); ok && y.kind == lacksPkgconfig && !y.weak && y.what != x.what {
			x.others = append([]string{x.what}, x.others...)
			x.what = y.what
		}
	}
}

// lastException gives the line of the last exception that Python showed, -1 if
// there is none.
func lastException(lines []string) int {
	for i := len(lines) - 1; i >= 0; i-- {
		if exception().MatchString(lines[i]) {
			return i
		}
	}
	return -1
}

// lastTelling gives the last line that names an error, else the last line.
func lastTelling(lines []string) int {
	for _, strict := range []bool{true, false} {
		for i := len(lines) - 1; i >= 0; i-- {
			if telling().MatchString(lines[i]) && !noise(lines[i]) && (!strict || !consequence().MatchString(lines[i])) {
				return i
			}
		}
	}
	return len(lines) - 1
}
