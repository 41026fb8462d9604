package evidence_test

import (
	"context"
	"crypto"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"hallmark/internal/evidence"
	"hallmark/internal/fault"
	"hallmark/internal/keys"
)

// moody is a key that fails when it is told to, as one in a KMS may.
type moody struct {
	crypto.Signer
	mu  sync.Mutex
	err error
}

func (m *moody) set(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

// Sign is crypto.Signer's.
func (m *moody) Sign(r io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	m.mu.Lock()
	err := m.err
	m.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return m.Signer.Sign(r, digest, opts)
}

// Each of the three keys may fail for a while. What was asked for then ends soon with
// the key's own words, nothing of it is believed, and it can be gone on with.
func TestKeysThatFail(t *testing.T) {
	for _, role := range keys.Roles {
		t.Run(string(role), func(t *testing.T) {
			dir := t.TempDir()
			ks, err := keys.Open(filepath.Join(dir, "keys"))
			if err != nil {
				t.Fatal(err)
			}
			key := &moody{}
			switch role {
			case keys.RoleSigner:
				key.Signer, ks.Signer = ks.Signer, key
			case keys.RoleLog:
				key.Signer, ks.Log = ks.Log, key
			case keys.RoleTimestamp:
				key.Signer, ks.Timestamp = ks.Timestamp, key
			}
			log := filepath.Join(dir, "log")
			for round := range 2 { // the first statements of a log, and later ones
				a, err := evidence.Open(context.Background(), evidence.Config{Dir: log, Keys: ks})
				if err != nil {
					t.Fatal(err)
				}
				ss := []evidence.Statement{note("a", []byte{byte(round), 1}), note("b", []byte{byte(round), 2})}
				ps, err := a.Sign(ss)
				if err != nil {
					t.Fatal(err)
				}
				from, err := a.Size(context.Background())
				if err != nil {
					t.Fatal(err)
				}
				key.set(fault.New(fault.Unavailable, "the KMS is out for lunch"))
				began := time.Now()
				if _, err = a.Sign(ss); err == nil {
					_, err = a.Enter(context.Background(), ps, from)
				}
				if !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "out for lunch") {
					t.Errorf("round %d: %v", round, err)
				}
				if took := time.Since(began); took > 15*time.Second {
					t.Errorf("round %d: it took %v to say so", round, took)
				}
				_ = a.Close() // the key fails still, which was said
				key.set(nil)
				if a, err = evidence.Open(context.Background(), evidence.Config{Dir: log, Keys: ks}); err != nil {
					t.Fatal(err)
				}
				out, err := a.Enter(context.Background(), ps, from)
				if err != nil || len(out) != 2 {
					t.Fatalf("round %d, when it signs again: %v", round, err)
				}
				if err := a.Close(); err != nil {
					t.Error(err)
				}
				if n, err := evidence.CheckLog(context.Background(), log, ks.Log.Public()); err != nil || n != uint64(2*round+2) {
					t.Errorf("round %d: the log has %d entries, %v", round, n, err)
				}
			}
		})
	}
}
