package build

import (
	"slices"
	"time"

	"hallmark/internal/plan"
	"hallmark/internal/record"
)

// Why says why a build is due; empty: it is not.
type Why string

// The reasons why a build is due.
const (
	DueNew     Why = "new"            // the step was never run
	DueMissing Why = "result-missing" // it succeeded, but its file is not stored any more
	DueRetry   Why = "failed-before"  // it failed, and a retry was asked for
	DueHost    Why = "host-failed"    // the last time the host could not make a sandbox
	DueLimit   Why = "limit-raised"   // it ran out of time, memory, disk, processes or log, and has more now
	DueSecond  Why = "never-rebuilt"  // it was built once and not compared yet
	DueChanged Why = "first-changed"  // it was compared with another first build than the one that counts
	DueNatives Why = "native-files"   // its source has native files, and it was not yet built with them in place
)

// First gives the last first build of a step that counts: the newest that
// succeeded, else the newest that failed; nil if there is none.
func First(builds []record.Build) *record.Build { return newest(builds, record.First) }

func newest(builds []record.Build, p record.Purpose) *record.Build {
	var best *record.Build
	for i := range builds {
		b := &builds[i]
		if b.Purpose != p {
			continue
		}
		if best == nil || b.Outcome == record.Succeeded || best.Outcome != record.Succeeded {
			best = b
		}
	}
	return best
}

// lasting tells whether a failure would be the same again: one of the host or of
// the clock may not.
func lasting(f *record.Failure) bool {
	return f != nil && f.Class != record.FailTimeout && f.Class != record.FailSandbox
}

// again tells why what failed is run once more; empty: it is not. A failure is
// remembered by its step's id, that of the clock too, which can cost an hour each
// time; only one of the host says nothing about the step. One of a limit is
// remembered with the limit that it ran into, and says nothing about a higher one.
func (e *Engine) again(f *record.Failure, wall time.Duration) Why {
	switch {
	case f == nil || f.Class == record.FailSandbox:
		return DueHost
	case f.Class == record.FailTimeout:
		if wall > 0 && e.Limits.Wall > wall+wall/4 {
			return DueLimit
		}
	// Records of the first version do not say their limit; that of the log was low.
	case f.Class == record.FailLog && f.Limit == 0:
		return DueLimit
	case f.Limit > 0 && limitOf(f.Class, e.Limits) > f.Limit:
		return DueLimit
	}
	if e.Retry {
		return DueRetry
	}
	return ""
}

// stored tells whether the files of an output are there.
func (e *Engine) stored(o *record.Output) bool {
	return o != nil && e.Blobs.Has(o.Digest) && (o.Raw == "" || e.Blobs.Has(o.Raw))
}

// firstDue gives the first build that counts, and why another one is due.
func (e *Engine) firstDue(builds []record.Build) (*record.Build, Why) {
	b := First(builds)
	switch {
	case b == nil:
		return nil, DueNew
	case b.Outcome != record.Succeeded:
		return b, e.again(b.Failure, b.Usage.Wall)
	case !e.stored(b.Output):
		return b, DueMissing
	}
	return b, ""
}

// secondDue says why a step whose first build that counts is b is to be built a
// second time.
func (e *Engine) secondDue(b *record.Build, builds []record.Build, rebuilds []record.RebuildResult) Why {
	if b == nil || b.Outcome != record.Succeeded {
		return ""
	}
	if len(rebuilds) == 0 {
		return DueSecond
	}
	last := rebuilds[len(rebuilds)-1]
	if last.Outcome == record.CouldNotBuild {
		var wall time.Duration
		for _, s := range builds {
			if s.ID == last.Second {
				wall = s.Usage.Wall
			}
		}
		return e.again(last.Failure, wall)
	}
	if last.FirstDigest != b.Output.Digest || !Compares(last, builds) {
		return DueChanged
	}
	return ""
}

// Compares tells whether a rebuild result is about two of these builds: one of
// those that it compared may be believed no more.
func Compares(r record.RebuildResult, builds []record.Build) bool {
	has := func(id string) bool {
		return slices.ContainsFunc(builds, func(b record.Build) bool { return b.ID == id })
	}
	return has(r.First) && has(r.Second)
}

// prebuiltDue says why a step's source is to be built once with its native files in
// place: what the result needs of them or would ship shows then. Nothing can be
// learnt from it while the build without them has not ended for good.
func (e *Engine) prebuiltDue(src plan.Source, b *record.Build, builds []record.Build) Why {
	if len(src.Removed) == 0 || b == nil || b.Outcome != record.Succeeded && !lasting(b.Failure) {
		return ""
	}
	r := newest(builds, record.Prebuilt)
	switch {
	case r == nil:
		return DueNatives
	case r.Outcome != record.Succeeded:
		return e.again(r.Failure, r.Usage.Wall)
	}
	return ""
}
