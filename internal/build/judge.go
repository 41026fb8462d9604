package build

import (
	"bytes"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"sync"

	"hallmark/internal/ecosystem"
	"hallmark/internal/record"
	"hallmark/internal/sandbox"
)

// judge gives the failure that the way a build ended means; nil if it went well.
// What the sandbox saw from outside comes before what the build says of itself.
// tuned is the option for this very processor that was seen anywhere in the log.
func (e *Engine) judge(l ecosystem.Language, res *sandbox.Result, log, tuned []byte) *record.Failure {
	f := e.judged(l, res, log, tuned)
	if f != nil {
		f.Limit = limitOf(f.Class, e.Limits)
	}
	return f
}

func (e *Engine) judged(l ecosystem.Language, res *sandbox.Result, log, tuned []byte) *record.Failure {
	lines := func() []string { return l.Diagnose(log, res.Exit).Log }
	if len(res.Network) > 0 {
		return reached(res.Network, log, l.Diagnose(log, res.Exit))
	}
	if res.Limit != "" {
		return &record.Failure{Class: res.Limit, Log: lines(), Message: limitMessage(res.Limit, e.Limits),
			Advice: "Look what it does with so much: hallmark build --shell enters the build. An override can make it do less."}
	}
	if res.Exit != 0 || res.Signal != "" {
		f := l.Diagnose(log, res.Exit)
		if res.Signal != "" {
			f.Message = "The build was ended by signal " + res.Signal + "."
		}
		if f.Class == record.FailBuild && refusedNative(log) {
			return forThisProcessor(tuned, lines())
		}
		return f
	}
	// A build that only tried the option, and went on when the compiler refused it,
	// has nothing of it. One that pretends so could as well show no log at all.
	if tuned != nil && !refusedNative(log) {
		return forThisProcessor(tuned, lines())
	}
	if res.Refused != "" {
		return &record.Failure{Class: record.FailOutput, Message: res.Refused, Log: lines()}
	}
	return nil
}

func refusedNative(log []byte) bool { return bytes.Contains(log, []byte(sandbox.RefusedNative)) }

// forThisProcessor words a failure for the option that makes the result depend on
// the builder's processor.
func forThisProcessor(option []byte, lines []string) *record.Failure {
	return &record.Failure{Class: record.FailNative, Log: lines,
		Message: fmt.Sprintf("The build asks the compiler for code of the processor that it happens to run on (%s).", strings.TrimSpace(string(option))),
		Advice:  "Build it for a named processor level; many packages have a setting for that, which an override can give."}
}

// reached words a failure of a build that reached for the network. as were seen
// from outside; said is what the build's log says of its failure.
func reached(as []record.Attempt, log []byte, said *record.Failure) *record.Failure {
	var what []string
	for i, a := range as {
		if i == 5 {
			what = append(what, fmt.Sprintf("and %d more", len(as)-i))
			break
		}
		what = append(what, a.Kind+" "+a.Target)
	}
	targets := strings.Join(what, ", ")
	if u := wanted(log, as); u != "" {
		targets += "; it tried to download " + u
	}
	f := &record.Failure{Class: record.FailNetwork, Log: said.Log,
		Message: "The build reached for the network: " + targets + ".",
		Advice:  "A build has no network. What it wants to fetch must be declared as an input: as a build requirement, or inside the source."}
	switch said.Class {
	case record.FailMissingTool:
		// Often it reached out for a program that it did not find.
		f.Missing = said.Missing
		f.Message = strings.TrimSuffix(said.Message, ".") + "; to get it, it reached for the network: " + targets + "."
	case record.FailMissingLib:
		f.Missing = said.Missing
		f.Message = strings.TrimSuffix(said.Message, ".") + "; it also reached for the network: " + targets + "."
	}
	return f
}

// address is what may be one in a log: no blanks, nothing outside ASCII.
var address = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`https?://[!#$%&*+,./0-9:;=?@A-Z_a-z~-]{3,300}`) })

// wanted gives the first address in a log whose host the build was seen looking
// up: what it wanted to fetch, in its own words. "" if there is none.
func wanted(log []byte, as []record.Attempt) string {
	hosts := map[string]bool{}
	for _, a := range as {
		h := a.Target
		if a.Kind == "connect" {
			h, _, _ = strings.Cut(h, ":")
		}
		hosts[strings.ToLower(strings.TrimSuffix(h, "."))] = true
	}
	for _, m := range address().FindAll(log, 1000) {
		u, err := url.Parse(strings.TrimRight(string(m), ".,;:"))
		if err != nil || u.User != nil || !hosts[strings.ToLower(u.Hostname())] || strings.Trim(u.Path, "/") == "" {
			continue
		}
		u.RawQuery, u.Fragment = "", ""
		return u.String()
	}
	return ""
}

// native is a compiler's option, as logs show it, that makes the result depend on
// the builder's processor.
var native = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?m)(?:^|[\s'"])-m(?:arch|tune|cpu)=native\b`) })

// limitOf gives the limit that a class of failures is about, in its own unit; 0 if
// there is none.
func limitOf(c record.FailureClass, l sandbox.Limits) int64 {
	switch c {
	case record.FailTimeout:
		return int64(l.Wall)
	case record.FailMemory:
		return l.Memory
	case record.FailProcesses:
		return int64(l.Processes)
	case record.FailDisk:
		return l.Disk
	case record.FailLog:
		return l.Log
	}
	return 0
}

func limitMessage(c record.FailureClass, l sandbox.Limits) string {
	switch c {
	case record.FailTimeout:
		return fmt.Sprintf("The build did not end within %s.", l.Wall)
	case record.FailMemory:
		return fmt.Sprintf("The build wanted more than %d MiB of memory.", l.Memory>>20)
	case record.FailProcesses:
		return fmt.Sprintf("The build wanted more than %d processes.", l.Processes)
	case record.FailDisk:
		return fmt.Sprintf("The build wanted more than %d MiB of disk.", l.Disk>>20)
	case record.FailLog:
		return fmt.Sprintf("The build wrote more than %d MiB of log.", l.Log>>20)
	case record.FailOutput:
		return fmt.Sprintf("The build left more than %d MiB of output.", l.Output>>20)
	}
	return "The build ran into a limit (" + string(c) + ")."
}
