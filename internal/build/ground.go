package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"hallmark/internal/digest"
	"hallmark/internal/ecosystem"
	"hallmark/internal/fault"
	"hallmark/internal/plan"
	"hallmark/internal/purl"
	"hallmark/internal/record"
)

// A recipe can take the place of packages of the seed: what is built with it has the
// seed without those (plan.Environment.Without), and what must hold no code of the seed
// has it without all that a linker copies code from (Bare). It is made of the seed by
// hard links: the files that are left are the seed's own, and what is not there needs no
// masking.

// floor is what lies under a language's own packages in a step's root.
type floor struct {
	key   string   // names it where it is not the whole seed; else empty
	dirs  []string // what runs what makes layers faster to use, top-most first; the last is the seed's
	base  string   // the language's
	seed  string   // the seed's tree, or what is left of it
	whole *Seed
	fast  *mount // what makes it faster to use; nil if there is nothing
}

// floor lays out what lies under the packages of a step's language: layers of other
// languages that it is built with, the language's base, and the seed.
func (e *Engine) floor(ctx context.Context, l ecosystem.Language, s plan.Step, output func(digest.Digest) (*record.Output, error)) (*floor, error) {
	if !s.Env.Partial() {
		base, seed, fast, err := e.ground(ctx, l)
		if err != nil {
			return nil, err
		}
		return &floor{dirs: []string{base, seed.Dir}, base: base, seed: seed.Dir, whole: seed, fast: fast}, nil
	}
	base, seed, err := e.bare(ctx, l)
	if err != nil {
		return nil, err
	}
	fl := &floor{base: base, whole: seed}
	if fl.seed, err = e.seedWithout(seed, s.Env.Without, s.Env.Bare); err != nil {
		return nil, fmt.Errorf("environment of %s: %w", s.PURL, err)
	}
	names := []string{l.BaseKey(), string(seed.Digest), strings.Join(s.Env.Without, " "), strconv.FormatBool(s.Env.Bare)}
	var under []lower
	for _, in := range s.Inputs {
		if in.Tag != plan.TagDeps || e.language(in.PURL).Type() == l.Type() {
			continue
		}
		out, err := output(in.Step)
		if err != nil {
			return nil, err
		}
		dir, err := e.layout(in.PURL, out)
		if err != nil {
			return nil, fmt.Errorf("environment of %s: %w", s.PURL, err)
		}
		under = append(under, lower{in.Step, out.Digest, dir})
	}
	if under, err = e.core(ctx, l, under); err != nil {
		return nil, err
	}
	for _, u := range under {
		fl.dirs, names = append(fl.dirs, u.dir), append(names, string(u.made))
	}
	fl.dirs = append(fl.dirs, fl.base, fl.seed)
	of := digest.FromBytes([]byte(strings.Join(names, "\n")))
	fl.key = of.Hex()
	name := purl.New("generic", "hallmark-ground", "")
	fl.fast, err = e.companion(ctx, l, string(name), of, l.SeedCompanion(), fl.dirs...)
	return fl, err
}

// lower is a layer of another language in a step's root.
type lower struct {
	step, made digest.Digest
	dir        string
}

// core gives those layers that the program needs by which a language makes layers faster
// to use: the one that has it, and what that was built with. So steps that differ by
// what they link share what is made. All of them if none has it.
func (e *Engine) core(ctx context.Context, l ecosystem.Language, all []lower) ([]lower, error) {
	args := l.SeedCompanion().Args
	if len(args) == 0 {
		return all, nil
	}
	need := map[digest.Digest]bool{}
	for _, u := range all {
		if _, err := os.Lstat(filepath.Join(u.dir, filepath.FromSlash(args[0]))); err != nil {
			continue
		}
		need[u.step] = true
		builds, err := e.Records.Builds(ctx, u.step)
		if err != nil {
			return nil, err
		}
		for _, b := range builds {
			for _, in := range b.Inputs {
				need[in.Step] = true
			}
		}
	}
	if len(need) == 0 {
		return all, nil
	}
	var out []lower
	for _, u := range all {
		if need[u.step] {
			out = append(out, u)
		}
	}
	return out, nil
}

// of names what is made of a layer on this floor.
func (f *floor) of(d digest.Digest) digest.Digest {
	if f.key == "" {
		return d
	}
	return digest.FromBytes([]byte(f.key + "\n" + string(d)))
}

// seedWithout gives the tree of the seed without the files of some of its packages and,
// if it shall be bare, without its object files and archives; fault.Unsupported if it
// has no such package.
func (e *Engine) seedWithout(seed *Seed, packages []string, bare bool) (string, error) {
	gone := map[string]bool{}
	for _, p := range packages {
		gone[p] = true
	}
	what, kind := strings.Join(packages, ", "), "without-"
	linkable := map[string]bool{}
	if bare {
		what, kind = strings.TrimPrefix(what+", object files and archives", ", "), "bare-"
		for _, p := range seed.Linkable {
			linkable[strings.TrimPrefix(p, "/")] = true
		}
	}
	found := map[string]bool{}
	for _, owner := range seed.Owners {
		found[owner] = true
	}
	for _, p := range packages {
		if !found[p] {
			return "", fault.Advise(fault.Unsupported, "hallmark seed lists its packages; name one of them under replaces in the recipe, or leave it out.",
				"the seed without %s: it has no such package", p)
		}
	}
	key := kind + digest.FromBytes([]byte(string(seed.Digest)+"\n"+strings.Join(packages, "\n"))).Hex()
	return e.layers.get(key, nil, func(tree string) (any, error) {
		if err := copyWithout(seed.Dir, tree, "", func(p string) bool { return gone[seed.Owners[p]] || linkable[p] }); err != nil {
			return nil, fmt.Errorf("the seed without %s: %w", what, err)
		}
		return map[string][]string{"without": packages}, nil
	})
}

// copyWithout makes the folder to as from is, but for what is gone: by hard links,
// with modes and times as they are. at is the folder below the root. A folder in which
// something was gone and nothing is left is gone too.
func copyWithout(from, to, at string, gone func(path string) bool) error {
	dir := filepath.Join(from, filepath.FromSlash(at))
	st, err := os.Stat(dir)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	target := filepath.Join(to, filepath.FromSlash(at))
	if err := os.Mkdir(target, 0o700); err != nil {
		return err
	}
	missed := false
	for _, en := range entries {
		p := path.Join(at, en.Name())
		src, dst := filepath.Join(from, filepath.FromSlash(p)), filepath.Join(to, filepath.FromSlash(p))
		if en.IsDir() {
			if err := copyWithout(from, to, p, gone); err != nil {
				return err
			}
			if _, err := os.Lstat(dst); errors.Is(err, fs.ErrNotExist) {
				missed = true
			}
			continue
		}
		if gone(p) {
			missed = true
			continue
		}
		// A link by itself, too: it is not followed.
		if err := os.Link(src, dst); err != nil {
			return err
		}
	}
	if missed {
		left, err := os.ReadDir(target)
		if err != nil {
			return err
		}
		if len(left) == 0 && at != "" {
			return os.Remove(target)
		}
	}
	if err := os.Chmod(target, st.Mode()); err != nil {
		return err
	}
	ts := unix.NsecToTimespec(st.ModTime().UnixNano())
	return unix.UtimesNanoAt(unix.AT_FDCWD, target, []unix.Timespec{ts, ts}, 0)
}

// layersOf gives what of a root is a layer that a step made, for its language to look
// at.
func layersOf(root []mount) []ecosystem.Layer {
	var out []ecosystem.Layer
	for _, m := range root {
		if m.input.Tag == plan.TagDeps {
			out = append(out, ecosystem.Layer{PURL: purl.PURL(m.input.PURL), Dir: m.dir})
		}
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].PURL < out[j].PURL })
	return out
}
