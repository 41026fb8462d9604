package main

import (
	"fmt"
	"io"

	"hallmark/internal/app"
)

type fsckCmd struct {
	Repair bool `help:"Mend what can be had again, and say of the rest what to do."`
}

// Run checks the data directory, here or of the server.
func (c *fsckCmd) Run(e *env) error {
	check := e.fsck
	if e.remote() {
		check = e.inspect
	}
	found, left, err := check(c.Repair)
	if err != nil {
		return err
	}
	if found == nil {
		found = []app.Damage{}
	}
	bad := left
	for _, d := range found {
		if !d.Repaired {
			bad++
		}
	}
	err = e.print(found, func(w io.Writer) error {
		for _, d := range found {
			what := ""
			if d.Repaired {
				what = "repaired: "
			}
			fmt.Fprintf(w, "%s%s: %s\n", what, d.Where, d.Message)
			if d.Advice != "" {
				fmt.Fprintf(w, "  %s\n", d.Advice)
			}
		}
		if left > 0 {
			fmt.Fprintf(w, "%d more places are not listed\n", left)
		}
		if len(found) == 0 {
			fmt.Fprintln(w, "clean")
		}
		return nil
	})
	if err == nil && bad > 0 {
		return &gateError{exitUnverified, fmt.Sprintf("%d places are damaged", bad)}
	}
	return err
}

// fsck checks the data directory here; nothing is left out of the list.
func (e *env) fsck(repair bool) (found []app.Damage, left int, err error) {
	cfg, err := e.config(true)
	if err != nil {
		return nil, 0, err
	}
	a, found, err := app.OpenFsck(e.ctx, cfg, repair)
	if err != nil {
		return nil, 0, err
	}
	defer a.Close()
	check := a.Fsck
	if repair {
		check = a.Repair
	}
	more, err := check(e.ctx)
	return append(found, more...), 0, err
}
