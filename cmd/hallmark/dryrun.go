package main

import (
	"fmt"
	"io"
	"time"

	"hallmark/internal/app"
	"hallmark/internal/build"
	"hallmark/internal/record"
)

// dryRun says what builds would do.
func (c *buildsCmd) dryRun(e *env) error {
	c.Timeline = "" // nothing runs that it could show
	a, err := e.open(false, c.set, func(cfg *app.Config) { cfg.Still = true })
	if err != nil {
		return err
	}
	defer a.Close()
	f, err := a.DryRun(e.ctx, e.global.Dir)
	if err != nil {
		return err
	}
	return e.print(f, func(w io.Writer) error { return printForecast(w, f) })
}

// whyText says a reason for a build in words.
var whyText = map[build.Why]string{
	build.DueNew: "never built", build.DueMissing: "its file is not stored any more", build.DueRetry: "failed before",
	build.DueHost: "the last time no sandbox could be made", build.DueLimit: "ran into a limit that is higher now",
	build.DueSecond: "not built a second time yet", build.DueChanged: "compared with another first build than the one that counts",
	build.DueNatives: "its source has native files",
}

var purposeText = map[record.Purpose]string{record.First: "build", record.Rebuild: "rebuild", record.Prebuilt: "with natives"}

func printForecast(w io.Writer, f *app.Forecast) error {
	s := f.Summary
	if len(f.Build)+len(f.Ask)+len(f.Fetch)+len(f.Undetermined) == 0 {
		fmt.Fprintf(w, "Nothing to do: all %d steps are built and rebuilt.\n", s.Done)
	} else {
		fmt.Fprintf(w, "Would build %s, rebuild %d, build %d once more with their native files; nothing is due for %d.\n", count(s.First, "step"), s.Rebuild, s.Prebuilt, s.Done)
	}
	if s.Fetch > 0 {
		fmt.Fprintf(w, "Would fetch %s, %.1f MB.\n", count(s.Fetch, "source archive"), float64(s.FetchBytes)/1e6)
	}
	if s.Ask > 0 {
		fmt.Fprintf(w, "Would ask %s.\n", count(s.Ask, "backend"))
	}
	if n := len(f.Build) + 2*len(f.Undetermined); n > 0 {
		switch {
		case s.Seconds == nil:
			fmt.Fprintf(w, "How long that takes is unknown: none of these packages was ever measured.\n")
		case s.Unmeasured > 0:
			fmt.Fprintf(w, "About %s, %d at a time; for %d of %d builds that is a guess, since they were never measured.\n", about(*s.Seconds), s.Workers, s.Unmeasured, n)
		default:
			fmt.Fprintf(w, "About %s, %d at a time, by the times of earlier builds.\n", about(*s.Seconds), s.Workers)
		}
	}
	if !f.Complete {
		fmt.Fprintf(w, "That is not all: what %s built with has to be fetched or asked first.\n", countAre(len(f.Undetermined), "package"))
	}
	if !f.Solved {
		fmt.Fprintln(w, "This is not solved yet; it was solved now by what the index answers and what is stored, and nothing of that was kept.")
	}
	for _, x := range f.Fetch {
		fmt.Fprintf(w, "fetch         %s  %.1f MB\n", x.File, float64(x.Size)/1e6)
	}
	for _, x := range f.Ask {
		fmt.Fprintf(w, "ask           %s for its %s\n", app.ShortName(string(x.PURL)), x.What)
	}
	for _, b := range f.Build {
		took := "time unknown"
		if b.Seconds != nil {
			took = "about " + about(*b.Seconds)
		}
		fmt.Fprintf(w, "%-13s %s: %s, %s\n", purposeText[b.Purpose], app.ShortName(string(b.PURL)), whyText[b.Why], took)
		for _, x := range b.Changed {
			fmt.Fprintf(w, "              %s\n", x)
		}
	}
	for _, u := range f.Undetermined {
		fmt.Fprintf(w, "not known yet %s\n", app.ShortName(string(u)))
	}
	for _, b := range f.Blocked {
		fmt.Fprintf(w, "cannot build  %s: %s\n", app.ShortName(string(b.PURL)), b.Message)
	}
	return nil
}

// count says a number of things.
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// countAre is count with its verb.
func countAre(n int, thing string) string {
	if n == 1 {
		return "1 " + thing + " is"
	}
	return count(n, thing) + " are"
}

func about(seconds float64) string {
	if seconds < 10 {
		return fmt.Sprintf("%.1fs", seconds)
	}
	return span(time.Duration(seconds * float64(time.Second)))
}
