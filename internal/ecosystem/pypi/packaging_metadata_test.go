package pypi

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// randomMetadata makes a METADATA file: mostly well formed, with the headers in
// any order, in any case, folded, doubled or missing.
func randomMetadata(r *rand.Rand) string {
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	var lines []string
	add := func(name, value string) {
		switch r.IntN(12) {
		case 0:
			name = strings.ToLower(name)
		case 1:
			name = strings.ToUpper(name)
		}
		if i := strings.IndexByte(value, ' '); i > 0 && r.IntN(4) == 0 {
			value = value[:i] + pick("\n ", "\n\t", "\r\n   ") + value[i+1:]
		}
		lines = append(lines, name+":"+pick(" ", " ", "", "  ", "\t")+value+pick("", "", "", " ", "\r"))
	}
	add("Metadata-Version", pick("1.0", "1.1", "1.2", "2.0", "2.1", "2.2", "2.3", "2.4", "3.0", "x"))
	if r.IntN(30) != 0 {
		add("Name", pick("a", "Foo.Bar", "x_y", "0", "-a", "a b", "ä"))
	}
	if r.IntN(30) != 0 {
		add("Version", spelled(r, randomVersion(r)))
	}
	for range r.IntN(4) {
		spec := randomSpecifier(r)
		for s, err := parseSpecifier(spec, false); err == nil && s.wildcard && (s.version.pre != "" || s.version.post != ""); s, err = parseSpecifier(spec, false) {
			spec = randomSpecifier(r) // see TestSpecifierSetsEqualPackaging
		}
		req := pick("a", "B.c", "d [x]") + pick("", " ", " (") + spec
		if strings.Contains(req, "(") {
			req += ")"
		}
		if r.IntN(2) == 0 {
			req += " ; " + randomMarker(r, 1)
		}
		add("Requires-Dist", req)
	}
	if r.IntN(2) == 0 {
		add("Requires-Python", pick(">=3.8", "~=3.9, !=3.9.1", "==3.*", ">3", "what", ""))
	}
	for range r.IntN(3) {
		add("Provides-Extra", pick("x", "X.y", "z_", "dev"))
	}
	for range r.IntN(3) {
		add("Dynamic", pick("Requires-Dist", "version", "Summary", "requires-python"))
	}
	for range r.IntN(3) {
		add(pick("Summary", "Classifier", "X-Odd", "License", "Keywords"), pick("one", "two words here", "ünï", "a: b", ""))
	}
	r.Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
	s := strings.Join(lines, "\n") + "\n"
	if r.IntN(2) == 0 {
		s += "\nName: of-the-description\nRequires-Dist: no\n"
	}
	if r.IntN(6) == 0 {
		s = spoil(r, s)
	}
	return s
}

func TestMetadataEqualsPackaging(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the machine's Python with a library from the index")
	}
	r := rand.New(rand.NewPCG(16, 643))
	tries := []string{"3.7", "3.8.1", "3.9.1", "3.11.2", "4"}
	var qs []question
	for range 4000 {
		qs = append(qs, question{Op: "metadata", Text: randomMetadata(r), Tries: tries})
	}
	compareWithPackaging(t, qs, func(q question) any {
		m, err := ParseMetadata([]byte(q.Text))
		if err != nil {
			return nil
		}
		requires, python := []string{}, any(nil)
		for _, d := range m.RequiresDist {
			requires = append(requires, d.Name)
		}
		if m.RequiresPython != "" {
			python = "invalid"
			if ss, err := ParseSpecifiers(m.RequiresPython); err == nil {
				var holds []bool
				for _, v := range q.Tries {
					holds = append(holds, ss.Contains(mustVersion(v)))
				}
				python = holds
			}
		}
		list := func(s []string) []string { return append([]string{}, s...) }
		return map[string]any{"version": m.MetadataVersion, "name": m.Name, "of": m.Version, "requires": requires,
			"python": python, "extras": list(m.ProvidesExtra), "dynamic": list(m.Dynamic)}
	}, func(q question, ours, theirs any) string {
		_, err := ParseMetadata([]byte(q.Text))
		switch fields, _ := metadataFields([]byte(q.Text)); {
		case err != nil && strings.Contains(err.Error(), "stands in it twice"):
			return "one header twice, with other values" // refused here, as if neither was there in the library
		case theirs == nil && (count(fields, "name") > 1 || count(fields, "version") > 1):
			return "one header twice, with one value"
		}
		return ""
	})
}

func count(fields [][2]string, name string) (n int) {
	for _, f := range fields {
		if f[0] == name {
			n++
		}
	}
	return n
}
