package evidence

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	commonpb "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	logpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	rekornote "github.com/sigstore/rekor-tiles/v2/pkg/note"
	"github.com/sigstore/sigstore/pkg/signature"
	tlog "github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/api/layout"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"hallmark/internal/fault"
	"hallmark/internal/keys"
)

// How the log batches. A batch closes when it is full or old; a checkpoint is
// published no more often than the interval (the store's own minimum).
const (
	batchSize          = 256
	batchAge           = 20 * time.Millisecond
	checkpointInterval = 100 * time.Millisecond
	pollInterval       = 10 * time.Millisecond
	maxInFlight        = 1024 // entries not yet sequenced; the store pushes back at 4096
	closeTimeout       = 30 * time.Second
	maxCheckpoint      = 64 << 10 // bytes
	publishTimeout     = 30 * time.Second
	fullBelow          = 1 << 20 // bytes free
)

// LogOrigin names the log of a key, which is the first line of its checkpoints
// and, as sigstore clients demand, the host name of the log's baseUrl in the
// trusted root. It is derived from the key alone, so that a changed external
// address does not end the log, and lies under .invalid (RFC 2606), so that
// nobody can come to own the name. It has neither spaces nor "+" and does not
// end in " - digits", which would make it a Rekor v1 log.
func LogOrigin(pub crypto.PublicKey) string { return "log-" + keys.ID(pub) + ".hallmark.invalid" }

// tileLog is an append-only tile log (c2sp.org/tlog-tiles) in a folder.
type tileLog struct {
	dir      string
	origin   string
	id       []byte // the whole 32-byte key hash, not the note's four bytes
	verifier note.Verifier
	key      *watchedKey
	app      *tessera.Appender
	reader   tessera.LogReader
	stop     func(context.Context) error
	cancel   context.CancelFunc
	lock     *os.File

	mu     sync.Mutex // guards closed; held shared with nothing else
	closed bool
	busy   sync.WaitGroup // running Appends
}

// watchedKey is the log's key as the log's library wants it (signature.Signer). It may
// be in a KMS that fails, and the library then tries again for ever and says nothing.
type watchedKey struct {
	key crypto.Signer

	mu      sync.Mutex // guards all below
	signing int
	failed  error // the last signature
}

// PublicKey is signature.Signer's.
func (k *watchedKey) PublicKey(...signature.PublicKeyOption) (crypto.PublicKey, error) {
	return k.key.Public(), nil
}

// SignMessage is signature.Signer's.
func (k *watchedKey) SignMessage(message io.Reader, _ ...signature.SignOption) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(message, maxCheckpoint))
	if err != nil {
		return nil, err
	}
	h := sha256.Sum256(b)
	k.mu.Lock()
	k.signing++
	k.mu.Unlock()
	sig, err := k.key.Sign(rand.Reader, h[:], crypto.SHA256)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.signing--
	k.failed = err
	return sig, err
}

// forget begins anew to watch.
func (k *watchedKey) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.failed = nil
}

// state tells whether the key is asked to sign, and how its last signature failed.
func (k *watchedKey) state() (signing bool, failed error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.signing > 0, k.failed
}

// quiet sends what the log's library says to slog, warnings and worse only.
var quiet = sync.OnceFunc(func() {
	klog.SetSlogLogger(slog.New(onlyWarnings{slog.Default().Handler()}))
})

type onlyWarnings struct{ slog.Handler }

func (h onlyWarnings) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && h.Handler.Enabled(ctx, l)
}

func openTileLog(ctx context.Context, dir string, key crypto.Signer) (_ *tileLog, err error) {
	quiet()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	l := &tileLog{dir: dir, origin: LogOrigin(key.Public())}
	if l.lock, err = lockFolder(dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			l.lock.Close()
		}
	}()
	if l.verifier, err = noteVerifier(l.origin, key.Public()); err != nil {
		return nil, err
	}
	if _, l.id, err = rekornote.KeyHash(l.origin, key.Public()); err != nil {
		return nil, fmt.Errorf("log id: %w", err)
	}
	if err := sweep(dir); err != nil && !fault.Is(err, fault.Corrupt) {
		return nil, err
	}
	if err := checkState(ctx, dir, l.verifier); err != nil {
		return nil, err
	}
	// The library publishes nothing while the checkpoint's file is from the future,
	// as it may be after a clock was set back.
	name, now := filepath.Join(dir, checkpointFile), time.Now()
	if fi, err := os.Stat(name); err == nil && fi.ModTime().After(now) {
		if err := os.Chtimes(name, now, now); err != nil {
			return nil, fmt.Errorf("open log: %w", err)
		}
	}
	l.key = &watchedKey{key: key}
	// The appender lives longer than the call that opens it, so it takes the
	// values of ctx but not its end. Its own shutdown leaves goroutines behind
	// until this context is cancelled, which Close does.
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		if err != nil {
			cancel()
		}
	}()
	ns, err := rekornote.NewNoteSigner(run, l.origin, l.key)
	if err != nil {
		return nil, fmt.Errorf("log signer: %w", err)
	}
	driver, err := posix.New(run, posix.Config{Path: dir})
	if err != nil {
		return nil, fmt.Errorf("open log in %s: %w", dir, err)
	}
	l.app, l.stop, l.reader, err = tessera.NewAppender(run, driver, tessera.NewAppendOptions().
		WithCheckpointSigner(ns).
		WithBatching(batchSize, batchAge).
		WithCheckpointInterval(checkpointInterval).
		WithCheckpointRepublishInterval(0).
		WithGarbageCollectionInterval(0))
	if err != nil {
		return nil, fmt.Errorf("open log in %s: %w", dir, err)
	}
	l.cancel = cancel
	return l, nil
}

// Close waits for running Appends, then stops the appender and lets go of the
// folder.
func (l *tileLog) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	l.mu.Unlock()
	l.busy.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	go func() { // waiting for a key that fails is of no use
		t := time.NewTicker(pollInterval)
		defer t.Stop()
		for {
			if _, failed := l.key.state(); failed != nil {
				cancel()
			}
			select {
			case <-ctx.Done():
				return
			case <-t.C:
			}
		}
	}()
	err := l.stop(ctx)
	if _, failed := l.key.state(); failed != nil {
		err = nil // who waited for a checkpoint was told; what has none gets it next time
	}
	l.cancel()
	if e := l.lock.Close(); err == nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("close log in %s: %w", l.dir, err)
	}
	return nil
}

// find gives the index of each entry that the log has already, from index from on.
func (l *tileLog) find(ctx context.Context, entries [][]byte, from uint64) (map[string]uint64, error) {
	want := map[string]bool{}
	for _, e := range entries {
		want[string(e)] = true
	}
	size, err := l.reader.IntegratedSize(ctx)
	if err != nil {
		return nil, fmt.Errorf("size of the log in %s: %w", l.dir, err)
	}
	have := map[string]uint64{}
	for i := from / tileWidth; i*tileWidth < size; i++ {
		raw, err := l.reader.ReadEntryBundle(ctx, i, layout.PartialTileSize(0, i, size))
		if err != nil {
			return nil, fmt.Errorf("entries of the log in %s: %w", l.dir, err)
		}
		var b api.EntryBundle
		if err := b.UnmarshalText(raw); err != nil {
			return nil, logDamage("the log in %s: %s is malformed (%v)", l.dir, layout.EntriesPath(i, 0), err)
		}
		for k, e := range b.Entries {
			if _, twice := have[string(e)]; want[string(e)] && !twice && i*tileWidth+uint64(k) < size {
				have[string(e)] = i*tileWidth + uint64(k)
			}
		}
	}
	return have, nil
}

// Append enters all entries but those that the log has (at the indexes in have),
// waits for one signed checkpoint that covers them, and returns each with its
// inclusion proof, in order.
func (l *tileLog) Append(ctx context.Context, entries [][]byte, have map[string]uint64) ([]*logpb.TransparencyLogEntry, error) {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil, fault.New(fault.Conflict, "the log in %s is closed", l.dir)
	}
	l.busy.Add(1)
	l.mu.Unlock()
	defer l.busy.Done()

	index := make([]uint64, len(entries))
	var last uint64
	for from := 0; from < len(entries); from += maxInFlight {
		part := entries[from:min(from+maxInFlight, len(entries))]
		futures := make([]tessera.IndexFuture, len(part))
		for i, e := range part {
			if _, there := have[string(e)]; !there {
				futures[i] = l.app.Add(ctx, tessera.NewEntry(e))
			}
		}
		for i, f := range futures {
			n, there := have[string(part[i])]
			if !there {
				var err error
				if n, err = await(ctx, f); err != nil {
					return nil, fmt.Errorf("sequence entry %d: %w", from+i, err)
				}
			}
			index[from+i] = n
			last = max(last, n)
		}
	}
	cp, raw, err := l.awaitCheckpoint(ctx, last)
	if err != nil {
		return nil, err
	}
	proofs, err := client.NewProofBuilder(ctx, cp.Size, l.reader.ReadTile)
	if err != nil {
		return nil, fmt.Errorf("inclusion proofs at size %d: %w", cp.Size, err)
	}
	out := make([]*logpb.TransparencyLogEntry, len(entries))
	for i, e := range entries {
		hashes, err := proofs.InclusionProof(ctx, index[i])
		if err != nil {
			return nil, fmt.Errorf("inclusion proof of entry %d at size %d: %w", index[i], cp.Size, err)
		}
		out[i] = &logpb.TransparencyLogEntry{
			LogIndex:          int64(index[i]),
			LogId:             &commonpb.LogId{KeyId: l.id},
			KindVersion:       &logpb.KindVersion{Kind: entryKind, Version: entryVer},
			CanonicalizedBody: e,
			InclusionProof: &logpb.InclusionProof{
				LogIndex: int64(index[i]), TreeSize: int64(cp.Size), RootHash: cp.Hash, Hashes: hashes,
				Checkpoint: &logpb.Checkpoint{Envelope: string(raw)},
			},
		}
	}
	return out, nil
}

// await is f with an end: a future of a stopped appender may never answer.
func await(ctx context.Context, f tessera.IndexFuture) (uint64, error) {
	type answer struct {
		i   tessera.Index
		err error
	}
	c := make(chan answer, 1)
	go func() {
		i, err := f()
		c <- answer{i, err}
	}()
	select {
	case a := <-c:
		return a.i.Index, a.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// awaitCheckpoint waits for a signed checkpoint that covers index.
func (l *tileLog) awaitCheckpoint(ctx context.Context, index uint64) (*tlog.Checkpoint, []byte, error) {
	t := time.NewTicker(pollInterval)
	defer t.Stop()
	// The library tries for ever and says nothing, on a full disk too.
	end := time.After(publishTimeout)
	l.key.forget()
	for {
		cp, raw, err := readCheckpoint(l.dir, l.verifier)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, nil, err
		}
		if err == nil && cp.Size > index {
			return cp, raw, nil
		}
		signing, failed := l.key.state()
		if failed != nil {
			return nil, nil, fmt.Errorf("sign the checkpoint of the log in %s: %w", l.dir, failed)
		}
		select {
		case <-t.C:
		case <-end:
			if signing { // a key in a KMS, which has a limit of its own
				end = time.After(pollInterval)
				continue
			}
			err := fault.Advise(fault.Unavailable, "See that its disk is not full and can be written, and run the same command again: it goes on from here.",
				"the log in %s published no checkpoint within %s", l.dir, publishTimeout)
			var st unix.Statfs_t
			if unix.Statfs(l.dir, &st) == nil && st.Bavail*uint64(st.Bsize) < fullBelow {
				err = fmt.Errorf("%w: %w", err, unix.ENOSPC)
			}
			return nil, nil, err
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("wait for a checkpoint that covers entry %d: %w", index, ctx.Err())
		}
	}
}

// readCheckpoint reads the log's checkpoint and checks its signature. If there
// is none the error is fs.ErrNotExist; if it does not verify, fault.Corrupt.
func readCheckpoint(dir string, v note.Verifier) (*tlog.Checkpoint, []byte, error) {
	raw, err := readFile(filepath.Join(dir, checkpointFile), maxCheckpoint)
	if err != nil {
		return nil, nil, err
	}
	cp, err := parseCheckpoint(raw, v)
	if err != nil {
		first, _, _ := bytes.Cut(raw, []byte("\n"))
		return nil, nil, fault.Advise(fault.Corrupt,
			"Keys and log belong together: restore both from the same backup. If only the checkpoint was damaged, hallmark fsck --repair takes the newest one that a bundle holds.",
			"checkpoint of the log in %s (origin %.80q) is not signed by %s: %w", dir, first, v.Name(), err)
	}
	return cp, raw, nil
}

// parseCheckpoint reads a checkpoint that v has to have signed, alone and in the
// one spelling.
func parseCheckpoint(raw []byte, v note.Verifier) (*tlog.Checkpoint, error) {
	cp, rest, n, err := tlog.ParseCheckpoint(raw, v.Name(), v)
	if err != nil {
		return nil, err
	}
	if len(rest) > 0 || len(n.Sigs) != 1 || len(n.UnverifiedSigs) > 0 || string(cp.Marshal()) != n.Text {
		return nil, errors.New("it says or is signed by more than it should be")
	}
	return cp, strictNote(string(raw))
}

func noteVerifier(origin string, pub crypto.PublicKey) (note.Verifier, error) {
	v, err := signature.LoadVerifier(pub, crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("log key: %w", err)
	}
	nv, err := rekornote.NewNoteVerifier(origin, v)
	if err != nil {
		return nil, fmt.Errorf("log key: %w", err)
	}
	return nv, nil
}

// lockFolder makes this process the log's one writer until the file is closed
// or the process ends, however it ends.
func lockFolder(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock log: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fault.Advise(fault.Conflict, "Another hallmark is writing to it; stop that one first.",
			"the log in %s is open elsewhere: %w", dir, err)
	}
	return f, nil
}

// readFile reads a file of at most limit bytes.
func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() || fi.Size() > limit {
		return nil, fault.New(fault.Corrupt, "%s: %s of %d bytes, want a file of at most %d", path, fi.Mode().Type(), fi.Size(), limit)
	}
	b := make([]byte, fi.Size())
	n, err := f.ReadAt(b, 0)
	if int64(n) == fi.Size() {
		return b, nil
	}
	return nil, fmt.Errorf("read %s: %w", path, err)
}
