package system

import (
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strings"

	"hallmark/internal/digest"
	"hallmark/internal/plan"
)

// Places in a build's root.
const (
	sourcePath = "/build/src"
	destPath   = "/build/dest" // what is installed; DESTDIR
	outputPath = "/out"
	driverPath = "/usr/lib/hallmark/recipe.sh"
	phasePath  = "/usr/lib/hallmark/recipe" // a file for each phase
	listPath   = "usr/share/hallmark/files" // in a layer: what it installs, a file for each package
)

// libDir is where libraries are, below /usr: as in the seed, so that what recipes
// make lies over what the seed has of the same name.
const libDir = "lib/x86_64-linux-gnu"

// driver runs the phases of a step and packs what they installed.
//
//go:embed driver.sh
var driver []byte

// DriverDigest names the driver; it is part of each step.
var DriverDigest = digest.FromBytes(driver)

// tunable are the declared variables that a recipe may set otherwise.
var tunable = []string{"CFLAGS", "CXXFLAGS", "LDFLAGS"}

// Variables are declared and fixed in every build of a recipe. The flags are those
// that distributions harden their libraries with.
func Variables(epoch int64) map[string]string {
	const flags = "-O2 -pipe -fstack-protector-strong -fstack-clash-protection -fcf-protection -ffile-prefix-map=" + sourcePath + "=."
	return map[string]string{
		"PATH":                    "/usr/bin:/bin",
		"HOME":                    "/build",
		"TMPDIR":                  "/tmp",
		"LANG":                    "C.UTF-8",
		"LC_ALL":                  "C.UTF-8",
		"TZ":                      "UTC",
		"SOURCE_DATE_EPOCH":       fmt.Sprint(epoch),
		"PYTHONHASHSEED":          "0",
		"PYTHONDONTWRITEBYTECODE": "1",
		"PERL_HASH_SEED":          "0",
		"CFLAGS":                  flags,
		"CXXFLAGS":                flags,
		"LDFLAGS":                 "-Wl,-z,relro,-z,now",
		"DEST":                    destPath,
	}
}

// systems gives the phases of each build system.
var systems = map[string]func(Build) Phases{
	"autotools": func(b Build) Phases {
		return Phases{
			Configure: "./configure --prefix=/usr --libdir=/usr/" + libDir + " --sysconfdir=/etc --localstatedir=/var --mandir=/usr/share/man" +
				" --infodir=/usr/share/info --disable-dependency-tracking --disable-static --enable-shared" + words(b.Options),
			Build: "make" + words(b.Make), Check: "make check" + words(b.Make), Install: `make install DESTDIR="$DEST"` + words(b.Make),
		}
	},
	"configure": func(b Build) Phases {
		return Phases{
			Configure: "./configure --prefix=/usr --libdir=/usr/" + libDir + words(b.Options),
			Build:     "make" + words(b.Make), Check: "make check" + words(b.Make), Install: `make install DESTDIR="$DEST"` + words(b.Make),
		}
	},
	"cmake": func(b Build) Phases {
		return Phases{
			Configure: "cmake -S . -B /build/obj -G Ninja -DCMAKE_INSTALL_PREFIX=/usr -DCMAKE_INSTALL_LIBDIR=" + libDir + " -DCMAKE_BUILD_TYPE=None" +
				" -DCMAKE_SKIP_INSTALL_RPATH=ON -DBUILD_SHARED_LIBS=ON" + words(b.Options),
			Build: "cmake --build /build/obj", Check: "ctest --test-dir /build/obj --output-on-failure", Install: `DESTDIR="$DEST" cmake --install /build/obj`,
		}
	},
	"make": func(b Build) Phases {
		return Phases{Build: "make" + words(b.Make), Check: "make check" + words(b.Make),
			Install: `make install DESTDIR="$DEST" PREFIX=/usr prefix=/usr LIBDIR=/usr/` + libDir + words(b.Make)}
	},
	"none": func(Build) Phases { return Phases{} },
}

func systemNames() []string { return slices.Sorted(maps.Keys(systems)) }

// words writes arguments as a shell reads them, each with a space before it.
func words(list []string) string {
	var s strings.Builder
	for _, w := range list {
		s.WriteString(" " + quoted(w))
	}
	return s.String()
}

func quoted(w string) string { return "'" + strings.ReplaceAll(w, "'", `'\''`) + "'" }

// phases gives what a recipe's first step runs: the build system's phases, those of
// the recipe's own words in their place.
func (r *Recipe) phases() []plan.Phase {
	all := systems[r.Build.System](r.Build)
	if r.Check.Skip != "" {
		all.Check = ""
	}
	own := map[string]string{}
	for _, p := range r.Phases.list() {
		own[p.Name] = p.Run
	}
	pick := func(name, usual string) string {
		if s, ok := own[name]; ok {
			return s
		}
		return usual
	}
	all = Phases{Prepare: own["prepare"], Configure: pick("configure", all.Configure), Build: pick("build", all.Build),
		Check: pick("check", all.Check), Install: pick("install", all.Install), Finish: own["finish"]}
	out := all.list()
	for i := range out {
		out[i].Run = strings.TrimRight(out[i].Run, "\n") + "\n"
		if r.Build.Dir != "" {
			out[i].Run = "cd " + quoted(r.Build.Dir) + "\n" + out[i].Run
		}
	}
	return out
}

// Of what is installed a runtime has none of these, as patterns of the shell's case,
// in which * stands for slashes too.
var leftOut = []string{
	"usr/include/*", "*.a", "*.o", "*.la", "usr/" + libDir + "/pkgconfig/*", "usr/share/pkgconfig/*", "usr/lib/cmake/*", "usr/" + libDir + "/cmake/*", "usr/share/aclocal/*",
	"usr/share/man/*", "usr/man/*", "usr/share/info/*", "usr/share/doc/*", "usr/share/locale/*", listPath + "/*",
}

// splitPhases gives what a recipe's second step runs: it takes from the first one's
// layer, which lies in its root, what a runtime has, and from the source its licence.
func (r *Recipe) splitPhases() []plan.Phase {
	either := func(list []string) string {
		var all []string
		for _, p := range list {
			all = append(all, p)
			if !strings.HasSuffix(p, "*") {
				all = append(all, p+"/*")
			}
		}
		return strings.Join(all, "|")
	}
	var s strings.Builder
	s.WriteString("while IFS= read -r p; do\n  case $p in\n")
	if len(r.Split.Keep) > 0 {
		fmt.Fprintf(&s, "  %s) ;;\n", either(r.Split.Keep))
	}
	fmt.Fprintf(&s, "  %s) continue ;;\n", either(append(slices.Clone(leftOut), r.Split.Drop...)))
	s.WriteString("  usr/" + libDir + "/lib*.so) [ ! -h \"/$p\" ] || continue ;; # a link for the linker\n  esac\n  printf '%s\\n' \"$p\"\n")
	fmt.Fprintf(&s, "done </%s/%s >/build/list\n", listPath, r.Name)
	s.WriteString("mkdir -p \"$DEST\"\ntar -C / --no-recursion --files-from=/build/list -cf - | tar -C \"$DEST\" -xf -\n")
	licence := fmt.Sprintf(`mkdir -p "$DEST/usr/share/licenses/%[1]s"
find . -maxdepth 1 -type f \( -iname 'copying*' -o -iname 'licen[cs]e*' -o -iname 'notice*' -o -iname 'copyright*' \) -exec cp {} "$DEST/usr/share/licenses/%[1]s/" \;
`, r.Name)
	return []plan.Phase{{Name: "split", Run: s.String()}, {Name: "licence", Run: licence}, {Name: "needs", Run: fmt.Sprintf(needsPhase, quoted(r.Name))}}
}

// needsPhase holds what a runtime has of a recipe against what the recipe says that it
// runs with: the layers of these lie in the root, each with the list of its files. What
// a loader asks for by name must be among those files or its own. As long as no C
// library is among them, the C library's and GCC's are the platform's.
//
//go:embed needs.sh
var needsPhase string
