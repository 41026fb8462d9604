package pypi

import (
	"regexp"
	"slices"
	"strings"
	"sync"

	"hallmark/internal/record"
)

// kind is what a line of a log says is missing or wrong.
type kind int

// The kinds. Those from compileError on name nothing that is missing.
const (
	lacksProgram   kind = iota // a program
	lacksHeader                // a header, as it is included
	lacksLinked                // a library behind -l or by its file's name
	lacksPkgconfig             // a name of pkg-config's
	lacksNamed                 // a library as CMake, Meson or a message calls it
	lacksModule                // a Python module
	lacksFile                  // a file of its own source
	lacksClone                 // what it would fetch with a version control program
	compileError
	linkError
	configureError
	cmakeError
	mesonError
	rustError
	outMemory
	outDisk
	outProcesses
)

// symptom is one sign in a log of why a build failed: a message of a tool in
// wide use, never of one package. The first group that matched is the name of
// what is missing, unless name is given.
type symptom struct {
	kind kind
	// weak: the message stands in logs of builds that go well too, as when a
	// script looks for several programs. It explains a failure only if nothing
	// else does, or if it is what the last exception says.
	weak bool
	name string
	re   *regexp.Regexp
	// except are names that the same message names and that are something else.
	except *regexp.Regexp
}

// makefiles are what make looks for, not what it runs.
var makefiles = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?i)makefile|\.(?:mk|make|d|o|a|c|h)$`) })

const (
	logWord   = `[A-Za-z0-9_.+-]{1,60}`
	logQuoted = `['"‘“` + "`" + `]`
	logClosed = `['"’”]`
)

// symptoms are tried in order on each line. What is strong stands first. They are
// compiled when the first log is read: most commands, and the process in front of
// every build, read none.
var symptoms = sync.OnceValue(func() []symptom {
	return []symptom{
		// Compilers and linkers (gcc, clang, ld, gold).
		{kind: lacksHeader, re: regexp.MustCompile(`fatal error: ['"<]?([^\s:'">]{1,120})['">]?(?: file not found|: No such file or directory)`)},
		{kind: lacksLinked, re: regexp.MustCompile(`(?:cannot find|unable to find library) -l(` + logWord + `)`)},
		{kind: lacksLinked, re: regexp.MustCompile(`\b(lib[A-Za-z0-9_+-]{1,60})\.so[0-9.]*: cannot open shared object file`)},
		{kind: outMemory, re: regexp.MustCompile(`Killed signal terminated program|virtual memory exhausted|std::bad_alloc|^MemoryError|[Cc]annot allocate memory`)},
		{kind: outDisk, re: regexp.MustCompile(`No space left on device`)},
		{kind: outProcesses, re: regexp.MustCompile(`[Cc]an(?:'t|not) (?:fork|start new thread)|fork: .*Resource temporarily unavailable`)},
		{kind: linkError, re: regexp.MustCompile(`undefined reference to ` + logQuoted + `([^'’"]{1,200})`)},

		// Rust (setuptools-rust, maturin, cargo).
		{kind: lacksProgram, name: "rustc", re: regexp.MustCompile(`(?i)\bRust (?:toolchain |compiler )?(?:was )?not found|can't find Rust compiler|Failed to find Rust|is Rust (?:compiler )?installed|requires? (?:the )?Rust (?:compiler|toolchain)`)},
		{kind: lacksProgram, name: "cargo", re: regexp.MustCompile(`(?i)Cargo, the Rust package manager, is not installed|Unable to find (?:maturin|cargo) `)},
		{kind: rustError, re: regexp.MustCompile(`^error(?:\[E[0-9]{4}\])?: (?:could not compile|failed to (?:download|get|run|parse|select)|no matching package|linker |package .* (?:cannot be built|requires rustc))`)},

		// Fortran (Meson, numpy.distutils, CMake).
		{kind: lacksProgram, name: "gfortran", re: regexp.MustCompile(`Unknown compiler\(s\): \[.*(?:gfortran|flang)|No (?:CMAKE_)?Fortran(?:_COMPILER)? (?:compiler )?(?:could be |was )?found|(?i:fortran compiler) (?:was |is )?(?:not found|required|missing)|Fortran compiler cannot`)},

		// Meson (its own messages: "FILE:LINE:COLUMN: ERROR: …").
		{kind: lacksPkgconfig, re: regexp.MustCompile(`ERROR: [Dd]ependency "(` + logWord + `)"(?: \([^)]*\))? (?:is required|not found)`)},
		{kind: lacksPkgconfig, re: regexp.MustCompile(`ERROR: Dependency lookup for (` + logWord + `) with method`)},
		{kind: lacksProgram, re: regexp.MustCompile(`ERROR: Program ['"](` + logWord + `)(?: [^'"]*)?['"] not found`)},
		{kind: lacksLinked, re: regexp.MustCompile(`ERROR: (?:C|C\+\+|Fortran) shared or static library '(` + logWord + `)' not found`)},
		{kind: lacksHeader, re: regexp.MustCompile(`ERROR: (?:C|C\+\+) header '([^\s']{1,120})' not found`)},
		{kind: lacksProgram, re: regexp.MustCompile(`ERROR: Unknown compiler\(s\): \[\[?'(` + logWord + `)'`)},
		{kind: mesonError, re: regexp.MustCompile(`^(?:\S{1,200}:[0-9]+:[0-9]+: )ERROR: (.{1,300})`)},

		// CMake.
		{kind: lacksClone, re: regexp.MustCompile(`could not find (git|hg|svn|cvs) for (?:clone|checkout) of (` + logWord + `)`)},
		{kind: lacksNamed, re: regexp.MustCompile(`^\s*(?:CMake Error.{0,200}: *)?Could NOT find (` + logWord + `)`)},
		{kind: lacksNamed, re: regexp.MustCompile(`[Cc]ould not find a (?:package configuration file|configuration file for package) (?:provided by )?"(` + logWord + `)"`)},
		{kind: lacksProgram, re: regexp.MustCompile(`CMake was unable to find a build program corresponding to "(?:Unix )?(` + logWord + `)`)},
		{kind: lacksProgram, re: regexp.MustCompile(`No CMAKE_(CUDA|Fortran|Swift|Java)_COMPILER could be found`)},
		{kind: cmakeError, re: regexp.MustCompile(`^CMake Error(?: at (\S{1,200}:[0-9]+))?`)},

		// pkg-config and configure scripts.
		{kind: lacksPkgconfig, re: regexp.MustCompile(`pkg-config (?:--[a-z][a-z-]*(?:=\S+)? )+(` + logWord + `)` + logClosed + `? (?:returned non-zero|failed)`)},
		{kind: lacksPkgconfig, re: regexp.MustCompile(`configure: error: Package requirements \(([A-Za-z0-9_.+-]{1,60})`)},
		{kind: lacksNamed, re: regexp.MustCompile(`configure: error: (?:\**\s?)(` + logWord + `) (?:library |headers? |development files |is )*(?:not found|missing|required)`)},
		{kind: configureError, re: regexp.MustCompile(`configure: error: (.{1,300})`)},

		// What setup scripts say when they miss something.
		{kind: lacksProgram, re: regexp.MustCompile(`(` + logWord + `) executable (?:is )?(?:required|not found|missing)`)},
		{kind: lacksProgram, re: regexp.MustCompile(`\b([A-Za-z0-9_]{1,40}[_-]config)['"]?(?: executable)?(?: is)? (?:required|not found|missing|failed to run)`)},
		{kind: lacksProgram, re: regexp.MustCompile(`[Cc](?:ould not|an(?:'t|not)) (?:run|find|execute|locate) (?:the )?(?:program |executable )?['"]?([A-Za-z0-9_]{1,40}[_-]config)\b`)},
		{kind: lacksProgram, re: regexp.MustCompile(`error: command '([^']{1,100})' failed: (?:No such file|not found)`)},
		{kind: lacksNamed, re: regexp.MustCompile(`[Hh]eaders? or library files could not be found for (` + logWord + `)`)},
		{kind: lacksNamed, re: regexp.MustCompile(`(?:ensure|make sure|check) (?:that )?(?:the )?(` + logWord + `)(?: and (` + logWord + `))? (?:development |devel )?(?:packages?|headers?|libraries|library|files)(?: (?:is|are))? (?:installed|available)`)},
		{kind: lacksNamed, re: regexp.MustCompile(`(?i)unable to (?:find|load|locate) (?:the )?(?:dependency |library )?(HDF5|lib[a-z0-9_+-]{2,40}\b)`)},
		{kind: compileError, re: regexp.MustCompile(`^([^\s:]{1,300}):([0-9]+):(?:[0-9]+:)? (?:fatal )?error: (.{1,300})`)},

		// Messages that also stand in the logs of builds that go well.
		{kind: lacksProgram, weak: true, re: regexp.MustCompile(`(?:FileNotFoundError|OSError).*No such file or directory: '([A-Za-z0-9_.+-]{1,60})'`)},
		{kind: lacksProgram, weak: true, re: regexp.MustCompile(`(?:^|[\s:/])(?:sh|bash|dash|env|make): (?:\d+: |line \d+: )?'?(` + logWord + `)'?: (?:command )?not found`)},
		{kind: lacksProgram, weak: true, re: regexp.MustCompile(`^\s*[^\s:]{1,200}: (?:line )?[0-9]{1,6}: (` + logWord + `): (?:command )?not found`)},
		{kind: lacksProgram, weak: true, re: regexp.MustCompile(`env: ['‘](` + logWord + `)['’]: No such file or directory`)},
		{kind: lacksProgram, weak: true, re: regexp.MustCompile(`make(?:\[\d+\])?: (` + logWord + `): No such file or directory`), except: makefiles()},
		{kind: lacksPkgconfig, weak: true, re: regexp.MustCompile(`No package '([^']{1,60})' found|Package '?(` + logWord + `)'?,? (?:required by .{0,100} )?(?:was )?not found`)},
		{kind: lacksNamed, weak: true, re: regexp.MustCompile(`Dependency "?(` + logWord + `)"? (?:found: NO|not found)`)},
		{kind: lacksNamed, weak: true, re: regexp.MustCompile(`-- Could NOT find (` + logWord + `)`)},
		{kind: lacksNamed, weak: true, re: regexp.MustCompile(`\b(lib[a-z0-9_+-]{2,40}|` + logWord + ` (?:library|headers)) (?:was |were |is |are )?not found(?:[., ]|$)`)},
		{kind: lacksModule, weak: true, re: regexp.MustCompile(`ModuleNotFoundError: No module named '([A-Za-z0-9_.]{1,100})'`)},
	}
})

// finding is a symptom in a line.
type finding struct {
	symptom
	at   int    // the line
	what string // the name of what is missing, or the first words of the error
	m    []string
	// others are further names, any of which would have done.
	others []string
}

// signs are parts of words of which each symptom's message has one: a line
// without any need not be tried.
var signs = []string{"rror", "ot found", "OT find", "ot find", "o such file", "ust", "argo", "annot", "an't", "nable to", "undefined", "illed", "emory", "bad_alloc",
	"o space", "nknown compiler", "ortran", "pkg-config", "equire", "ake sure", "nsure", "heck", "issing", "ailed", "found for", "found: NO", "ould not", "an not", "n -l", "RROR", "o package"}

func signed(line string) bool {
	return slices.ContainsFunc(signs, func(s string) bool { return strings.Contains(line, s) })
}

// look tries the symptoms on one line.
func look(line string) (finding, bool) {
	if !signed(line) {
		return finding{}, false
	}
	for _, s := range symptoms() {
		m := s.re.FindStringSubmatch(line)
		if m == nil || s.except != nil && s.except.MatchString(m[1]) {
			continue
		}
		f := finding{symptom: s, what: s.name, m: m}
		for _, g := range m[1:] {
			if f.what == "" {
				f.what = strings.TrimRight(g, ".,;:")
			}
		}
		return f, true
	}
	return finding{}, false
}

// Sentences. What a seed lacks can be had by other ways only.
const (
	lacks         = ", which the build environment lacks."
	adviceProgram = "The seed does not have it. Where it comes as a Python package, an override can add it to the build's tools; else another version of the package may do without it."
	adviceLibrary = "No third-party library is in the build environment. Look for a setting of the package that leaves it out, which an override can give, or for a version that brings its source along."
	adviceModule  = "Its source should name it in build-system.requires; an override can add it to the build's tools."
	adviceLog     = "Read the whole log: hallmark export log."
)

// explain puts a finding into words.
func explain(x finding, lines []string, exit int) *record.Failure {
	f := &record.Failure{Class: record.FailBuild, Advice: adviceLog}
	missing := func(class record.FailureClass, advice, thing, more string) {
		f.Class, f.Missing, f.Advice = class, x.what, advice
		f.Message = "The build needs " + thing + " " + x.what + more + lacks
	}
	switch x.kind {
	case lacksProgram:
		if x.what == "Fortran" {
			x.what = "gfortran"
		}
		var of string
		if l := systemLibraries.program[x.what]; l != nil {
			of = "of " + l.Name
			missing(record.FailMissingTool, adviceLibrary, "the program", describe(of, pkgConfigOf(l)))
			break
		}
		missing(record.FailMissingTool, adviceProgram, "the program", describe(systemLibraries.kinds[x.what]))
	case lacksHeader:
		l := systemLibraries.ofHeader(x.what)
		switch {
		case strings.HasPrefix(x.what, "numpy/"):
			f.Missing = "numpy"
			f.Message = "The build needs NumPy's header " + x.what + ", but none of its declared requirements gives it."
			f.Advice = adviceModule
		case x.what == "longintrepr.h":
			f.Missing = x.what
			f.Message = "The build needs the header longintrepr.h of Python before 3.11: its C code was written or generated for an older Python."
			f.Advice = "A newer version of the package, or one whose C code is generated anew, may do."
		case l != nil:
			missing(record.FailMissingLib, adviceLibrary, "the header", describe("library "+l.Name, pkgConfigOf(l)))
		default:
			missing(record.FailMissingLib, adviceLibrary, "the header", "")
		}
	case lacksLinked, lacksPkgconfig, lacksNamed:
		x.what = strings.TrimSuffix(strings.TrimSuffix(x.what, " library"), " headers")
		l := systemLibraries.ofName(x.what)
		if x.kind == lacksLinked && systemLibraries.link[strings.TrimPrefix(x.what, "lib")] != nil {
			l = systemLibraries.link[strings.TrimPrefix(x.what, "lib")]
		}
		if x.kind == lacksNamed && strings.HasPrefix(x.what, "Python") {
			// CMake's word for the interpreter, its headers, and NumPy.
			f.Message = "CMake did not find what it needs of Python: " + sentence(x, lines)
			if strings.Contains(strings.Join(lines[x.at:min(x.at+3, len(lines))], " "), "NumPy") {
				f.Missing, f.Advice = "numpy", adviceModule
			}
			break
		}
		if x.kind == lacksNamed && isProgram(x.what) {
			missing(record.FailMissingTool, adviceProgram, "the program", describe(systemLibraries.kinds[x.what]))
			break
		}
		var more []string
		if l != nil && !strings.EqualFold(l.Name, x.what) {
			more = append(more, l.Name)
		}
		switch {
		case x.kind == lacksPkgconfig && (l == nil || systemLibraries.pkgconfig[x.what] == l):
			more = append(more, "pkg-config "+x.what)
		default:
			more = append(more, pkgConfigOf(l))
		}
		if len(x.others) > 0 {
			more = append(more, "or "+strings.Join(x.others[:min(len(x.others), 5)], ", "))
		}
		beside := ""
		if x.kind == lacksNamed && len(x.m) > 2 && x.m[2] != "" {
			beside = " and " + x.m[2]
		}
		missing(record.FailMissingLib, adviceLibrary, "the library", describe(more...)+beside)
	case lacksFile:
		f.Missing = x.what
		f.Message = "The build looks for the file " + x.what + ", which its source does not have."
		f.Advice = "The source archive may lack it by mistake: tell its publisher, or pin another version."
	case lacksClone:
		f.Class, f.Missing = record.FailMissingTool, x.m[1]
		f.Message = "The build wants to fetch " + strings.TrimSuffix(x.m[2], "-populate") + " with the program " + x.m[1] + ", which the build environment lacks, and a build has no network."
		f.Advice = "What it fetches must be inside its source, or a setting must leave it out, which an override can give."
	case lacksModule:
		f.Missing = x.what
		f.Message = "The build needs the Python module " + x.what + ", which none of its declared requirements gives."
		f.Advice = adviceModule
	case outMemory:
		f.Class, f.Message = record.FailMemory, "The build ran out of memory: "+sentence(x, lines)
		f.Advice = "Run it again with fewer builds at a time (-j 1), or on a machine with more memory."
	case outDisk:
		f.Class, f.Message = record.FailDisk, "The build ran out of disk: "+sentence(x, lines)
		f.Advice = "Its root is in memory, within a limit; see docs/design/sandbox.md."
	case outProcesses:
		f.Class, f.Message = record.FailProcesses, "The build could start no more processes: "+sentence(x, lines)
		f.Advice = "Run it again with fewer builds at a time (-j 1)."
	case compileError:
		f.Message = "The compiler refused " + x.m[1] + ", line " + x.m[2] + ": " + clip(strings.TrimRight(x.m[3], ". "), 240) + "."
		if oldPython().MatchString(x.m[3]) {
			f.Advice = "It uses insides of an older Python. A newer version of the package, or one whose C code is generated anew, may do."
		}
	case linkError:
		f.Missing = clip(x.what, 100)
		f.Message = "The linker found nothing that defines " + f.Missing + "."
	case cmakeError:
		f.Message = "CMake gave up" + atPlace(x.what) + ": " + cmakeText(lines, x.at)
	case mesonError:
		f.Message = "Meson gave up: " + clip(strings.TrimRight(x.what, ". "), 300) + "."
	case configureError:
		f.Message = "The configure script gave up: " + clip(strings.TrimRight(x.what, ". "), 300) + "."
	case rustError:
		f.Message = "Rust's cargo gave up: " + clip(strings.TrimRight(strings.TrimPrefix(lines[x.at], "error: "), ". "), 300) + "."
	}
	return f
}

// oldPython are insides of CPython that 3.11 or an earlier release took away.
var oldPython = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`tp_print|PyThreadState|_frame|PyFrameObject|PyCodeObject|PyCode_New|_PyUnicode_|_PyLong_|curexc_|exc_(?:type|value|traceback)|use_tracing|PyUnicode_(?:AS_|GET_SIZE)|co_code|ob_digit`)
})

func isProgram(n string) bool { return systemLibraries.kinds[n] != "" }

func atPlace(place string) string {
	if place == "" {
		return ""
	}
	return " at " + place
}

// sentence is a line as the end of one.
func sentence(x finding, lines []string) string {
	return clip(strings.TrimRight(strings.TrimSpace(lines[x.at]), ". "), 240) + "."
}

// cmakeText gathers the text of a "CMake Error", which stands in the indented
// lines behind it.
func cmakeText(lines []string, i int) string {
	_, first, _ := strings.Cut(lines[i], "): ")
	text := []string{strings.TrimSpace(first)}
	if text[0] == "" && strings.HasPrefix(lines[i], "CMake Error: ") {
		text[0] = strings.TrimPrefix(lines[i], "CMake Error: ")
	}
	for j := i + 1; j < len(lines) && j < i+6 && strings.HasPrefix(lines[j], "  "); j++ {
		text = append(text, strings.TrimSpace(lines[j]))
	}
	s := strings.TrimSpace(strings.Join(text, " "))
	if s == "" {
		s = "it does not say why"
	}
	return clip(strings.TrimRight(s, ". "), 300) + "."
}
