package main

import (
	"fmt"
	"io"

	"hallmark/internal/app"
)

type fsckCmd struct {
	Repair bool `help:"Mend what can be had again, and say of the rest what to do."`
}

func (c *fsckCmd) Run(e *env) error {
	cfg, err := e.config(true)
	if err != nil {
		return err
	}
	a, found, err := app.OpenFsck(e.ctx, cfg, c.Repair)
	if err != nil {
		return err
	}
	defer a.Close()
	check := a.Fsck
	if c.Repair {
		check = a.Repair
	}
	more, err := check(e.ctx)
	if err != nil {
		return err
	}
	found = append(found, more...)
	if found == nil {
		found = []app.Damage{}
	}
	bad := 0
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
