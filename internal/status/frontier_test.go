package status_test

import (
	"slices"
	"strings"
	"testing"

	"hallmark/internal/digest"
	"hallmark/internal/plan"
	"hallmark/internal/purl"
	"hallmark/internal/status"
	"hallmark/internal/status/statustest"
)

// closure is a commit of some artifacts, each built by us and served.
func closure(names ...string) status.Input {
	in := status.Input{Project: "acme/app", Plan: &plan.Plan{Seed: plan.Seed{Name: "bookworm", Digest: digest.FromBytes([]byte("seed")), Bytes: 4000},
		Platform: plan.Platform{OS: "linux", Arch: "amd64", Interpreter: "cpython-3.11", Libc: "glibc-2.36"}}, Steps: map[digest.Digest]status.Step{}, Served: map[purl.PURL]status.File{}, Policy: statustest.Policy()}
	in.SeedSize = func(path string) (int64, bool) { return 100, path != "/of-unknown-size.o" }
	for _, n := range names {
		typ := "generic"
		if strings.HasSuffix(n, "-wheel") {
			typ = "pypi"
		}
		u, id, d := purl.New(typ, n, "1"), digest.FromBytes([]byte("step "+n)), digest.FromBytes(statustest.Content(n))
		in.Plan.Steps = append(in.Plan.Steps, plan.Step{ID: id, PURL: u})
		in.Plan.Artifacts = append(in.Plan.Artifacts, plan.Artifact{PURL: u, Step: id})
		in.Steps[id] = statustest.GoodStep(id, n, d)
		in.Served[u] = status.File{Name: n, Digest: d, Size: 1000}
	}
	return in
}

// builds changes the builds of an artifact.
func builds(in status.Input, name string, change func(b *status.StepBuild)) {
	st := in.Steps[digest.FromBytes([]byte("step "+name))]
	for i := range st.Builds {
		change(&st.Builds[i])
	}
}

func kinds(s status.Side) string {
	var out []string
	for _, p := range s.Parts {
		n := "?"
		if p.Bytes != nil {
			n = status.Bytes(*p.Bytes)
		}
		out = append(out, string(p.Kind)+" "+p.What+" "+n)
	}
	return strings.Join(out, "; ")
}

// TestFrontier: what is known to be nothing is 0, what is not known is not.
func TestFrontier(t *testing.T) {
	for _, c := range []struct {
		name    string
		change  func(in *status.Input)
		bytes   int64 // -1: not known
		parts   string
		beneath string
	}{
		{"everything from source", func(*status.Input) {}, 0, "", ""},
		{"linked from the seed", func(in *status.Input) {
			builds(*in, "zlib", func(b *status.StepBuild) { b.SeedFiles = []string{"/crti.o", "/libc_nonshared.a"} })
			builds(*in, "python", func(b *status.StepBuild) { b.SeedFiles = []string{"/crti.o"} })
		}, 300, "linked /crti.o 200 bytes; linked /libc_nonshared.a 100 bytes", ""},
		{"linked, nobody knows how much", func(in *status.Input) {
			builds(*in, "zlib", func(b *status.StepBuild) { b.SeedFiles = []string{"/of-unknown-size.o"} })
		}, -1, "linked /of-unknown-size.o ?", ""},
		{"not measured", func(in *status.Input) { builds(*in, "zlib", func(b *status.StepBuild) { b.SeedKnown = false }) },
			-1, "unmeasured whether bytes of the seed are inside ?", ""},
		{"its libraries not measured", func(in *status.Input) { builds(*in, "zlib", func(b *status.StepBuild) { b.Linked = false }) },
			-1, "unread which libraries of others it loads ?", ""},
		{"published by others", func(in *status.Input) {
			u := purl.New("generic", "zlib", "1")
			in.Served[u] = status.File{Name: "theirs", Digest: digest.FromBytes([]byte("theirs")), Size: 77, Published: true}
		}, 77, "file published by others 77 bytes", ""},
		{"of unknown size", func(in *status.Input) {
			u := purl.New("generic", "zlib", "1")
			in.Served[u] = status.File{Name: "theirs", Digest: digest.FromBytes([]byte("theirs")), Published: true}
		}, -1, "file published by others ?", ""},
		{"nothing there", func(in *status.Input) { delete(in.Served, purl.New("generic", "zlib", "1")) }, -1, "missing no file ?", ""},
		{"revoked", func(in *status.Input) {
			builds(*in, "zlib", func(b *status.StepBuild) { b.Revoked = true })
		}, 1000, "file built, and its evidence does not hold 1000 bytes", ""},
		{"not verified", func(in *status.Input) {
			builds(*in, "zlib", func(b *status.StepBuild) { b.Verified = false })
		}, 1000, "file built, and its evidence does not hold 1000 bytes", ""},
		{"libraries of another in the closure", func(in *status.Input) {
			builds(*in, "python", func(b *status.StepBuild) { b.Needs = []string{"libz.so.1"} })
			builds(*in, "zlib", func(b *status.StepBuild) { b.Gives = []string{"libz.so.1"} })
		}, 0, "", ""},
		{"libraries of nobody", func(in *status.Input) {
			builds(*in, "python", func(b *status.StepBuild) { b.Needs = []string{"libc.so.6", "libz.so.1"} })
		}, 0, "", "libc.so.6 libz.so.1"},
	} {
		in := closure("python", "zlib", "x-wheel")
		c.change(&in)
		f := status.NewFrontier(in)
		switch {
		case c.bytes < 0 && f.Runtime.Bytes != nil, c.bytes >= 0 && (f.Runtime.Bytes == nil || *f.Runtime.Bytes != c.bytes):
			t.Errorf("%s: %s", c.name, f.Runtime.Sentence())
		}
		if got := kinds(f.Runtime); got != c.parts {
			t.Errorf("%s: parts %q, want %q", c.name, got, c.parts)
		}
		if got := strings.Join(f.Runtime.Beneath, " "); got != c.beneath {
			t.Errorf("%s: beneath %q, want %q", c.name, got, c.beneath)
		}
		if got := kinds(f.Build); !strings.HasPrefix(got, "seed bookworm") || *f.Build.Bytes != 4000 {
			t.Errorf("%s: build %q", c.name, got)
		}
	}
	// Wheels alone need an interpreter of somebody's.
	if f := status.NewFrontier(closure("x-wheel")); !slices.Equal(f.Runtime.Beneath, []string{"cpython-3.11"}) {
		t.Errorf("a wheel alone: %q", f.Runtime.Beneath)
	}
}

// TestFrontierIsShort: one part names a few of many artifacts.
func TestFrontierIsShort(t *testing.T) {
	var names []string
	for c := 'a'; c <= 'z'; c++ {
		names = append(names, string(c)+"-wheel")
	}
	in := closure(names...)
	for _, n := range names {
		builds(in, n, func(b *status.StepBuild) { b.SeedFiles = []string{"/crti.o"} })
	}
	f := status.NewFrontier(in)
	if len(f.Runtime.Parts) != 1 || f.Runtime.Parts[0].Artifacts != 26 || len(f.Runtime.Parts[0].Named) != 10 || *f.Runtime.Bytes != 2600 {
		t.Errorf("%+v", f.Runtime)
	}
	text := strings.Join(f.Lines(), "\n")
	for _, want := range []string{"runtime: at most 3 KiB not from source", "/crti.o", "and 16 more", "build: at most 4 KiB"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

// TestPlatform: what a plan brings itself is not said to be the machine's; what it asks
// the machine for is named, and what nobody measured is not said to be nothing.
func TestPlatform(t *testing.T) {
	libc := func(in *status.Input, who string) {
		for _, n := range []string{"python", "zlib", "x-wheel"} {
			builds(*in, n, func(b *status.StepBuild) { b.Needs = []string{"libc.so.6"} })
		}
		if who != "" {
			builds(*in, who, func(b *status.StepBuild) { b.Gives = []string{"ld-linux-x86-64.so.2", "libc.so.6"} })
		}
	}
	machine := strings.Join(statustest.Policy().Platform, "|")
	for _, c := range []struct {
		name   string
		all    []string
		change func(in *status.Input)
		want   string
	}{
		{"wheels alone", []string{"x-wheel"}, func(*status.Input) {}, "cpython-3.11 on linux/amd64, glibc-2.36|" + machine},
		{"nothing", nil, func(*status.Input) {}, "cpython-3.11 on linux/amd64, glibc-2.36|" + machine},
		{"a Python", []string{"python", "zlib", "x-wheel"}, func(in *status.Input) { libc(in, "") },
			"linux/amd64, with python 1 of its own|of the machine that it is installed on: libc.so.6"},
		{"a Python and a C library", []string{"python", "zlib", "x-wheel", "glibc"}, func(in *status.Input) { libc(in, "glibc") },
			"linux/amd64, with glibc 1 and python 1 of its own"},
		{"a C library alone", []string{"zlib", "glibc"}, func(in *status.Input) { libc(in, "glibc") }, "linux/amd64, with glibc 1 of its own"},
		{"a library beside wheels", []string{"zlib", "x-wheel"}, func(in *status.Input) { libc(in, "") },
			"linux/amd64|of the machine that it is installed on: cpython-3.11, libc.so.6"},
		{"not built yet", []string{"python", "glibc"}, func(in *status.Input) {
			libc(in, "glibc")
			delete(in.Served, purl.New("generic", "glibc", "1"))
		}, "linux/amd64, with python 1 of its own|of the machine that it is installed on: libc.so.6|of that machine also what was not measured, of 1 of 2 artifacts"},
		{"not measured", []string{"zlib"}, func(in *status.Input) { builds(*in, "zlib", func(b *status.StepBuild) { b.Linked = false }) },
			"linux/amd64|of that machine also what was not measured, of 1 of 1 artifacts"},
		{"many", []string{"zlib"}, func(in *status.Input) {
			builds(*in, "zlib", func(b *status.StepBuild) { b.Needs = strings.Fields("a b c d e f g h i j k l m n") })
		}, "linux/amd64|of the machine that it is installed on: a, b, c, d, e, f, g, h, i, j, k, l and 2 more"},
	} {
		in := closure(c.all...)
		c.change(&in)
		doc, _ := status.Build(in)
		if got := strings.Join(doc.Summary.Platform, "|"); got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.name, got, c.want)
		}
	}
}
