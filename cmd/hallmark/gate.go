package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"hallmark/internal/app"
	"hallmark/internal/client"
	"hallmark/internal/remedy"
	"hallmark/internal/sbom"
	"hallmark/internal/status"
)

type statusCmd struct {
	MinSecure    *int   `name:"min-secure" help:"Say no (exit 3) below this percentage; waivers that hold answer." placeholder:"N"`
	NoNewUnknown bool   `name:"no-new-unknown" help:"Say no (exit 3) if an artifact is of grade unknown that was not so in the parent commit; waivers that hold answer."`
	Format       string `help:"text, json, csv or sarif (2.1.0)." enum:"text,json,csv,sarif" default:"text"`
}

// Run shows the status, then answers the gate. What waivers answer for is said on
// standard error: it changes neither the percentage nor the document.
func (c *statusCmd) Run(e *env) error {
	if e.remote() {
		return c.onServer(e)
	}
	a, r, err := e.project(false, (*app.App).Glance)
	if err != nil {
		return err
	}
	defer a.Close()
	if c.MinSecure == nil && !c.NoNewUnknown && c.Format != "sarif" {
		return c.show(e, r.Document, nil)
	}
	g, waivers, err := a.GateOf(e.ctx, r, c.MinSecure, c.NoNewUnknown)
	if err != nil {
		return err
	}
	if err := c.show(e, r.Document, waivers); err != nil {
		return err
	}
	return c.gate(e, g.OK, g.Refusals, g.Notes())
}

// show writes the status in the format that was asked for.
func (c *statusCmd) show(e *env, d status.Document, waivers []remedy.Waiver) error {
	var b []byte
	var err error
	switch c.Format {
	case "csv":
		b, err = remedy.CSV(d)
	case "sarif":
		b, err = remedy.SARIF(d, waivers, version)
	case "json":
		enc := json.NewEncoder(e.out)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return enc.Encode(d)
	default:
		return e.show(d)
	}
	if err != nil {
		return err
	}
	e.endProgress()
	_, err = e.out.Write(b)
	return err
}

// gate says what a gate that was asked answers, and on which waivers that rests.
func (c *statusCmd) gate(e *env, ok bool, refusals, notes []string) error {
	if c.MinSecure == nil && !c.NoNewUnknown {
		return nil
	}
	for _, n := range notes {
		fmt.Fprintln(e.err, client.Clean(n, 4000))
	}
	if !ok {
		return &gateError{exitDenied, client.Clean(strings.Join(refusals, "; "), 4000)}
	}
	return nil
}

type exportSBOM struct {
	Format string `help:"cyclonedx (1.6) or spdx (2.3), both JSON." enum:"cyclonedx,spdx" default:"cyclonedx"`
	output `embed:""`
}

// Run writes the bill of materials of the project's newest commit.
func (c *exportSBOM) Run(e *env) error {
	f, err := sbom.FormatOf(c.Format)
	if err != nil {
		return err
	}
	if e.remote() {
		return c.onServer(e, func(s *client.Client, name string) ([]byte, error) { return s.SBOM(e.ctx, name, f) })
	}
	a, r, err := e.report(false)
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := a.SBOM(e.ctx, r, f)
	if err != nil {
		return err
	}
	return c.write(e, b)
}

// exportReport is the report for an auditor.
type exportReport struct {
	output `embed:""`
}

// Run writes the report for an auditor as JSON.
func (c *exportReport) Run(e *env) error {
	if e.remote() {
		return c.onServer(e, func(s *client.Client, name string) ([]byte, error) { return s.AuditReport(e.ctx, name) })
	}
	a, r, err := e.report(false)
	if err != nil {
		return err
	}
	defer a.Close()
	rep, err := a.AuditReport(e.ctx, r)
	if err != nil {
		return err
	}
	var b strings.Builder
	enc := json.NewEncoder(io.Writer(&b))
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(rep); err != nil {
		return err
	}
	return c.write(e, []byte(b.String()))
}
