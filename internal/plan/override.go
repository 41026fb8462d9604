package plan

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"hallmark/internal/digest"
)

// Override is what a package's build needs and no rule can know, as data: it
// comes from recipes/TYPE/NAME.yaml, of Hallmark or of the project, and is part
// of the step's id with all that it says. Each change says why.
type Override struct {
	Origin         string    `json:"origin"`                    // OriginShipped or OriginProject
	ConfigSettings []Setting `json:"config_settings,omitempty"` // PEP 517, for every hook
	Environment    []Setting `json:"environment,omitempty"`     // variables beside the declared ones
	Requires       []Setting `json:"requires,omitempty"`        // further build requirements, from the catalog
	Libraries      []Setting `json:"libraries,omitempty"`       // recipes that it links, where a project brings its own interpreter
	Patches        []Patch   `json:"patches,omitempty"`         // laid onto the unpacked source, in this order
}

// PackageOverrides is what is said of one package's versions.
type PackageOverrides struct {
	Name    string            `json:"name" doc:"The package, normalised"`
	Entries []VersionOverride `json:"entries" doc:"The first that fits a version is used"`
}

// VersionOverride is what is said of some versions of a package.
type VersionOverride struct {
	Versions string   `json:"versions,omitempty" doc:"Specifiers, such as >=2,<3; empty: every version"`
	Change   Override `json:"change"`
}

// Says lists in words what is said of which versions.
func (p PackageOverrides) Says() []string {
	var out []string
	for _, e := range p.Entries {
		for _, s := range e.Change.Says() {
			if e.Versions != "" {
				s = e.Versions + ": " + s
			}
			out = append(out, s)
		}
	}
	return out
}

// Where an override comes from.
const (
	OriginShipped = "hallmark"
	OriginProject = "project"
)

// Setting is one thing that an override sets.
type Setting struct {
	Name   string   `json:"name"`             // of the setting or variable; the requirement itself
	Values []string `json:"values,omitempty"` // several only for a config setting that is given several times
	Why    string   `json:"why"`
}

// Patch is a change to a source: a unified diff, with its text, so that whoever
// has the plan can rerun it.
type Patch struct {
	File   string        `json:"file"`
	Digest digest.Digest `json:"digest"` // of the text
	Text   string        `json:"text"`
	Why    string        `json:"why"`
}

// Limits of an override.
const (
	MaxPatch        = 256 << 10 // bytes of one patch
	maxOverrideList = 50        // entries of each kind
	maxOverrideText = 4 << 10   // bytes of each name, value and reason
)

// Check tells what is wrong with an override; nil if nothing.
func (o *Override) Check() error {
	if o.Origin != OriginShipped && o.Origin != OriginProject {
		return fmt.Errorf("origin %.40q: want %s or %s", o.Origin, OriginShipped, OriginProject)
	}
	if len(o.ConfigSettings)+len(o.Environment)+len(o.Requires)+len(o.Libraries)+len(o.Patches) == 0 {
		return fmt.Errorf("it changes nothing")
	}
	for kind, list := range map[string][]Setting{"config setting": o.ConfigSettings, "variable": o.Environment, "build requirement": o.Requires, "library": o.Libraries} {
		if len(list) > maxOverrideList {
			return fmt.Errorf("%d entries of kind %s: at most %d", len(list), kind, maxOverrideList)
		}
		seen := map[string]bool{}
		for _, s := range list {
			if s.Name == "" || seen[s.Name] {
				return fmt.Errorf("%s %.80q: it has no name, or the same as another", kind, s.Name)
			}
			seen[s.Name] = true
			if strings.TrimSpace(s.Why) == "" {
				return fmt.Errorf("%s %.80q does not say why", kind, s.Name)
			}
			for _, t := range append([]string{s.Name, s.Why}, s.Values...) {
				if err := plainText(t); err != nil {
					return fmt.Errorf("%s %.80q: %w", kind, s.Name, err)
				}
			}
		}
	}
	if len(o.Patches) > maxOverrideList {
		return fmt.Errorf("%d patches: at most %d", len(o.Patches), maxOverrideList)
	}
	for _, p := range o.Patches {
		switch {
		case p.File == "" || strings.ContainsAny(p.File, "/\\\x00\n"):
			return fmt.Errorf("patch %.80q: want the plain name of a file", p.File)
		case len(p.Text) > MaxPatch:
			return fmt.Errorf("patch %.80q has %d bytes: at most %d", p.File, len(p.Text), MaxPatch)
		case digest.FromBytes([]byte(p.Text)) != p.Digest:
			return fmt.Errorf("patch %.80q: its text has digest %s, not %s", p.File, digest.FromBytes([]byte(p.Text)).Short(), short(p.Digest))
		case strings.TrimSpace(p.Why) == "":
			return fmt.Errorf("patch %.80q does not say why", p.File)
		case !utf8.ValidString(p.Text):
			return fmt.Errorf("patch %.80q is not UTF-8", p.File)
		}
		if err := plainText(p.Why); err != nil {
			return fmt.Errorf("patch %.80q: %w", p.File, err)
		}
	}
	return nil
}

// Says lists the changes in words, each with its reason.
func (o *Override) Says() []string {
	var out []string
	for _, p := range o.Patches {
		out = append(out, fmt.Sprintf("patch %s: %s", p.File, p.Why))
	}
	for _, s := range o.ConfigSettings {
		out = append(out, fmt.Sprintf("config setting %s: %s", assigned(s), s.Why))
	}
	for _, s := range o.Environment {
		out = append(out, fmt.Sprintf("variable %s: %s", assigned(s), s.Why))
	}
	for _, s := range o.Requires {
		out = append(out, fmt.Sprintf("build requirement %s: %s", s.Name, s.Why))
	}
	for _, s := range o.Libraries {
		out = append(out, fmt.Sprintf("library %s, with a Python of the project's own: %s", s.Name, s.Why))
	}
	return out
}

func assigned(s Setting) string {
	if len(s.Values) == 0 {
		return s.Name
	}
	return s.Name + "=" + strings.Join(s.Values, " ")
}

// plainText refuses what could not be shown or handed to a program as it is.
func plainText(s string) error {
	if len(s) > maxOverrideText {
		return fmt.Errorf("a text of %d bytes: at most %d", len(s), maxOverrideText)
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("a text that is not UTF-8")
	}
	for _, r := range s {
		if r < ' ' || r == 0x7f {
			return fmt.Errorf("a text with the control character %U", r)
		}
	}
	return nil
}
