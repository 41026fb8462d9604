package keys

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"hash/crc32"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"hallmark/internal/fault"
)

// Azure's and Google's KMS cannot be had here, so this is what their interfaces say of
// them: both answer on loopback under their own names, behind a proxy and with a
// certificate that only the asking process trusts. What asks is this test's program,
// started again, with credentials in its environment as an operator gives them.

// farVariable makes the test's program ask for a key and print what came of it.
const farVariable = "HALLMARK_TEST_FAR_KEY"

const (
	azureHost = "hallmark-test.vault.azure.net"
	loginHost = "login.microsoftonline.com"
	gcpHost   = "cloudkms.googleapis.com"
	tenant    = "00000000-0000-0000-0000-000000000001"
)

// farAnswer is what came of asking.
type farAnswer struct {
	ID    string
	Kind  fault.Kind
	Error string
}

func runFar(uri string) int {
	var a farAnswer
	pub, err := remotePublic(uri)
	if err == nil {
		a.ID = ID(pub)
		h := sha256.Sum256([]byte("statement"))
		_, err = (&remoteKey{uri: uri, public: pub}).Sign(rand.Reader, h[:], crypto.SHA256)
	}
	if err != nil {
		a.Kind, a.Error = fault.KindOf(err), err.Error()
	}
	if err := json.NewEncoder(os.Stdout).Encode(a); err != nil {
		return 1
	}
	return 0
}

// farKMS has one key and says it in two ways.
type farKMS struct {
	kmspb.UnimplementedKeyManagementServiceServer
	key    *ecdsa.PrivateKey
	denied bool
	junk   bool
}

func (k *farKMS) sign(digest []byte) (r, s *big.Int, err error) {
	if k.junk {
		return big.NewInt(1), big.NewInt(2), nil
	}
	return ecdsa.Sign(rand.Reader, k.key, digest)
}

func (k *farKMS) gone() error {
	if k.denied {
		return status.Error(codes.PermissionDenied, "Permission 'cloudkms.cryptoKeyVersions.useToSign' denied")
	}
	return nil
}

func (k *farKMS) GetCryptoKey(_ context.Context, r *kmspb.GetCryptoKeyRequest) (*kmspb.CryptoKey, error) {
	return &kmspb.CryptoKey{Name: r.GetName(), Purpose: kmspb.CryptoKey_ASYMMETRIC_SIGN}, k.gone()
}

func (k *farKMS) version(name string) *kmspb.CryptoKeyVersion {
	return &kmspb.CryptoKeyVersion{Name: name, State: kmspb.CryptoKeyVersion_ENABLED, Algorithm: kmspb.CryptoKeyVersion_EC_SIGN_P256_SHA256}
}

func (k *farKMS) GetCryptoKeyVersion(_ context.Context, r *kmspb.GetCryptoKeyVersionRequest) (*kmspb.CryptoKeyVersion, error) {
	return k.version(r.GetName()), nil
}

func (k *farKMS) ListCryptoKeyVersions(_ context.Context, r *kmspb.ListCryptoKeyVersionsRequest) (*kmspb.ListCryptoKeyVersionsResponse, error) {
	return &kmspb.ListCryptoKeyVersionsResponse{CryptoKeyVersions: []*kmspb.CryptoKeyVersion{k.version(r.GetParent() + "/cryptoKeyVersions/7")}, TotalSize: 1}, nil
}

func (k *farKMS) GetPublicKey(context.Context, *kmspb.GetPublicKeyRequest) (*kmspb.PublicKey, error) {
	return &kmspb.PublicKey{Pem: string(PublicPEM(k.key.Public())), Algorithm: kmspb.CryptoKeyVersion_EC_SIGN_P256_SHA256}, nil
}

func (k *farKMS) AsymmetricSign(_ context.Context, r *kmspb.AsymmetricSignRequest) (*kmspb.AsymmetricSignResponse, error) {
	sig, err := ecdsa.SignASN1(rand.Reader, k.key, r.GetDigest().GetSha256())
	if k.junk {
		sig, err = []byte("junk"), nil
	}
	return &kmspb.AsymmetricSignResponse{Name: r.GetName(), Signature: sig, VerifiedDigestCrc32C: r.GetDigestCrc32C() != nil,
		SignatureCrc32C: wrapperspb.Int64(int64(crc32.Checksum(sig, crc32.MakeTable(crc32.Castagnoli))))}, err
}

// azure answers as a key vault does, and as whoever gives out the tokens for it.
func (k *farKMS) azure(w http.ResponseWriter, r *http.Request) {
	say := func(code int, v any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(v) // the client sees what is missing
	}
	type object map[string]any
	base := "https://" + loginHost + "/" + tenant
	switch {
	case r.Host == loginHost && r.URL.Path == "/common/discovery/instance":
		say(200, object{"tenant_discovery_endpoint": base + "/v2.0/.well-known/openid-configuration", "api-version": "1.1",
			"metadata": []object{{"preferred_network": loginHost, "preferred_cache": loginHost, "aliases": []string{loginHost}}}})
	case r.Host == loginHost && strings.HasSuffix(r.URL.Path, "/.well-known/openid-configuration"):
		say(200, object{"token_endpoint": base + "/oauth2/v2.0/token", "authorization_endpoint": base + "/oauth2/v2.0/authorize", "issuer": base + "/v2.0"})
	case r.Host == loginHost:
		say(200, object{"token_type": "Bearer", "expires_in": 3600, "access_token": "a-token"})
	case r.Header.Get("Authorization") != "Bearer a-token":
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer authorization="%s", resource="https://vault.azure.net"`, base))
		say(401, object{})
	case k.denied:
		say(403, object{"error": object{"code": "Forbidden", "message": "The user does not have keys sign permission"}})
	case strings.HasSuffix(r.URL.Path, "/sign"):
		var in struct{ Alg, Value string }
		b, err := io.ReadAll(io.LimitReader(r.Body, 1<<16))
		if err == nil {
			err = json.Unmarshal(b, &in)
		}
		digest, e := base64.RawURLEncoding.DecodeString(in.Value)
		if err != nil || e != nil || in.Alg != "ES256" {
			say(400, object{"error": object{"code": "BadParameter", "message": "not that"}})
			return
		}
		x, y, err := k.sign(digest)
		if err != nil {
			say(500, object{})
			return
		}
		sig := append(x.FillBytes(make([]byte, 32)), y.FillBytes(make([]byte, 32))...)
		say(200, object{"kid": "https://" + azureHost + "/keys/k/1", "value": base64.RawURLEncoding.EncodeToString(sig)})
	default:
		point, err := k.key.PublicKey.Bytes()
		if err != nil {
			say(500, object{})
			return
		}
		say(200, object{"key": object{"kid": "https://" + azureHost + "/keys/k/1", "kty": "EC", "crv": "P-256", "key_ops": []string{"sign", "verify"},
			"x": base64.RawURLEncoding.EncodeToString(point[1:33]), "y": base64.RawURLEncoding.EncodeToString(point[33:])}, "attributes": object{"enabled": true}})
	}
}

// far starts the KMS and a proxy that leads to it, and gives the environment of a
// process that asks it.
func far(t *testing.T, k *farKMS) []string {
	t.Helper()
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	hosts := []string{azureHost, loginHost, gcpHost}
	cert := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "far"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: hosts, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	rpc := grpc.NewServer()
	kmspb.RegisterKeyManagementServiceServer(rpc, k)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host == gcpHost || r.Host == gcpHost+":443" {
			rpc.ServeHTTP(w, r)
			return
		}
		k.azure(w, r)
	}))
	s.EnableHTTP2 = true
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	s.StartTLS()
	t.Cleanup(s.Close)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.Host)
		if r.Method != http.MethodConnect || !strings.Contains(strings.Join(hosts, " "), host) {
			http.Error(w, "not there", http.StatusForbidden)
			return
		}
		to, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			http.Error(w, "not there", http.StatusBadGateway)
			return
		}
		defer to.Close()
		from, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer from.Close()
		if _, err := io.WriteString(from, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
			return
		}
		go func() {
			_, _ = io.Copy(to, from) // ends with either side
			to.Close()
		}()
		_, _ = io.Copy(from, to)
	}))
	t.Cleanup(proxy.Close)
	return []string{"HTTPS_PROXY=" + proxy.URL, "SSL_CERT_FILE=" + ca, "SSL_CERT_DIR=" + dir, "HOME=" + dir, "PATH=" + dir,
		"AZURE_TENANT_ID=" + tenant, "AZURE_CLIENT_ID=" + tenant, "AZURE_CLIENT_SECRET=secret", "GOOGLE_APPLICATION_CREDENTIALS=" + account(t, dir)}
}

// account writes the credentials of a service account.
func account(t *testing.T, dir string) string {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(map[string]string{"type": "service_account", "project_id": "p", "private_key_id": "1", "client_id": "1", "client_email": "a@p.test",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), "token_uri": "https://oauth2.googleapis.com/token"})
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "account.json")
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// The clients for Azure and Google say and take what their services do, with the
// credentials that the environment has.
func TestFarServices(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts processes")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ask := func(t *testing.T, uri string, k *farKMS, more ...string) farAnswer {
		t.Helper()
		if err := CheckURI(uri); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), self)
		cmd.Env = append(append(far(t, k), farVariable+"="+uri), more...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		var a farAnswer
		if err == nil {
			err = json.Unmarshal(out, &a)
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, stderr.String())
		}
		return a
	}
	const ring = "gcpkms://projects/p/locations/global/keyRings/r/cryptoKeys/k"
	for _, uri := range []string{"azurekms://" + azureHost + "/k", "azurekms://" + azureHost + "/k/1", ring, ring + "/cryptoKeyVersions/7"} {
		t.Run(uri, func(t *testing.T) {
			t.Parallel()
			if a := ask(t, uri, &farKMS{key: key}); a.Error != "" || a.ID != ID(key.Public()) {
				t.Errorf("%+v", a)
			}
			if a := ask(t, uri, &farKMS{key: key, junk: true}); a.Kind != fault.Unverified {
				t.Errorf("junk for a signature: %+v", a)
			}
			if a := ask(t, uri, &farKMS{key: key, denied: true}); a.Kind != fault.Unavailable || !strings.Contains(strings.ToLower(a.Error), "permission") {
				t.Errorf("denied: %+v", a)
			}
			// Another proxy leads nowhere.
			if a := ask(t, uri, &farKMS{key: key}, "HTTPS_PROXY=http://127.0.0.1:1"); a.Kind != fault.Unavailable {
				t.Errorf("away: %+v", a)
			}
		})
	}
}
