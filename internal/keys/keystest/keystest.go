// Package keystest gives tests a real KMS on loopback: one that speaks AWS' protocol
// (moto), and one that speaks Vault's (OpenBao). scripts/setup installs both, in
// exactly one version. A front of ours stands before each and can make it fail in the
// ways in which services do.
//
// It never skips: a KMS that is not there fails the test, and says how to get it.
package keystest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Versions of the servers; scripts/setup has the same.
const (
	MotoVersion = "5.2.5"
	BaoVersion  = "2.7.2"
)

// Mode is how a KMS behaves.
type Mode string

// The modes.
const (
	Well    Mode = ""        // as it should
	Away    Mode = "away"    // closes every connection
	Slow    Mode = "slow"    // takes the request, and never answers
	Refuses Mode = "refuses" // says that this user may not
	Broken  Mode = "broken"  // an error of its own, not in its protocol
	Junk    Mode = "junk"    // signatures that are none
)

// front is a TLS server before a KMS.
type front struct {
	URL     string // https://127.0.0.1:PORT
	CA      string // file with the certificate to trust
	Address string // 127.0.0.1:PORT

	refusal func(w http.ResponseWriter)
	mu      sync.Mutex // guards mode and signed
	mode    Mode
	signed  int
}

// Set says how the KMS behaves from now on.
func (f *front) Set(m Mode) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mode = m
}

// Signed is how many signatures went out so far.
func (f *front) Signed() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.signed
}

// signatureRE finds a signature in an answer of either protocol.
var signatureRE = regexp.MustCompile(`(?i)("signature"\s*:\s*"(?:vault:v[0-9]+:)?)([A-Za-z0-9+/]+=*)(")`)

func newFront(t testing.TB, target string, refusal func(http.ResponseWriter)) *front {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	f := &front{refusal: refusal}
	over := make(chan struct{})
	proxy := httputil.NewSingleHostReverseProxy(u)
	proxy.ModifyResponse = func(r *http.Response) error {
		b, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		if err != nil {
			return err
		}
		r.Body.Close()
		f.mu.Lock()
		mode := f.mode
		if signatureRE.Match(b) {
			f.signed++
		}
		f.mu.Unlock()
		if mode == Junk {
			b = signatureRE.ReplaceAllFunc(b, func(m []byte) []byte {
				p := signatureRE.FindSubmatch(m)
				sig, err := base64.StdEncoding.DecodeString(string(p[2]))
				if err != nil || len(sig) == 0 {
					return m
				}
				sig[len(sig)-1] ^= 1
				return bytes.Join([][]byte{p[1], []byte(base64.StdEncoding.EncodeToString(sig)), p[3]}, nil)
			})
		}
		r.Body = io.NopCloser(bytes.NewReader(b))
		r.ContentLength = int64(len(b))
		r.Header.Set("Content-Length", strconv.Itoa(len(b)))
		return nil
	}
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		mode := f.mode
		f.mu.Unlock()
		switch mode {
		case Away:
			panic(http.ErrAbortHandler)
		case Slow:
			select {
			case <-over:
			case <-r.Context().Done():
			}
			panic(http.ErrAbortHandler)
		case Refuses:
			f.refusal(w)
		case Broken:
			w.WriteHeader(http.StatusBadGateway)
			fmt.Fprint(w, "<html>\n<h1>\x1b[31mBad Gateway</h1>\n"+strings.Repeat("x", 5000))
		default:
			proxy.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(s.Close)
	t.Cleanup(func() { close(over) })
	f.URL, f.Address = s.URL, strings.TrimPrefix(s.URL, "https://")
	f.CA = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(f.CA, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return f
}

// KMS is a KMS with the environment that a client of it needs.
type KMS struct {
	*front
	t    testing.TB
	base string // behind the front
	api  interface {
		make(k *KMS, name, kind string)
		change(k *KMS, name string)
		uri(k *KMS, name string) string
	}
}

// Make makes a key under a name: one that can be used here.
func (k *KMS) Make(name string) { k.t.Helper(); k.api.make(k, name, "") }

// MakeRSA makes a key of a kind that is not used here.
func (k *KMS) MakeRSA(name string) { k.t.Helper(); k.api.make(k, name, "rsa") }

// Change lets a name stand for another key.
func (k *KMS) Change(name string) { k.t.Helper(); k.api.change(k, name) }

// URI names the key of a name, as sigstore's tools do.
func (k *KMS) URI(name string) string { return k.api.uri(k, name) }

// AWS starts a KMS that speaks AWS' protocol, and sets the test's environment so that
// clients find it.
func AWS(t testing.TB) *KMS {
	t.Helper()
	python := tool(t, "moto-"+MotoVersion, "bin/python")
	base := start(t, func(port string) *exec.Cmd {
		return exec.Command(python, "-c", motoServer, "-H", "127.0.0.1", "-p", port)
	}, "/moto-api/data.json")
	k := &KMS{t: t, base: base, api: moto{}, front: newFront(t, base, func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"__type":"AccessDeniedException","message":"User: arn:aws:iam::123456789012:user/ann is not authorized to perform: kms:Sign"}`)
	})}
	for name, v := range map[string]string{"AWS_CA_BUNDLE": k.CA, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1",
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull} {
		t.Setenv(name, v)
	}
	return k
}

// motoServer is moto's server, but for what it leaves out: it takes a digest
// (MessageType DIGEST, with which sigstore's client always asks) for a message, and
// would sign the digest of that.
const motoServer = `
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from moto.kms.utils import ECDSAPrivateKey
from moto.server import main

def sign(self, message, signing_algorithm):
    return self.private_key.sign(message, ec.ECDSA(utils.Prehashed(hashes.SHA256())))

ECDSAPrivateKey.sign = sign
main()
`

type moto struct{}

func (moto) uri(k *KMS, name string) string { return "awskms://" + k.Address + "/alias/" + name }

func (m moto) make(k *KMS, name, kind string) {
	m.call(k, "CreateAlias", map[string]string{"AliasName": "alias/" + name, "TargetKeyId": m.key(k, kind)})
}

func (m moto) change(k *KMS, name string) {
	m.call(k, "UpdateAlias", map[string]string{"AliasName": "alias/" + name, "TargetKeyId": m.key(k, "")})
}

func (m moto) key(k *KMS, kind string) string {
	spec := "ECC_NIST_P256"
	if kind == "rsa" {
		spec = "RSA_2048"
	}
	var made struct{ KeyMetadata struct{ KeyId string } }
	if err := json.Unmarshal(m.call(k, "CreateKey", map[string]string{"KeySpec": spec, "KeyUsage": "SIGN_VERIFY"}), &made); err != nil || made.KeyMetadata.KeyId == "" {
		k.t.Fatalf("make a key: %v", err)
	}
	return made.KeyMetadata.KeyId
}

func (moto) call(k *KMS, what string, body any) []byte {
	return k.send(http.MethodPost, "/", body, map[string]string{"X-Amz-Target": "TrentService." + what, "Content-Type": "application/x-amz-json-1.1",
		"Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/kms/aws4_request, SignedHeaders=host, Signature=0"})
}

// Vault starts a KMS that speaks Vault's protocol, and sets the test's environment so
// that clients find it.
func Vault(t testing.TB) *KMS {
	t.Helper()
	program := tool(t, "openbao-"+BaoVersion, "bao")
	base := start(t, func(port string) *exec.Cmd {
		cmd := exec.Command(program, "server", "-dev", "-dev-no-store-token", "-dev-root-token-id", token, "-dev-listen-address", "127.0.0.1:"+port)
		cmd.Env = []string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH")}
		return cmd
	}, "/v1/sys/health")
	k := &KMS{t: t, base: base, api: bao{}, front: newFront(t, base, func(w http.ResponseWriter) {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `{"errors":["1 error occurred:\n\t* permission denied\n\n"]}`)
	})}
	k.send(http.MethodPost, "/v1/sys/mounts/transit", map[string]string{"type": "transit"}, bao{}.headers())
	for name, v := range map[string]string{"VAULT_ADDR": k.URL, "VAULT_CACERT": k.CA, "VAULT_TOKEN": token, "HOME": t.TempDir()} {
		t.Setenv(name, v)
	}
	return k
}

// token opens everything in a Vault that is there for one test.
const token = "test-root"

type bao struct{}

func (bao) headers() map[string]string { return map[string]string{"X-Vault-Token": token} }

func (bao) uri(_ *KMS, name string) string { return "hashivault://" + name }

func (b bao) make(k *KMS, name, kind string) {
	typ := "ecdsa-p256"
	if kind == "rsa" {
		typ = "rsa-2048"
	}
	k.send(http.MethodPost, "/v1/transit/keys/"+name, map[string]string{"type": typ}, b.headers())
}

func (b bao) change(k *KMS, name string) {
	k.send(http.MethodPost, "/v1/transit/keys/"+name+"/rotate", map[string]string{}, b.headers())
}

// send asks the KMS behind the front.
func (k *KMS) send(method, path string, body any, headers map[string]string) []byte {
	k.t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		k.t.Fatal(err)
	}
	r, err := http.NewRequest(method, k.base+path, bytes.NewReader(b))
	if err != nil {
		k.t.Fatal(err)
	}
	for name, v := range headers {
		r.Header.Set(name, v)
	}
	res, err := (&http.Client{Timeout: 30 * time.Second}).Do(r)
	if err != nil {
		k.t.Fatal(err)
	}
	defer res.Body.Close()
	out, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil || res.StatusCode >= 300 {
		k.t.Fatalf("%s %s: %s, %v: %s", method, path, res.Status, err, out)
	}
	return out
}

// tool finds a program that scripts/setup installed.
func tool(t testing.TB, folder, program string) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "hallmark-tools", folder)
	if _, err := os.Stat(filepath.Join(dir, "ready")); err != nil {
		t.Fatalf("the test needs %s; it comes with: scripts/setup test (%v)", folder, err)
	}
	return filepath.Join(dir, program)
}

// freePort gives a port that nobody has, nor the one behind it, which OpenBao takes
// for a cluster.
func freePort(t testing.TB) string {
	t.Helper()
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		port := l.Addr().(*net.TCPAddr).Port
		if next, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port+1))); err == nil {
			next.Close()
			return strconv.Itoa(port)
		}
	}
}

// startTime is how long a server may take until it answers.
const startTime = 2 * time.Minute

// start runs a server on a free port until the test ends, and gives its address when
// ready answers.
func start(t testing.TB, command func(port string) *exec.Cmd, ready string) string {
	t.Helper()
	port := freePort(t)
	cmd := command(port)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it is killed
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended by itself
		<-ended
	})
	base := "http://127.0.0.1:" + port
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	for {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, base+ready, nil)
		if err != nil {
			t.Fatal(err)
		}
		if res, err := http.DefaultClient.Do(r); err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return base
			}
		}
		select {
		case <-ended:
			t.Fatalf("%s ended: %s", cmd, said.String())
		case <-ctx.Done():
			_ = cmd.Process.Kill()
			<-ended
			t.Fatalf("%s does not answer: %s", cmd, said.String())
		case <-time.After(50 * time.Millisecond):
		}
	}
}
