// Command runtimes writes docs/runtimes.md: of each whole runtime that was built and
// installed what it is made of, how often each part came out identical, how long that
// took, what of it is not from source, and whether a file of the seed is in it. It
// decides nothing itself, and fails where something is in a runtime that must not be.
//
// Usage: runtimes --data DIR --installed DIR NAME…
package main

import (
	"context"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"hallmark/internal/app"
	"hallmark/internal/archive"
	"hallmark/internal/digest"
	"hallmark/internal/ecosystem/pypi"
	"hallmark/internal/policy"
	"hallmark/internal/record"
	"hallmark/internal/status"
	"hallmark/internal/timeline"
)

func main() {
	data := flag.String("data", "", "the data directory")
	installed := flag.String("installed", "", "where the runtimes are installed, each in a folder of its name, beside its project (NAME.project) and what its check said (NAME.said)")
	flag.Parse()
	if err := run(*data, *installed, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "runtimes:", err)
		os.Exit(1)
	}
}

func run(data, installed string, names []string) error {
	ctx := context.Background()
	a, err := app.Open(ctx, app.Config{Data: data}, false)
	if err != nil {
		return err
	}
	defer a.Close()
	trees, err := filepath.Glob(filepath.Join(data, "layers", "seed-*", "tree"))
	if err != nil || len(trees) != 1 {
		return fmt.Errorf("%s holds %d seeds, want 1 (%v)", data, len(trees), err)
	}
	seed, err := files(trees[0])
	if err != nil {
		return err
	}
	fmt.Printf("# Runtimes\n\nWhole runtimes, built from source down to the C library. `make runtime` builds them, installs each, runs its check in it and makes this page; `sample/runtimes` has what each asks for and its check. Measured on %s. Times are seconds of wall clock, other builds beside them.\n",
		time.Now().UTC().Format(time.DateOnly))
	for _, name := range names {
		r, err := a.Newest(ctx, filepath.Join(installed, name+".project"))
		if err != nil {
			return err
		}
		here, err := files(filepath.Join(installed, name))
		if err != nil {
			return err
		}
		said, err := os.ReadFile(filepath.Join(installed, name+".said"))
		if err != nil {
			return fmt.Errorf("what the check of %s said: %w", name, err)
		}
		image, err := imageOf(ctx, a, r)
		if err != nil {
			return err
		}
		busy, err := busyOf(filepath.Join(installed, name+".trace.json"))
		if err != nil {
			return err
		}
		fmt.Print(section(name, r))
		fmt.Printf("\nIts OCI image, whoever makes it: `%s`.%s\n", image, busy)
		native, same := 0, 0
		for d, f := range here {
			g, ok := seed[d]
			if !ok {
				continue
			}
			same++
			if f.native {
				native++
				fmt.Fprintf(os.Stderr, "%s: %s is the seed's %s\n", name, f.path, g.path)
			}
		}
		fmt.Printf("\n%d different files are installed. **%d** of its native files are files of the seed, compared by digest; of its other files %d are the same as one there, since both come from the same source.\n\nIts check, run in it:\n\n", len(here), native, same-native)
		for _, l := range strings.Split(strings.TrimSpace(string(said)), "\n") {
			fmt.Printf("    %s\n", l)
		}
		if native > 0 {
			return fmt.Errorf("%s: %d native files of the seed are in it", name, native)
		}
	}
	return nil
}

// imageOf gives the digest of a report's image.
func imageOf(ctx context.Context, a *app.App, r *app.Report) (digest.Digest, error) {
	rt, err := a.Runtime(ctx, r)
	if err != nil {
		return "", err
	}
	defer rt.Close()
	ix, err := rt.Index(ctx)
	if err != nil {
		return "", err
	}
	im, err := rt.Image(ix)
	if err != nil {
		return "", err
	}
	return im.Digest, nil
}

// minBuilt is how much must have been built in a run for its trace to say anything.
const minBuilt = time.Minute

// busyOf says how much of the workers' time a run used while steps were ready;
// nothing if it built next to nothing.
func busyOf(trace string) (string, error) {
	f, err := os.Open(trace)
	if err != nil {
		return "", err
	}
	defer f.Close()
	events, err := timeline.Read(f)
	if err != nil {
		return "", fmt.Errorf("%s: %w", trace, err)
	}
	u := timeline.Busy(events)
	if u.Ran < minBuilt {
		return "", nil
	}
	return fmt.Sprintf(" The run that built most of it took %.0f s of the time of its %d workers, who were busy %.1f %% of the time in which steps were ready.", u.Ran.Seconds(), u.Workers, 100*u.Share()), nil
}

// file is a regular file of a tree that is not empty.
type file struct {
	path   string
	native bool
}

// files gives those of a tree by digest.
func files(dir string) (map[digest.Digest]file, error) {
	out := map[digest.Digest]file{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := os.Open(p)
		if err != nil {
			return err
		}
		defer f.Close()
		id, n, err := digest.FromReader(f)
		if err != nil || n == 0 {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		found := archive.FindNative(f, n, rel, archive.DefaultLimits())
		out[id] = file{rel, found != nil}
		return nil
	})
	return out, err
}

// section is what is known of one runtime.
func section(name string, r *app.Report) string {
	var b strings.Builder
	s, f := r.Document.Summary, r.Frontier()
	fmt.Fprintf(&b, "\n## %s\n\n%s, as of %s: %d of %d artifacts secure (%s), %d steps.\n\n", name, strings.Join(r.Solved.Plan.Requirements, ", "), r.Solved.Plan.AtTime,
		s.Secure, s.Artifacts, s.Percent(), len(r.Solved.Plan.Steps))
	for _, l := range f.Lines() {
		fmt.Fprintf(&b, "    %s\n", l)
	}
	b.WriteString("\n| artifact | class | builds identical | first, s | second, s | digest |\n|---|---|---|---:|---:|---|\n")
	var all time.Duration
	for _, st := range r.Solved.Plan.Steps {
		for _, x := range r.Input.Steps[st.ID].Builds {
			all += x.Usage.Wall
		}
	}
	for _, row := range r.Document.Artifacts {
		var first, second time.Duration
		// A recipe comes to two steps, of which the one that compiles is not the artifact's; a
		// portable wheel is an artifact of its own.
		for _, st := range r.Solved.Plan.Steps {
			if st.PURL.Type() != row.PURL.Type() || st.PURL.Name() != row.PURL.Name() || pypi.IsPortable(st.PURL) != pypi.IsPortable(row.PURL) {
				continue
			}
			for _, x := range r.Input.Steps[st.ID].Builds {
				switch {
				case x.Outcome != record.Succeeded:
				case x.Purpose == record.First:
					first += x.Usage.Wall
				case x.Purpose == record.Rebuild:
					second += x.Usage.Wall
				}
			}
		}
		class := string(row.Class)
		if row.Class != policy.Secure && row.Grade != nil {
			class += ", " + string(*row.Grade)
		}
		same, id := "–", "–"
		if row.Reproduced != nil {
			same = fmt.Sprintf("%d of %d", row.Reproduced.Identical, row.Reproduced.Builds)
		}
		if row.Digest != nil {
			id = "`" + row.Digest.Hex() + "`"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %.1f | %.1f | %s |\n", row.PURL.Label(), class, same, first.Seconds(), second.Seconds(), id)
	}
	fmt.Fprintf(&b, "\nAll builds of all its steps together: %.0f s of wall clock. Seed, at build time alone: %s.\n", all.Seconds(), status.Bytes(s.SeedBytesBuild))
	return b.String()
}
