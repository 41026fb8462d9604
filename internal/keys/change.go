package keys

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hallmark/internal/fault"
)

// Change is a rotation, or with Revoke a revocation.
type Change struct {
	Role Role
	// URI names the new key in a KMS; empty: a new key in a file. Of a revocation of
	// a key that is in use, it names the one that comes in its place.
	URI string
	Now time.Time // when it is done

	// Revoke is the ID of the key that is not believed any more; empty: the key in
	// use goes out of it and stays believed for what it made until now.
	Revoke string
	Since  time.Time // what it made from then on is not believed
	Why    string    // a sentence
	Index  int64     // number of the first log entry from Since on; what a signer signed is not believed from there on

	// Size and Checkpoint are those of the log's newest part as it ends, for a change
	// by which that part ends.
	Size       int64
	Checkpoint string
}

// Result says what a change did.
type Result struct {
	Action string    `json:"action"` // rotate, revoke
	Role   Role      `json:"role"`
	Key    string    `json:"key"`                         // ID of the key that went out of use, or was revoked
	New    string    `json:"new,omitempty"`               // ID of the key in its place
	Since  time.Time `json:"since,omitzero"`              // of a revocation
	Stamps string    `json:"new_timestamp_key,omitempty"` // ID of the time stamp's key from now on, if that changed with it
}

// Apply changes the keys in the folder. The new keys are written first, then the
// ring is replaced at once, and then the private keys that are out of use are taken
// away: a process killed in between leaves the keys before or the keys after, and
// the next one that calls Sweep tidies up. The set itself stays as it was; Read
// gives the new one.
//
// A signer's key goes out of use together with the certificates of the time stamp,
// and whatever is revoked ends what the time stamp's certificates of its time are
// good for: verifiers who know of no revoked keys then refuse it too.
func (s *Set) Apply(c Change) (Result, error) {
	res, ring, files, err := s.plan(c)
	if err != nil {
		return res, err
	}
	journal := filepath.Join(s.dir, journalFile)
	if missing(journal) {
		files[journalFile] = []byte(hex.EncodeToString(s.journal) + "\n")
	}
	for name, b := range files {
		if err := replace(filepath.Join(s.dir, name), b); err != nil {
			return res, fmt.Errorf("write the key file %s: %w", name, err)
		}
	}
	b, err := ring.marshal()
	if err != nil {
		return res, err
	}
	if _, err := ParseRing(b); err != nil {
		return res, fmt.Errorf("the ring of keys would contradict itself: %w", err)
	}
	if err := replace(filepath.Join(s.dir, ringFile), b); err != nil {
		return res, fmt.Errorf("write the ring of keys: %w", err)
	}
	return res, Sweep(s.dir)
}

// plan gives the ring as it will be and the new files.
func (s *Set) plan(c Change) (Result, *Ring, map[string][]byte, error) {
	files := map[string][]byte{}
	// Time stamps are told in seconds: the old key's time ends with the second in which
	// the new one's begins.
	now := c.Now.UTC().Truncate(time.Second)
	end := now.Add(time.Second)
	c.Since = c.Since.UTC().Truncate(time.Second)
	r := s.ring.clone()
	active := r.Active(c.Role)
	fail := func(err error) (Result, *Ring, map[string][]byte, error) { return Result{}, nil, nil, err }
	if active.ID == "" {
		return fail(fault.New(fault.Usage, "%.40q is no role of a key: signer, log or timestamp", c.Role))
	}
	if now.Before(active.From) {
		return fail(fault.Advise(fault.Usage, "Set the clock right.", "change the %s's key: the clock says %s, and the key is in use from %s on", c.Role, stamp(now), stamp(active.From)))
	}
	res := Result{Action: "rotate", Role: c.Role, Key: active.ID}
	if c.Revoke != "" {
		e, ok := r.Find(c.Role, c.Revoke)
		switch {
		case !ok:
			return fail(fault.Advise(fault.NotFound, "List them: hallmark keys list", "there is no key %.40q of role %s", c.Revoke, c.Role))
		case c.Since.After(now):
			return fail(fault.New(fault.Usage, "revoke key %s: since %s, which is to come", e.ID, stamp(c.Since)))
		case strings.TrimSpace(c.Why) == "" || len(c.Why) > 500:
			return fail(fault.New(fault.Usage, "revoke key %s: say why, in a sentence", e.ID))
		case e.Revoked != nil && !c.Since.Before(e.Revoked.Since):
			return fail(fault.New(fault.Conflict, "revoke key %s: it is revoked since %s already, which can only be moved back", e.ID, stamp(e.Revoked.Since)))
		}
		res = Result{Action: "revoke", Role: c.Role, Key: e.ID, Since: c.Since}
	}
	last := c.Since.Add(-time.Nanosecond)
	revoked, ended := c.Revoke != "", end // ended: when the key that is changed went out of use
	in := c.Revoke == active.ID || !revoked
	if revoked {
		es := r.Of(c.Role)
		for i := range es {
			if es[i].ID != c.Revoke {
				continue
			}
			if es[i].Until != nil {
				ended = *es[i].Until
			}
			es[i].Revoked = &Revocation{Since: c.Since, Index: c.Index, Why: c.Why, At: now}
			if es[i].Until == nil || es[i].Until.After(last) {
				es[i].Until = &last
			}
		}
	}
	if in {
		if !revoked {
			es := r.Of(c.Role)
			es[len(es)-1].Until = &end
		}
		e, err := r.make(c.Role, c.URI, now, files)
		if err != nil {
			return fail(err)
		}
		if c.Role == RoleLog {
			es := r.Logs
			end := es[len(es)-1].Log
			end.Size, end.Checkpoint = &c.Size, c.Checkpoint
			e.Log = &Shard{Folder: "log-" + e.ID, First: end.First + c.Size}
		}
		if slices.ContainsFunc(r.Of(c.Role), func(o Entry) bool { return o.ID == e.ID && (c.Role != RoleTimestamp || o.Revoked != nil) }) {
			return fail(fault.New(fault.Conflict, "change the %s's key: %s was in use before; take another one", c.Role, e.ID))
		}
		r.set(c.Role, append(r.Of(c.Role), e))
		res.New = e.ID
	}
	// What stock verifiers see of a revocation is the time stamp's certificates.
	cut := false
	if revoked && c.Role != RoleTimestamp {
		for i := range r.Timestamps {
			t := &r.Timestamps[i]
			if t.From.Before(ended) && (t.Until == nil || t.Until.After(last)) {
				cut = cut || t.Until == nil
				t.Until = &last
			}
		}
	}
	if cut || in && c.Role == RoleSigner {
		ts := &r.Timestamps[len(r.Timestamps)-1]
		if ts.Until == nil {
			ts.Until = &end
		}
		uri := ""
		if isURI(ts.Key) {
			uri = ts.Key // the key stays, its certificates are new
		}
		e, err := r.make(RoleTimestamp, uri, now, files)
		if err != nil {
			return fail(err)
		}
		r.Timestamps = append(r.Timestamps, e)
		res.Stamps = e.ID
	}
	// Keys out of use sign no more, so nothing is lost with them, and nobody can
	// find them.
	for _, role := range Roles {
		for i := range r.Of(role) {
			if e := &r.Of(role)[i]; e.Until != nil {
				e.Key = ""
			}
		}
	}
	r.Events = append(r.Events, Event{At: now, Action: res.Action, Role: c.Role, Key: res.Key, New: res.New, Detail: detail(c)})
	return res, r, files, nil
}

func detail(c Change) string {
	if c.Revoke == "" {
		return ""
	}
	return "not believed since " + stamp(c.Since) + ": " + c.Why
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// make makes a new key, in a file or by its URI, and its entry. One key is for one
// role: none of the three statements can then stand in for another.
func (r *Ring) make(role Role, uri string, now time.Time, files map[string][]byte) (Entry, error) {
	e, k, err := newKey(role, uri, now)
	if err != nil {
		return e, err
	}
	if other, ok := r.holder(e.ID); ok && other != role {
		return e, shared(role, e.ID, other)
	}
	if k != nil {
		e.Key = string(role) + "-" + e.ID + ".pem"
		files[e.Key], err = privatePEM(k)
	}
	return e, err
}

// holder gives the role that a key has or had.
func (r *Ring) holder(id string) (role Role, ok bool) {
	for _, role := range Roles {
		if _, ok := r.Find(role, id); ok {
			return role, true
		}
	}
	return "", false
}

// shared says that a key cannot have two roles.
func shared(role Role, id string, other Role) error {
	return fault.Advise(fault.Conflict, "Make another one in the KMS.", "take the key %s for the %s: it is the %s's, and each has a key of its own", id, role, other)
}

func (r *Ring) clone() *Ring {
	n := *r
	for _, role := range Roles {
		es := slices.Clone(r.Of(role))
		for i := range es {
			if es[i].Log != nil {
				l := *es[i].Log
				es[i].Log = &l
			}
		}
		n.set(role, es)
	}
	n.Events = slices.Clone(r.Events)
	return &n
}

// Sweep takes away what the ring does not name: new keys that never came into use,
// and keys that are out of use. It does nothing in a folder without a ring.
func Sweep(dir string) error {
	b, err := readPrivateUpTo(filepath.Join(dir, ringFile), maxRing)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	r, err := ParseRing(b)
	if err != nil {
		return err
	}
	keep := map[string]bool{ringFile: true, journalFile: true}
	for _, role := range Roles {
		keep[r.Active(role).Key] = true
	}
	es, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range es {
		if keep[e.Name()] || !e.Type().IsRegular() || !strings.HasPrefix(e.Name(), newPrefix) && !strings.HasSuffix(e.Name(), ".pem") {
			continue
		}
		err := failing("remove " + e.Name())
		if err == nil {
			err = os.Remove(filepath.Join(dir, e.Name()))
		}
		if err != nil {
			return fmt.Errorf("take away a key that is out of use: %w", err)
		}
	}
	return syncDir(dir)
}

// failing is where tests stop a change in the middle.
var failing = func(string) error { return nil }

// newPrefix begins the names of files that are not whole yet.
const newPrefix = ".new-"

// replace writes a file of mode 0600 under another name, syncs it, and gives it its
// name.
func replace(path string, b []byte) error {
	if err := failing("write " + filepath.Base(path)); err != nil {
		return err
	}
	tmp := filepath.Join(filepath.Dir(path), newPrefix+filepath.Base(path))
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := writeSynced(tmp, b); err != nil {
		return err
	}
	if err := failing("rename " + filepath.Base(path)); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}
