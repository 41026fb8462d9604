package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"hallmark/internal/app"
	"hallmark/internal/fault"
	"hallmark/internal/keys"
)

// keysCmd is about the keys of signer, log and time stamp.
type keysCmd struct {
	List   keysListCmd   `cmd:"" default:"1" help:"List the keys that there were and are; nothing secret."`
	Rotate keysRotateCmd `cmd:"" help:"Put a new key in the place of one; what the old one made stays believed."`
	Revoke keysRevokeCmd `cmd:"" help:"Believe nothing that a key made from a time on; a new one comes in its place."`
}

type keysListCmd struct{}

// Run lists the keys.
func (c *keysListCmd) Run(e *env) error {
	a, err := e.open(false)
	if err != nil {
		return err
	}
	defer a.Close()
	ks, err := a.Keys()
	if err != nil {
		return err
	}
	return e.print(ks, func(w io.Writer) error {
		t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
		for _, k := range ks {
			when := "since " + k.From.Format(time.RFC3339)
			switch {
			case k.Revoked != nil:
				when = "not believed since " + k.Revoked.Since.Format(time.RFC3339) + " (" + k.Revoked.Why + ")"
			case k.Until != nil:
				when = "from " + k.From.Format(time.RFC3339) + " until " + k.Until.Format(time.RFC3339)
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", k.Role, k.ID, k.State, k.Where, when)
		}
		return t.Flush()
	})
}

// keyRole is a role on the command line.
type keyRole struct {
	Role string `arg:"" name:"ROLE" enum:"signer,log,timestamp" help:"signer, log or timestamp."`
}

type keysRotateCmd struct {
	keyRole
	Key  string `name:"key" help:"URI of the new key in a KMS; default: a new key in a file of the data directory." placeholder:"KMS-URI"`
	Lost bool   `help:"The old private key is lost: do not try to use it."`
}

// Run rotates a key.
func (c *keysRotateCmd) Run(e *env) error {
	return e.changeKey(app.KeyChange{Role: keys.Role(c.Role), URI: c.Key, Lost: c.Lost})
}

type keysRevokeCmd struct {
	keyRole
	ID    string   `arg:"" name:"KEY" help:"ID of the key, or current."`
	Since timeFlag `help:"From when on it is not believed: when it may have come into other hands." required:"" placeholder:"TIME"`
	Why   string   `help:"A sentence for the audit log and for people who ask." required:"" placeholder:"TEXT"`
	Key   string   `name:"key" help:"URI of the key in a KMS that comes in its place; default: a new key in a file." placeholder:"KMS-URI"`
	Lost  bool     `help:"Its private key is gone as well: do not try to use it."`
}

// Run revokes a key.
func (c *keysRevokeCmd) Run(e *env) error {
	return e.changeKey(app.KeyChange{Role: keys.Role(c.Role), URI: c.Key, Lost: c.Lost, Revoke: c.ID, Since: c.Since.Time, Why: c.Why})
}

func (e *env) changeKey(c app.KeyChange) error {
	if c.URI != "" {
		if err := keys.CheckURI(c.URI); err != nil {
			return err
		}
	}
	if strings.TrimSpace(c.Why) == "" && c.Revoke != "" {
		return fault.New(fault.Usage, "keys revoke: say why, in a sentence: --why TEXT")
	}
	cfg, err := e.config(true)
	if err != nil {
		return err
	}
	res, err := app.ChangeKey(e.ctx, cfg, c)
	if err != nil {
		return err
	}
	return e.print(res, func(w io.Writer) error {
		switch {
		case res.Action == "revoke" && res.New != "":
			fmt.Fprintf(w, "The %s's key %s is not believed since %s. In its place: %s\n", res.Role, res.Key, res.Since.Format(time.RFC3339), res.New)
		case res.Action == "revoke":
			fmt.Fprintf(w, "The %s's key %s is not believed since %s.\n", res.Role, res.Key, res.Since.Format(time.RFC3339))
		default:
			fmt.Fprintf(w, "The %s's key was %s and is %s from now on.\n", res.Role, res.Key, res.New)
		}
		_, err := fmt.Fprintln(w, "Next: hallmark builds in each project (it signs anew what has to be), hallmark export trusted-root for whoever verifies, and a backup. A server that runs takes it up within seconds.")
		return err
	})
}
