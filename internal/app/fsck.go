package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"hallmark/internal/api"
	"hallmark/internal/blob"
	"hallmark/internal/build"
	"hallmark/internal/digest"
	"hallmark/internal/ecosystem/debian"
	"hallmark/internal/evidence"
	"hallmark/internal/fault"
	"hallmark/internal/keys"
	"hallmark/internal/store"
)

// Damage is one thing that fsck found.
type Damage = api.Damage

// damage makes a Damage of an error, whose advice it takes.
func damage(where string, err error) Damage {
	var f *fault.Error
	if errors.As(err, &f) && f.Advice != "" {
		text := strings.ReplaceAll(err.Error(), "\n  "+f.Advice, "")
		return Damage{Where: where, Message: strings.Join(strings.Fields(text), " "), Advice: f.Advice}
	}
	return Damage{Where: where, Message: oneSentence(err)}
}

// OpenFsck opens a data directory to check it, or with repair to mend it. It needs
// the lock, as a writer does, but without repair it changes nothing and makes
// nothing, and a directory that cannot be written will do. What cannot even be
// opened is in the list of damage, and is left out by Fsck.
func OpenFsck(ctx context.Context, cfg Config, repair bool) (*App, []Damage, error) {
	a, err := newApp(cfg, repair)
	if err != nil {
		return nil, nil, err
	}
	if _, err := os.Stat(a.dir); err != nil {
		return nil, nil, fault.Advise(fault.NotFound, "Name another one with --data.", "check the data directory: %w", err)
	}
	if err := a.takeLock(); err != nil && (repair || !readOnly(err)) {
		return nil, nil, err
	}
	if repair {
		if err := a.emptyTmp(); err != nil {
			a.Close()
			return nil, nil, err
		}
	}
	var out []Damage
	if a.keys, err = keys.Read(a.path("keys")); err != nil {
		out = append(out, damage("keys", err))
	}
	if err := a.place(); err != nil && !fault.Is(err, fault.Corrupt) {
		a.Close()
		return nil, nil, err
	}
	open := blob.OpenReader
	if repair {
		open = blob.Open
	}
	if a.Blobs, err = open(a.path("blobs")); err != nil && !fault.Is(err, fault.NotFound) {
		out = append(out, damage("blobs", err))
	}
	if a.keys == nil || a.Blobs == nil {
		return a, out, nil
	}
	var openStore openStore = store.OpenReader
	if repair {
		openStore = store.OpenWriter
	}
	if _, err := os.Lstat(a.path(databaseFile)); err != nil && cfg.Database == "" {
		out = append(out, Damage{Where: "database", Message: oneSentence(fmt.Errorf("there is none: %w", err)), Advice: "Put hallmark.db back from a backup."})
	} else if err = a.openRows(ctx, openStore); cfg.Database != "" && (fault.Is(err, fault.Unavailable) || fault.Is(err, fault.Conflict) || fault.Is(err, fault.Usage)) {
		// Nothing is known to be damaged: the server is not there, or does not let us in.
		a.Store = nil
		a.Close()
		return nil, nil, err
	} else if err != nil {
		a.Store = nil
		out = append(out, damage("database", err))
	}
	a.writer = false // nothing new is recorded
	if err := a.settle(); err != nil {
		out = append(out, damage("settings.json", err))
	}
	a.writer = repair
	return a, out, nil
}

// readOnly tells whether an error says that a place cannot be written.
func readOnly(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, errReadOnly)
}

// Fsck checks database, blobs, log and evidence against one another and names what
// is damaged.
func (a *App) Fsck(ctx context.Context) ([]Damage, error) { return a.Check(ctx, true) }

// Check is Fsck; without caches, the layers and the tree of the seed are left out.
func (a *App) Check(ctx context.Context, caches bool) ([]Damage, error) {
	var out []Damage
	for _, part := range []func(context.Context) ([]Damage, error){a.fsckKeys, a.fsckSettings, a.fsckStore, a.fsckBlobs, a.fsckLog, a.fsckEvidence} {
		more, err := part(ctx)
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
	}
	if caches {
		more, err := a.fsckCaches(ctx)
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
	}
	return out, ctx.Err()
}

// fsckSettings checks that what the directory keeps about itself fits its keys
// and its builds: each builder is an address, our key and our mode, the newest
// address is one of theirs, and each build was made by one of them.
func (a *App) fsckSettings(ctx context.Context) ([]Damage, error) {
	if a.keys == nil {
		return nil, nil
	}
	var out []Damage
	bad := func(format string, args ...any) {
		out = append(out, Damage{Where: "settings.json", Message: fmt.Sprintf(format, args...),
			Advice: "Put settings.json back from a backup; builds are trusted only from the builders that are in it."})
	}
	b, err := os.ReadFile(a.path("settings.json"))
	if errors.Is(err, fs.ErrNotExist) {
		if a.Store == nil {
			return nil, nil
		}
		bad("it is missing")
		return out, nil
	}
	var s settings
	if err != nil || json.Unmarshal(b, &s) != nil {
		return nil, nil // named when it was opened
	}
	again, err := s.marshal()
	if err != nil || !bytes.Equal(again, b) {
		bad("it is not spelled as it is written")
	}
	ids := map[string]bool{}
	for _, id := range s.Builders {
		if !a.ownBuilder(id) {
			bad("builder %.200q is not one of this directory's key %s", id, a.KeyID())
		}
		ids[id] = true
	}
	if id := strings.TrimSuffix(s.ExternalURL, "/") + "/builder/" + a.KeyID() + "/" + Mode; !ids[id] {
		bad("its address %.200q is not that of any of its builders", s.ExternalURL)
	}
	if a.Store == nil {
		return out, nil
	}
	used, err := a.Store.Builders(ctx)
	if err != nil {
		return append(out, damage("database", err)), nil
	}
	for _, id := range used {
		if !ids[id] {
			bad("there are builds by %.200q, which is not in it", id)
		}
	}
	return out, nil
}

func (a *App) fsckStore(ctx context.Context) ([]Damage, error) {
	if a.Store == nil {
		return nil, nil
	}
	found, err := a.Store.Check(ctx)
	var out []Damage
	for _, f := range found {
		advice := "Put " + a.databaseName() + " back from a backup."
		if f.Blob != "" {
			advice = repairAdvice
		}
		out = append(out, Damage{Where: f.Table + " " + f.Row, Message: f.Message, Advice: advice})
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		out = append(out, damage("database", err))
	}
	return out, nil
}

const repairAdvice = "Run hallmark fsck --repair, and then hallmark builds in the project."

// fsckBlobs reads every blob and says of a damaged one what it was for.
func (a *App) fsckBlobs(ctx context.Context) ([]Damage, error) {
	if a.Blobs == nil {
		return nil, nil
	}
	uses := map[digest.Digest][]string{}
	if a.Store != nil {
		_ = a.Store.References(ctx, func(table, row, column string, d digest.Digest) error {
			if len(uses[d]) < 3 {
				uses[d] = append(uses[d], column+" of "+table+" "+row)
			}
			return nil
		})
	}
	var out []Damage
	a.progress.Stage("check blobs")
	n := 0
	err := a.Blobs.Walk(func(d digest.Digest, _ int64) error {
		if n++; n%50 == 0 {
			a.progress.Step(n, 0, d.Short())
		}
		if err := a.Blobs.Check(d); err != nil {
			x := damage("blob "+d.String(), err)
			if u := uses[d]; len(u) > 0 {
				x.Message += " (it is the " + strings.Join(u, ", the ") + ")"
			}
			x.Advice = repairAdvice
			out = append(out, x)
		}
		return ctx.Err()
	})
	if fault.Is(err, fault.Corrupt) {
		out = append(out, damage("blobs", err))
	} else if err != nil {
		return nil, err
	}
	return out, nil
}

func (a *App) fsckLog(ctx context.Context) ([]Damage, error) {
	if a.keys == nil {
		return nil, nil
	}
	_, err := a.checkWholeLog(ctx)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return []Damage{damage("log", err)}, nil
	}
	return nil, nil
}

// fsckCaches checks the seed's tree and the layers. What is damaged of them is
// taken away by repair and made anew.
func (a *App) fsckCaches(ctx context.Context) ([]Damage, error) {
	var out []Damage
	const again = "Run hallmark fsck --repair, or remove the folder: it is a cache and is made anew."
	l, err := debian.LoadLayer(a.pin, a.seedDir())
	if err == nil {
		a.progress.Stage("check the seed")
		err = debian.Verify(l.Dir, l)
	}
	if err != nil && !fault.Is(err, fault.NotFound) {
		out = append(out, Damage{Where: "layer " + filepath.Base(filepath.Dir(a.seedDir())), Message: damage("", err).Message, Advice: again})
	}
	a.progress.Stage("check layers")
	bad, err := build.CheckLayers(ctx, a.path("layers"))
	if err != nil {
		return nil, err
	}
	for _, key := range sortedKeys(bad) {
		out = append(out, Damage{Where: "layer " + key, Message: bad[key], Advice: again})
	}
	return out, nil
}

func sortedKeys(m map[string]string) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}

// logged is what the stored bundles say of the log.
type logged struct {
	rows    map[int64]*evidence.Verified // by the entry's number
	wrong   []Damage
	waiting int64 // entries from here on may still be on their way into the database; -1: none
}

// verifier checks bundles against this directory's own keys.
func (a *App) verifier() (*evidence.Verifier, error) {
	v, _, err := a.ownVerifier()
	return v, err
}

// madeHere checks that bundles are as they were made, by whichever of this
// directory's keys, and whether or not that one is believed still.
func (a *App) madeHere() (*evidence.Verifier, error) {
	t, err := evidence.EveryTrust(a.keys)
	if err != nil {
		return nil, err
	}
	return evidence.NewVerifier(t)
}

// bundles verifies every stored bundle.
func (a *App) bundles(ctx context.Context) (*logged, error) {
	l := &logged{rows: map[int64]*evidence.Verified{}, waiting: -1}
	check, err := a.madeHere()
	if err != nil {
		return nil, err
	}
	rows, err := a.Store.AllEvidence(ctx)
	if err != nil {
		l.wrong = append(l.wrong, damage("database", err))
		return l, nil
	}
	bad := func(row store.Evidence, err error) {
		d := damage("evidence "+row.Subject.Short()+"/"+row.Name, err)
		if d.Advice == "" {
			d.Advice = "Put the blob " + row.Blob.String() + " back from a backup; hallmark builds signs the same thing anew, as a new entry."
		}
		l.wrong = append(l.wrong, d)
	}
	a.progress.Stage("check evidence")
	var bare []store.Evidence
	for i, row := range rows {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		a.progress.Step(i+1, len(rows), row.Name)
		if row.PredicateType == seedEvidenceType {
			continue
		}
		if row.Name == vsaDSSEFile {
			bare = append(bare, row)
			continue
		}
		b, err := a.Blobs.ReadAll(row.Blob, maxDocument)
		if err != nil {
			continue // named already
		}
		v, err := check.VerifyWhole(b, row.Subject, row.PredicateType)
		var n int64
		if err == nil {
			n, err = a.number(v)
		}
		switch {
		case err != nil:
			bad(row, err)
			continue
		case row.LogIndex == nil || *row.LogIndex != n:
			bad(row, fmt.Errorf("its row names another log entry than the bundle, which says %d", n))
		case l.rows[n] != nil:
			bad(row, fmt.Errorf("two rows are about log entry %d", n))
		}
		l.rows[n] = v
	}
	for _, row := range bare {
		b, err := a.Blobs.ReadAll(row.Blob, maxDocument)
		if err != nil {
			continue
		}
		if row.LogIndex == nil || l.rows[*row.LogIndex] == nil || !bytes.Equal(l.rows[*row.LogIndex].DSSE, b) {
			bad(row, errors.New("it is not the envelope of the bundle with the same log entry"))
		}
	}
	left, err := a.Store.AllPending(ctx)
	if err != nil {
		l.wrong = append(l.wrong, damage("database", err))
	}
	for _, p := range left {
		var b batch
		if err := a.get(p.Blob, &b); err != nil {
			l.wrong = append(l.wrong, damage("pending "+p.Blob.String(), err))
			continue
		}
		if from := a.logFirst() + b.From; l.waiting < 0 || from < l.waiting {
			l.waiting = from
		}
	}
	return l, nil
}

// fsckEvidence verifies every stored bundle, that the log holds its entry, and
// that each entry of the log has its evidence: log and database agree.
func (a *App) fsckEvidence(ctx context.Context) ([]Damage, error) {
	if a.keys == nil || a.Store == nil || a.Blobs == nil {
		return nil, nil
	}
	l, err := a.bundles(ctx)
	if err != nil {
		return nil, err
	}
	out := l.wrong
	var indexes []int64
	for i := range l.rows {
		indexes = append(indexes, i)
	}
	sort.Slice(indexes, func(i, j int) bool { return indexes[i] < indexes[j] })
	size, err := a.wholeLogSize()
	if err != nil {
		return out, nil // named already
	}
	for _, i := range indexes {
		if err := a.logConsistent(ctx, l.rows[i]); err != nil {
			out = append(out, damage(fmt.Sprintf("log entry %d", i), err))
		}
	}
	missing, first := 0, int64(0)
	for i := range size {
		if l.rows[i] == nil && (l.waiting < 0 || i < l.waiting) {
			if missing++; missing == 1 {
				first = i
			}
		}
	}
	if missing > 0 {
		out = append(out, Damage{Where: fmt.Sprintf("log entry %d", first),
			Message: fmt.Sprintf("the log has %d entries without evidence in the database, the first is %d: rows or their bundles were lost, or the database is older than the log", missing, first),
			Advice:  "Run hallmark fsck --repair: it enters the bundles that are still among the blobs. What stays comes from a backup of " + a.databaseName() + " and blobs/."})
	}
	return out, nil
}
