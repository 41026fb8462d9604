package build

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"hallmark/internal/archive"
	"hallmark/internal/digest"
	"hallmark/internal/ecosystem"
	"hallmark/internal/plan"
	"hallmark/internal/record"
)

// seedInside gives the files of the seed whose bytes are or may be in what was made,
// sorted: files that are there as they are, all that a linker could have taken code from,
// and, where something that it was built with may have such bytes, those that could have
// come on through it. known is false if that cannot be told.
func (e *Engine) seedInside(ctx context.Context, root []mount, natives []ecosystem.Native) (files []string, known bool, err error) {
	seed, err := e.theSeed(ctx)
	if err != nil {
		return nil, false, err
	}
	inside := map[string]bool{}
	linked := false // whether a linker or an archiver may have written any of it
	from := map[string]bool{}
	for _, n := range natives {
		if c := seed.Files(n.Digest); c != "" {
			inside[c] = true // a file of the seed as it is
		}
		if n.From != nil {
			from[string(n.From.PURL)] = true // what is in that is in this
			continue
		}
		linked = linked || n.Kind == "elf" || n.Kind == "ar"
	}
	if linked {
		// The root holds no other object file or archive of the seed, so these are
		// all that a linker can have taken code from.
		for _, l := range seed.Linkable {
			if !hidden(root, seed.Dir, l) {
				inside[l] = true
			}
		}
	}
	known = true
	for _, m := range root {
		if m.input.Tag != plan.TagDeps || len(natives) == 0 {
			continue
		}
		held, ok, err := e.heldBy(ctx, m.input)
		if err != nil {
			return nil, false, err
		}
		known = known && ok
		if !slices.ContainsFunc(held, func(f string) bool { return !inside[f] }) {
			continue
		}
		passes := from[m.input.PURL]
		if !passes {
			if passes, err = passesOn(m.dir, natives, linked); err != nil {
				return nil, false, fmt.Errorf("looking for bytes of the seed in %s: %w", m.input.PURL, err)
			}
		}
		for _, f := range held {
			inside[f] = inside[f] || passes
		}
	}
	maps.DeleteFunc(inside, func(_ string, is bool) bool { return !is })
	return slices.Sorted(maps.Keys(inside)), known, nil
}

// heldBy gives the files of the seed whose bytes are or may be in an input that a step
// made; false if no build of it that measured them is remembered.
func (e *Engine) heldBy(ctx context.Context, in record.Input) ([]string, bool, error) {
	builds, err := e.Records.Builds(ctx, in.Step)
	if err != nil {
		return nil, false, err
	}
	var held []string
	known := false
	for _, b := range builds {
		if b.Output != nil && b.Output.Digest == in.Digest && b.SeedKnown {
			held, known = append(held, b.SeedFiles...), true
		}
	}
	slices.Sort(held)
	return slices.Compact(held), known, nil
}

// passesOn tells whether code can have come from a layer into what was made: a file of
// the layer is there as it is, or the layer has what a linker copies code from.
func passesOn(dir string, natives []ecosystem.Native, linked bool) (bool, error) {
	have := map[digest.Digest]bool{}
	for _, n := range natives {
		have[n.Digest] = true
	}
	list, err := archive.Natives(dir, archive.DefaultLimits())
	if err != nil {
		return false, err
	}
	for _, n := range list {
		if have[n.Digest] {
			return true, nil
		}
		if !linked || n.Kind != "elf" && n.Kind != "ar" {
			continue
		}
		// What lies in an archive of another kind can be taken out of it.
		if n.Kind == "ar" || n.Member != "" {
			return true, nil
		}
		object, err := relocatable(filepath.Join(dir, filepath.FromSlash(n.Path)))
		if object || err != nil {
			return object, err
		}
	}
	return false, nil
}

// relocatable tells whether an ELF file is an object file (ELF specification, "ELF
// Header": e_type is ET_REL), as opposed to a program or a shared library.
func relocatable(name string) (bool, error) {
	f, err := os.Open(name)
	if err != nil {
		return false, err
	}
	defer f.Close()
	var head [18]byte
	if _, err := io.ReadFull(f, head[:]); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return false, nil // too short to be linked
	} else if err != nil {
		return false, err
	}
	order := binary.ByteOrder(binary.LittleEndian)
	if head[5] == 2 { // e_ident[EI_DATA] is ELFDATA2MSB
		order = binary.BigEndian
	}
	return order.Uint16(head[16:]) == 1, nil
}
