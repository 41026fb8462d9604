package app_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"hallmark/internal/access"
	"hallmark/internal/app"
	"hallmark/internal/fault"
	"hallmark/internal/keys"
	"hallmark/internal/platform"
	"hallmark/internal/policy"
	"hallmark/internal/status"
	"hallmark/internal/store"
)

// serverLog keeps a server's log.
type serverLog struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write is io.Writer's.
func (l *serverLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *serverLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// A server whose keys are rotated and revoked by a command goes by the new ones within
// seconds, without a request failing for it; when they cannot be read it answers
// nothing that rests on them, and when they can again it does.
func TestServerTakesUpKeys(t *testing.T) {
	data, commit := filled(t, 3)
	var log serverLog
	h, err := app.Host(t.Context(), app.Config{Data: data}, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	closed := false
	defer func() {
		if !closed {
			h.Close()
		}
	}()
	b := h.Backend()
	secure := func(d status.Document) (n int) {
		for _, r := range d.Artifacts {
			if r.Class == policy.Secure {
				n++
			}
		}
		return n
	}
	first, err := b.Status(t.Context(), commit)
	if err != nil || secure(first) == 0 {
		t.Fatal(err, secure(first))
	}

	// Many ask all the time.
	ctx, stop := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	for range 4 {
		asking.Go(func() {
			for ctx.Err() == nil {
				if _, err := b.Project(ctx, "acme", "web"); err != nil && ctx.Err() == nil && !fault.Is(err, fault.Unavailable) {
					t.Errorf("while keys change: %v", err)
					return
				}
				if _, err := h.Catalog().Search(ctx, "package"); err != nil && ctx.Err() == nil {
					t.Errorf("while keys change: %v", err)
					return
				}
				if _, err := h.Stats(ctx); err != nil && ctx.Err() == nil {
					t.Errorf("while keys change: %v", err)
					return
				}
			}
		})
	}
	quiet := func() { stop(); asking.Wait() }
	defer quiet()

	until := func(what string, is func() bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); !is(); time.Sleep(50 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: it does not come; the log: %s", what, log.String())
			}
		}
	}
	root, err := b.TrustedRoot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var old string
	for _, role := range keys.Roles {
		res := change(t, data, app.KeyChange{Role: role})
		if role == keys.RoleSigner {
			old = res.Key
			until("the new signer", func() bool {
				_, err := b.PublicKey(t.Context(), res.New)
				return err == nil
			})
			if bl, err := b.Builder(t.Context(), old, app.Mode); err != nil || bl.Until == nil {
				t.Errorf("the builder of the old key: %+v, %v", bl, err)
			}
		}
	}
	until("the new trusted root", func() bool {
		now, err := b.TrustedRoot(t.Context())
		return err == nil && strings.Count(string(now), "rawBytes") > strings.Count(string(root), "rawBytes")
	})
	until("the status under the new keys", func() bool {
		d, err := b.Status(t.Context(), commit)
		return err == nil && secure(d) == secure(first)
	})

	// A build in the server signs with the new ones.
	who := platform.Who{Principal: access.SoleOwner("ann")}
	run, err := h.Platform.Build(t.Context(), who, "acme", "web", "main", false)
	if err != nil {
		t.Fatal(err)
	}
	until("the build", func() bool {
		rs, err := h.Platform.Runs(t.Context(), who, "acme", "web", 1)
		if err == nil {
			run = rs[0]
		}
		return err == nil && run.State.Done()
	})
	if run.State != store.RunSucceeded {
		t.Errorf("the build is %s: %s", run.State, run.Message)
	}

	change(t, data, app.KeyChange{Role: keys.RoleSigner, Revoke: old, Since: time.Now().Add(-time.Hour), Why: "stolen"})
	until("what was revoked counts for nothing", func() bool {
		d, err := b.Status(t.Context(), commit)
		return err == nil && secure(d) == 0
	})
	quiet()

	// Fail closed.
	ring := filepath.Join(data, "keys", "ring.json")
	good, err := os.ReadFile(ring)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ring, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	until("keys that cannot be read", func() bool {
		_, err := b.Status(t.Context(), commit)
		_, other := b.PublicKey(t.Context(), old)
		return fault.Is(err, fault.Unavailable) && fault.Is(other, fault.Unavailable)
	})
	if err := os.WriteFile(ring, good, 0o600); err != nil {
		t.Fatal(err)
	}
	until("keys that can be read again", func() bool {
		_, err := b.Status(t.Context(), commit)
		return err == nil
	})
	closed = true
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if _, err := b.Status(t.Context(), commit); !fault.Is(err, fault.Unavailable) {
		t.Errorf("after the end: %v", err)
	}
	if n := strings.Count(log.String(), "the keys were changed; from now on"); n < 2 {
		t.Errorf("the log does not tell: %s", log.String())
	}
}

// A server, and every writer, refuses keys that are not where they are said to be.
func TestKeysElsewhere(t *testing.T) {
	data, _ := filled(t, 1)
	cfg := app.Config{Data: data, KeyURIs: map[keys.Role]string{keys.RoleSigner: "hashivault://signer"}}
	if h, err := app.Host(t.Context(), cfg, nil); !fault.Is(err, fault.Conflict) {
		if err == nil {
			h.Close()
		}
		t.Errorf("a server: %v", err)
	}
	if a, err := app.Open(t.Context(), cfg, true); !fault.Is(err, fault.Conflict) {
		if err == nil {
			a.Close()
		}
		t.Errorf("a writer: %v", err)
	}
	// Where they are is what a rotation changes.
	if _, err := app.ChangeKey(t.Context(), cfg, app.KeyChange{Role: keys.RoleTimestamp}); err != nil {
		t.Error(err)
	}
}
