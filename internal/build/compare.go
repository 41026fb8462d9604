package build

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"hallmark/internal/compare"
	"hallmark/internal/plan"
	"hallmark/internal/record"
)

// compare gives the outcome of a rebuild.
func (e *Engine) compare(s plan.Step, first, second *record.Build) (record.RebuildResult, error) {
	r := record.RebuildResult{
		Schema: record.RebuildSchema, Step: s.ID, First: first.ID, Second: second.ID,
		FirstDigest: first.Output.Digest, Axes: axes(first, second), Builder: e.Builder, Time: time.Now().UTC(),
		FirstRuntime: first.Facts.RanUnder(), SecondRuntime: second.Facts.RanUnder(),
	}
	if second.Outcome != record.Succeeded {
		r.Outcome, r.Failure = record.CouldNotBuild, second.Failure
		return r, nil
	}
	r.SecondDigest = second.Output.Digest
	// What the two builds left is compared, before anything was named anew.
	if first.Output.Raw == second.Output.Raw && first.Output.Digest == second.Output.Digest && first.Output.RawFile == second.Output.RawFile {
		r.Outcome = record.Identical
		return r, nil
	}
	tmp, err := os.MkdirTemp(e.Tmp, "compare-")
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(tmp)
	var paths [2]string
	for i, o := range []*record.Output{first.Output, second.Output} {
		dir := filepath.Join(tmp, fmt.Sprint(i+1))
		if err := os.Mkdir(dir, 0o755); err != nil {
			return r, err
		}
		paths[i] = filepath.Join(dir, o.RawFile)
		if err := e.copyOut(o.Raw, paths[i]); err != nil {
			return r, err
		}
	}
	r.Outcome, r.Differences, r.Normalisations, r.Truncated, err = compare.Files(paths[0], paths[1])
	if err != nil {
		return r, fmt.Errorf("comparing two builds of %s: %w", s.PURL, err)
	}
	if r.Outcome == record.Identical {
		r.Outcome = record.Different
	}
	if first.Output.RawFile != second.Output.RawFile {
		r.Outcome = record.Different
		r.Differences = append([]record.Difference{{Path: first.Output.RawFile, What: "metadata", First: first.Output.RawFile, Second: second.Output.RawFile, Hint: "the name of the file"}}, r.Differences...)
	}
	return r, nil
}

// axes puts the measured values of two builds side by side.
func axes(first, second *record.Build) []record.Axis {
	var out []record.Axis
	for _, name := range record.Axes {
		a := record.Axis{Name: name, First: first.Measured[name], Second: second.Measured[name]}
		a.Varied = a.First != "" && a.Second != "" && a.First != a.Second && second.NotVaried[name] == "" && moved(name, a.First, a.Second)
		if !a.Varied {
			a.Cause = second.NotVaried[name]
			if a.Cause == "" {
				a.Cause = "both builds measured the same"
			}
		}
		out = append(out, a)
	}
	return append(out, record.Axis{Name: record.AxisProcessor, Cause: "both builds ran on one processor, and what it answers to a program that asks it cannot be masked"})
}

// moved tells whether an axis that moves by itself was moved on purpose: two
// builds never run at the same second.
func moved(axis, first, second string) bool {
	switch axis {
	case record.AxisClock:
		a, errA := time.Parse(time.RFC3339, first)
		b, errB := time.Parse(time.RFC3339, second)
		return errA == nil && errB == nil && b.Sub(a) > clockShift-24*time.Hour
	case record.AxisUptime:
		a, errA := strconv.ParseFloat(first, 64)
		b, errB := strconv.ParseFloat(second, 64)
		return errA == nil && errB == nil && math.Abs(b-a) > uptimeShift.Seconds()/2
	}
	return true
}
