package keys

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"errors"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/kms"
	"github.com/sigstore/sigstore/pkg/signature/options"

	"hallmark/internal/fault"
)

// A key may be in a KMS, named by the URI that sigstore's tools use. Those of services
// are answered for by clients in this program; any other NAME://KEY is asked of the
// program sigstore-kms-NAME (sigstore's plugin protocol, version 1). The public key is
// kept here, and whatever the KMS signs is checked with it before it is used: a KMS
// that is slow, refuses, or signs with another key gives an error and no statement.

// remoteTimeout is how long one answer of a KMS may take.
var remoteTimeout = 30 * time.Second

// uriRE is what may be the URI of a key in a KMS.
var uriRE = regexp.MustCompile(`^[a-z][a-z0-9+.-]{0,40}://[!-~]{1,500}$`)

func isURI(s string) bool { return strings.Contains(s, "://") }

// CheckURI is fault.Usage for what cannot be the URI of a key in a KMS. One that
// carries a password is refused: the ring would keep it, and show it.
func CheckURI(uri string) error {
	if !uriRE.MatchString(uri) {
		return fault.Advise(fault.Usage, "It looks like this: hashivault://KEY, awskms:///KEY-ID, or NAME://KEY for the program sigstore-kms-NAME.", "%.100q is no URI of a key in a KMS", uri)
	}
	if u, err := url.Parse(uri); err == nil && u.User != nil {
		return fault.Advise(fault.Usage, "Give what the KMS asks for in its own environment variables or files.", "the URI of a key in a KMS holds no user and no password")
	}
	if s, ok := serviceOf(uri); ok && s.valid(uri) != nil {
		return fault.Advise(fault.Usage, "It looks like this: "+s.shape, "%.100q is no URI of a key in this KMS", uri)
	}
	return nil
}

// remoteKey signs with a key that a KMS has.
type remoteKey struct {
	uri    string
	public *ecdsa.PublicKey

	mu     sync.Mutex // guards client
	client kms.SignerVerifier
}

// Public is crypto.Signer's.
func (k *remoteKey) Public() crypto.PublicKey { return k.public }

// Sign is crypto.Signer's. What comes back is checked with the public key.
func (k *remoteKey) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	sig, err := ask(func(ctx context.Context) ([]byte, error) {
		c, err := k.open(ctx)
		if err != nil {
			return nil, err
		}
		return c.SignMessage(bytes.NewReader(nil), options.WithContext(ctx), options.WithDigest(digest), options.WithCryptoSignerOpts(opts.HashFunc()))
	})
	if err != nil {
		return nil, fmt.Errorf("sign with the key %s in a KMS: %w", k.uri, err)
	}
	if !ecdsa.VerifyASN1(k.public, digest, sig) {
		return nil, fault.Advise(fault.Unverified, "See that the URI still names the key that it named; if it was changed on purpose, say so: hallmark keys rotate",
			"sign with the key %s in a KMS: what came back is not a signature by the key %s", k.uri, ID(k.public))
	}
	return sig, nil
}

func (k *remoteKey) open(ctx context.Context) (kms.SignerVerifier, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.client != nil {
		return k.client, nil
	}
	c, err := openKMS(ctx, k.uri)
	if err == nil {
		k.client = c
	}
	return c, err
}

// openKMS finds who answers for a URI. It keeps no deadline: ctx ends with one call.
func openKMS(ctx context.Context, uri string) (kms.SignerVerifier, error) {
	c, err := kms.Get(context.WithoutCancel(ctx), uri, crypto.SHA256)
	var none *kms.ProviderNotFoundError
	if errors.As(err, &none) {
		name, _, _ := strings.Cut(uri, "://")
		return nil, fault.Advise(fault.NotFound, "Put the program sigstore-kms-"+name+" on the PATH of hallmark. Without a program it knows awskms, azurekms, gcpkms, hashivault and openbao.",
			"nobody here answers for keys of the kind %s://", name)
	}
	return c, err
}

// remotePublic asks a KMS for the public key that a URI names.
func remotePublic(uri string) (*ecdsa.PublicKey, error) {
	if err := CheckURI(uri); err != nil {
		return nil, err
	}
	k, err := ask(func(ctx context.Context) (crypto.PublicKey, error) {
		c, err := openKMS(ctx, uri)
		if err != nil {
			return nil, err
		}
		var opt signature.PublicKeyOption = options.WithContext(ctx)
		return c.PublicKey(opt)
	})
	if err != nil {
		return nil, fmt.Errorf("public key of %s in a KMS: %w", uri, err)
	}
	pub, ok := k.(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P256() {
		return nil, fault.Advise(fault.Unsupported, "Make a key of the kind ECDSA P-256 for signing.", "the key %s in a KMS is a %T: only ECDSA P-256 is used here", uri, k)
	}
	return pub, nil
}

// ask runs one call to a KMS, which may not end by itself, and may fail in ways of
// its own.
func ask[T any](fn func(ctx context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(context.Background(), remoteTimeout)
	defer cancel()
	type answer struct {
		v   T
		err error
	}
	done := make(chan answer, 1)
	go func() {
		var a answer
		defer func() {
			if p := recover(); p != nil { // a client given less than it asked for
				a.err = fault.New(fault.Hostile, "its answer has not what was asked for")
			}
			done <- a
		}()
		a.v, a.err = fn(ctx)
	}()
	var a answer
	select {
	case a = <-done:
	case <-ctx.Done():
		a.err = ctx.Err()
	}
	var zero T
	switch {
	case a.err == nil:
		return a.v, nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return zero, fault.Advise(fault.Unavailable, "See that the KMS can be reached from here; nothing was signed, so the same command may be run again.", "it did not answer within %s", remoteTimeout)
	case fault.KindOf(a.err) != "":
		return zero, a.err
	}
	return zero, fault.Advise(fault.Unavailable, "See what the KMS says, and that this user may use the key; nothing was signed, so the same command may be run again.", "%s", said(a.err))
}

// maxSaid is how many bytes of a KMS's error are shown.
const maxSaid = 600

// said is what a KMS's error says, on one line that ends: it may hold whatever came
// over the network.
func said(err error) string {
	text := err.Error()
	if len(text) > maxSaid {
		text = text[:maxSaid] + " …"
	}
	return strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text)), " ")
}

// Sign is crypto.Signer's: a key that is lost cannot.
func (g gone) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, fault.Advise(fault.NotFound, "Rotate it: hallmark keys rotate ROLE --lost", "sign with key %s: %w", ID(g.pub), errLost)
}
