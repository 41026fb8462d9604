package app

import (
	"context"
	"crypto"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"hallmark/internal/digest"
	"hallmark/internal/evidence"
	"hallmark/internal/fault"
	"hallmark/internal/keys"
	"hallmark/internal/record"
	"hallmark/internal/store"
)

// shard is the part of the log that one key signed.
type shard struct {
	keys.Entry
	dir    string
	pub    crypto.PublicKey
	origin string
}

// shards lists the parts of the log, oldest first; the last one grows.
func (a *App) shards() ([]shard, error) {
	var out []shard
	for _, e := range a.keys.Shards() {
		pub, err := e.PublicKey()
		if err != nil {
			return nil, err
		}
		out = append(out, shard{e, a.path(e.Log.Folder), pub, evidence.LogOrigin(pub)})
	}
	return out, nil
}

// logDir is the folder of the part of the log that grows.
func (a *App) logDir() string { return a.path(a.keys.Ring().Active(keys.RoleLog).Log.Folder) }

// logFirst is the number of the first entry of the part that grows.
func (a *App) logFirst() int64 { return a.keys.Ring().Active(keys.RoleLog).Log.First }

// number is the number of a statement's entry, counted through all parts of the log.
func (a *App) number(v *evidence.Verified) (int64, error) {
	s, err := a.shardOf(v.LogOrigin)
	return s.Log.First + v.LogIndex, err
}

func (a *App) shardOf(origin string) (shard, error) {
	all, err := a.shards()
	if err != nil {
		return shard{Entry: keys.Entry{Log: &keys.Shard{}}}, err
	}
	for _, s := range all {
		if s.origin == origin {
			return s, nil
		}
	}
	return shard{Entry: keys.Entry{Log: &keys.Shard{}}}, fault.New(fault.Unverified, "log: %.80q is none of this data directory's", origin)
}

// checkWholeLog checks all parts of the log, and that those that have ended are as
// they ended. It gives the number of entries.
func (a *App) checkWholeLog(ctx context.Context) (uint64, error) {
	all, err := a.shards()
	if err != nil {
		return 0, err
	}
	var n uint64
	for _, s := range all {
		size, err := evidence.CheckLog(ctx, s.dir, s.pub)
		if err != nil {
			return n, err
		}
		if s.Log.Size != nil && int64(size) != *s.Log.Size {
			return n, fault.Advise(fault.Corrupt, "Put the folder "+s.Log.Folder+"/ back from a backup.",
				"the log in %s has %d entries, and ended with %d", s.dir, size, *s.Log.Size)
		}
		n += size
	}
	return n, nil
}

// wholeLogSize is how many entries all parts of the log have under signed checkpoints.
func (a *App) wholeLogSize() (int64, error) {
	last := a.keys.Ring().Active(keys.RoleLog)
	pub, err := last.PublicKey()
	if err != nil {
		return 0, err
	}
	size, err := evidence.LogSize(a.logDir(), pub)
	return last.Log.First + int64(size), err
}

// logConsistent checks that the log has grown from what a bundle's checkpoint shows.
func (a *App) logConsistent(ctx context.Context, v *evidence.Verified) error {
	s, err := a.shardOf(v.LogOrigin)
	if err != nil {
		return err
	}
	return evidence.CheckConsistency(ctx, s.dir, s.pub, v)
}

// outlived tells whether a stored bundle is whole, and only made at a time or by a key
// that is believed no more.
func (a *App) outlived(ctx context.Context, row store.Evidence) bool {
	v, err := a.madeHere()
	if err != nil {
		return false
	}
	b, err := a.Blobs.ReadAll(row.Blob, maxDocument)
	if err != nil {
		return false
	}
	vf, err := v.VerifyWhole(b, row.Subject, row.PredicateType)
	return err == nil && a.logConsistent(ctx, vf) == nil
}

// signerOf gives the ID of the key that a builder id of ours names.
func signerOf(builder string) string {
	rest, ok := strings.CutSuffix(builder, "/"+Mode)
	i := strings.LastIndex(rest, "/builder/")
	if !ok || i < 0 {
		return ""
	}
	return rest[i+len("/builder/"):]
}

// ownBuilder tells whether a builder id names one of this data directory's keys, and
// an address.
func (a *App) ownBuilder(id string) bool {
	key := signerOf(id)
	if _, ok := a.keys.Ring().Find(keys.RoleSigner, key); !ok {
		return false
	}
	_, err := evidence.ExternalURL(strings.TrimSuffix(id, "/builder/"+key+"/"+Mode))
	return err == nil
}

// revocation says why a build is believed no more; empty: it is. A build is believed
// if the key that its builder is named after signed its provenance while that key
// was believed, or still can sign it. signed tells whether it did.
func (a *App) revocation(b record.Build, signed func() bool) string {
	id := signerOf(b.Builder)
	e, ok := a.keys.Ring().Find(keys.RoleSigner, id)
	if !ok || e.Until == nil { // not ours, or in use
		return ""
	}
	if b.Outcome != record.Succeeded || b.Output == nil || b.Purpose != record.First && b.Purpose != record.Rebuild {
		// Nothing was signed about it, so what counts is when it ended.
		if e.Revoked == nil || b.Finished.Before(e.Revoked.Since) {
			return ""
		}
	} else if signed() {
		return ""
	}
	if e.Revoked != nil {
		return fmt.Sprintf("the key %s is not believed since %s (%s)", id, e.Revoked.Since.Format(time.RFC3339), e.Revoked.Why)
	}
	return fmt.Sprintf("the key %s has gone out of use without having signed it in time", id)
}

// revoked is revocation for the engine, which then builds anew.
func (a *App) revoked(ctx context.Context, b record.Build) (bool, error) {
	var failed error
	why := a.revocation(b, func() bool {
		rows, err := a.Store.EvidenceOf(ctx, []digest.Digest{b.Output.Digest})
		if err != nil {
			failed = err
			return true
		}
		check, err := a.checker(false)
		if err != nil {
			failed = err
			return true
		}
		for _, row := range rows[b.Output.Digest] {
			if row.PredicateType == evidence.TypeProvenance && row.Step == b.Step {
				if o := check.verify(row.Blob, b.Output.Digest, row.PredicateType); o.err == nil && o.build == b.ID && o.verified.KeyID == signerOf(b.Builder) {
					return true
				}
			}
		}
		return false
	})
	return why != "", failed
}

// signerFile gives who signed a bundle of ours, and what the file with that key is
// called in an export.
func (a *App) signerFile(bundle []byte) (keys.Entry, string) {
	e, ok := evidence.SignedBy(bundle, a.keys)
	if !ok || e.ID == a.KeyID() {
		return a.keys.Ring().Active(keys.RoleSigner), publicKeyFile
	}
	return e, "key-" + e.ID + ".pub"
}

// formerKey tells whether b is the public key of a signer that went out of use.
func (a *App) formerKey(b []byte) bool {
	for _, e := range a.keys.Ring().Signers {
		if e.Public == string(b) {
			return true
		}
	}
	return false
}

// KeyView is one key as a person sees it: nothing of it is secret.
type KeyView struct {
	Role     keys.Role        `json:"role"`
	ID       string           `json:"id"`
	State    string           `json:"state"` // in-use, rotated, revoked
	Where    string           `json:"where"` // file, the URI of a KMS, destroyed
	From     time.Time        `json:"from"`
	Until    *time.Time       `json:"until,omitempty"`
	Revoked  *keys.Revocation `json:"revoked,omitempty"`
	Folder   string           `json:"folder,omitempty"`      // of a log
	First    *int64           `json:"first_entry,omitempty"` // of a log
	Size     *int64           `json:"entries,omitempty"`     // of a log that has ended
	NotAfter *time.Time       `json:"not_after,omitempty"`   // of a time stamp's certificate
	Public   string           `json:"public_key"`
}

// Keys lists all keys that there were and are.
func (a *App) Keys() ([]KeyView, error) {
	var out []KeyView
	for _, role := range keys.Roles {
		for _, e := range a.keys.Ring().Of(role) {
			v := KeyView{Role: role, ID: e.ID, State: "in-use", Where: "file", From: e.From, Until: e.Until, Revoked: e.Revoked, Public: e.Public}
			switch {
			case e.Revoked != nil:
				v.State = "revoked"
			case e.Until != nil:
				v.State = "rotated"
			}
			switch {
			case e.Key == "":
				v.Where = "destroyed"
			case strings.Contains(e.Key, "://"):
				v.Where = e.Key
			}
			if e.Log != nil {
				v.Folder, v.First, v.Size = e.Log.Folder, &e.Log.First, e.Log.Size
			}
			if role == keys.RoleTimestamp {
				leaf, _, err := e.Certificates()
				if err != nil {
					return nil, err
				}
				v.NotAfter = &leaf.NotAfter
			}
			out = append(out, v)
		}
	}
	return out, nil
}

// KeyChange says what is to be done to a key.
type KeyChange struct {
	Role keys.Role
	URI  string // of the new key in a KMS; empty: in a file
	// Lost says that the private key is gone, so that what it was about to sign cannot
	// be finished.
	Lost bool

	Revoke string // ID, or "current"; empty: rotate
	Since  time.Time
	Why    string
}

// ChangeKey rotates or revokes a key of a data directory that nothing else is
// writing to. What was signed and not yet in the log is finished first. The change
// itself is atomic; the audit log tells of it as soon as the next writer has the
// database, which is at once unless the process is killed in between.
func ChangeKey(ctx context.Context, cfg Config, c KeyChange) (keys.Result, error) {
	if c.Lost {
		cfg.LostKey = c.Role
	}
	cfg.KeyURIs = nil // where keys are is what changes
	a, err := Open(ctx, cfg, true)
	if err != nil {
		return keys.Result{}, err
	}
	res, err := a.changeKey(ctx, c)
	if e := a.Close(); err == nil {
		err = e
	}
	if err != nil {
		return res, fmt.Errorf("%s the %s's key: %w", verb(c), c.Role, err)
	}
	// The audit log, the new builder and the new log are a new opening's.
	cfg.LostKey = ""
	if a, err = Open(ctx, cfg, true); err != nil {
		return res, fmt.Errorf("the key was changed, but: %w", err)
	}
	return res, a.Close()
}

func verb(c KeyChange) string {
	if c.Revoke != "" {
		return "revoke"
	}
	return "rotate"
}

func (a *App) changeKey(ctx context.Context, c KeyChange) (keys.Result, error) {
	ring := a.keys.Ring()
	active := ring.Active(c.Role)
	if c.Revoke == "current" {
		c.Revoke = active.ID
	}
	ch := keys.Change{Role: c.Role, URI: c.URI, Revoke: c.Revoke, Since: c.Since, Why: c.Why, Now: time.Now()}
	if c.Revoke != "" {
		var err error
		if ch.Index, err = a.firstSince(ctx, c.Since); err != nil {
			return keys.Result{}, err
		}
	}
	if c.Lost && (c.Role == keys.RoleLog || c.Role == keys.RoleTimestamp) {
		left, err := a.Store.AllPending(ctx)
		if err != nil {
			return keys.Result{}, err
		}
		if len(left) > 0 {
			return keys.Result{}, fault.Advise(fault.Conflict, "Put the key back from a backup, run hallmark builds once, and then rotate it.",
				"%d batches of statements are signed and on their way into the log, and without this key they cannot arrive", len(left))
		}
	} else {
		auth, err := a.Authority(ctx)
		if err != nil {
			return keys.Result{}, err
		}
		if err := auth.Close(); err != nil {
			return keys.Result{}, err
		}
		a.authority = nil
	}
	if c.Role == keys.RoleLog && (c.Revoke == "" || c.Revoke == active.ID) {
		pub, err := active.PublicKey()
		if err != nil {
			return keys.Result{}, err
		}
		dir := a.path(active.Log.Folder)
		size, err := evidence.CheckLog(ctx, dir, pub) // what ends here has to be whole
		if err != nil {
			return keys.Result{}, err
		}
		ch.Size = int64(size)
		if size > 0 {
			if ch.Checkpoint, err = evidence.Checkpoint(dir, pub); err != nil {
				return keys.Result{}, err
			}
		}
	}
	return a.keys.Apply(ch)
}

// firstSince is the number of the first entry of the log whose time stamp is not
// before since; of all if there is none. What only a damaged bundle could tell is
// taken to be later.
func (a *App) firstSince(ctx context.Context, since time.Time) (int64, error) {
	n, err := a.wholeLogSize()
	if err != nil {
		return 0, err
	}
	v, err := a.verifier()
	if err != nil {
		return 0, err
	}
	rows, err := a.Store.AllEvidence(ctx)
	if err != nil {
		return 0, err
	}
	for _, row := range rows {
		if row.LogIndex == nil || *row.LogIndex >= n || row.Name == vsaDSSEFile || row.PredicateType == seedEvidenceType {
			continue
		}
		b, err := a.Blobs.ReadAll(row.Blob, maxDocument)
		if err != nil {
			return 0, err
		}
		vf, err := v.Verify(b, row.Subject, row.PredicateType)
		if err != nil {
			continue // not believed already
		}
		if !vf.Time.Before(since.Truncate(time.Second)) {
			n = *row.LogIndex
		}
	}
	return n, nil
}

// auditKeys tells the audit log what was done to the keys and is not in it yet.
func (a *App) auditKeys(ctx context.Context) error {
	events := a.keys.Ring().Events
	if len(events) == 0 {
		return nil
	}
	told, err := a.Store.KeyChanges(ctx)
	if err != nil {
		return err
	}
	for i := len(told); i < len(events); i++ {
		e := events[i]
		detail := e.Detail
		if e.New != "" {
			detail = strings.TrimSpace("from now on " + e.New + "; " + detail)
			detail = strings.TrimSuffix(detail, ";")
		}
		by := store.By{Actor: "operator", Via: "command", At: e.At}
		if err := a.Store.Note(ctx, by, "key."+e.Action, "", "", string(e.Role)+" "+e.Key, detail); err != nil {
			return err
		}
	}
	return nil
}

// fsckKeys checks that the ring of keys is not older than what the audit log tells
// of it, and that nothing lies about beside it.
func (a *App) fsckKeys(ctx context.Context) ([]Damage, error) {
	if a.keys == nil || a.Store == nil {
		return nil, nil
	}
	var out []Damage
	told, err := a.Store.KeyChanges(ctx)
	if err != nil {
		return []Damage{damage("database", err)}, nil
	}
	events := a.keys.Ring().Events
	for i, t := range told {
		if i < len(events) && t.Action == "key."+events[i].Action && t.Object == string(events[i].Role)+" "+events[i].Key && t.At.Equal(events[i].At.Truncate(time.Microsecond)) {
			continue
		}
		out = append(out, Damage{Where: filepath.Join("keys", "ring.json"),
			Message: fmt.Sprintf("the audit log tells of %s of %s at %s, of which it knows nothing: it was put back to an older state", t.Action, t.Object, t.At.Format(time.RFC3339)),
			Advice:  "Put the folder keys/ back from a newer backup; what was revoked since is believed again as long as it is like this."})
		break
	}
	return out, nil
}
