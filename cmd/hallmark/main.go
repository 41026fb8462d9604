// Command hallmark builds open-source packages from source, twice, proves how,
// and shows what of a project is proven.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"hallmark/internal/fault"
)

// Exit codes (design: "Names that outside checks rely on").
const (
	exitDone       = 0
	exitFailed     = 1
	exitUsage      = 2
	exitDenied     = 3
	exitUnverified = 4
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is the whole program but for the process around it.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var c cli
	code := -1
	parser, err := kong.New(&c, kong.Name("hallmark"), kong.Description("Open-source packages, built from source and proven."),
		kong.UsageOnError(), kong.Writers(stdout, stderr), kong.Exit(func(n int) { code = n }),
		kong.Vars{"version": versionText()}, kong.ConfigureHelp(kong.HelpOptions{Compact: true}))
	if err != nil {
		fmt.Fprintln(stderr, "hallmark:", err)
		return exitFailed
	}
	kctx, err := parser.Parse(args)
	if code >= 0 { // --help, --version
		return code
	}
	if err != nil {
		fmt.Fprintln(stderr, "hallmark:", err)
		fmt.Fprintln(stderr, "  See: hallmark --help")
		return exitUsage
	}
	e := &env{ctx: ctx, out: stdout, err: stderr, global: &c.Global}
	err = kctx.Run(e)
	e.endProgress()
	return exitCode(ctx, stderr, err)
}

// exitCode says an error to the person and turns its kind into an exit code.
func exitCode(ctx context.Context, stderr io.Writer, err error) int {
	if err == nil {
		return exitDone
	}
	var gate *gateError
	if errors.As(err, &gate) {
		fmt.Fprintln(stderr, "hallmark:", gate.text)
		return gate.code
	}
	if ctx.Err() != nil {
		fmt.Fprintln(stderr, "hallmark: stopped; what was done is kept, and the same command goes on from there")
		return exitFailed
	}
	fmt.Fprintln(stderr, "hallmark:", err)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		fmt.Fprintln(stderr, "  There is no space left: free some and run the same command again; what was done is kept, and it goes on from there.")
	}
	switch fault.KindOf(err) {
	case fault.Usage:
		return exitUsage
	case fault.Denied:
		return exitDenied
	case fault.Unverified:
		return exitUnverified
	}
	return exitFailed
}

// gateError is an answer, not a mishap: its text and exit code.
type gateError struct {
	code int
	text string
}

func (g *gateError) Error() string { return g.text }
