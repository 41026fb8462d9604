package keys

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/kms/cliplugin/handler"
)

// The test's program is a KMS as well: run under the name sigstore-kms-hallmarktest
// it speaks sigstore's plugin protocol. Its keys and how it behaves are in a folder.

const pluginName = "sigstore-kms-hallmarktest"

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == pluginName {
		os.Exit(runPlugin())
	}
	if uri := os.Getenv(farVariable); uri != "" {
		os.Exit(runFar(uri))
	}
	os.Exit(m.Run())
}

// testKMS is the folder of a KMS.
type testKMS struct {
	dir, uri string
}

// plugin puts a KMS on the PATH.
func plugin(t *testing.T) testKMS {
	t.Helper()
	k := testKMS{dir: t.TempDir(), uri: "hallmarktest://"}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	if err := os.Symlink(self, filepath.Join(bin, pluginName)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	t.Setenv("HALLMARK_TEST_KMS", k.dir)
	return k
}

// mode says how the KMS behaves from now on.
func (k testKMS) mode(t *testing.T, mode string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(k.dir, "mode"), []byte(mode), 0o600); err != nil {
		t.Fatal(err)
	}
}

func runPlugin() int {
	dir := os.Getenv("HALLMARK_TEST_KMS")
	mode, _ := os.ReadFile(filepath.Join(dir, "mode"))
	args, err := handler.GetPluginArgs(os.Args)
	if err != nil {
		_ = handler.WriteErrorResponse(os.Stdout, err)
		return 1
	}
	switch string(mode) {
	case "slow":
		time.Sleep(time.Minute)
	case "refuse":
		_ = handler.WriteErrorResponse(os.Stdout, errors.New("this user may not use the key"))
		return 1
	case "nonsense":
		fmt.Println("<html>")
		return 0
	case "empty":
		fmt.Println("{}")
		return 0
	}
	name := args.InitOptions.KeyResourceID
	if string(mode) == "other" {
		name += "-other"
	}
	k, err := pluginKey(filepath.Join(dir, name+".pem"))
	if err != nil {
		_ = handler.WriteErrorResponse(os.Stdout, err)
		return 1
	}
	sv, err := signature.LoadECDSASignerVerifier(k, crypto.SHA256)
	if err != nil {
		_ = handler.WriteErrorResponse(os.Stdout, err)
		return 1
	}
	if _, err := handler.Dispatch(os.Stdout, os.Stdin, args, pluginSigner{sv}); err != nil {
		return 1
	}
	return 0
}

// pluginKey reads a key, or makes it.
func pluginKey(path string) (*ecdsa.PrivateKey, error) {
	if b, err := os.ReadFile(path); err == nil {
		block, _ := pem.Decode(b)
		k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, err
		}
		return k.(*ecdsa.PrivateKey), nil
	}
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, err
	}
	return k, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}

// pluginSigner is kms.SignerVerifier for one key.
type pluginSigner struct{ *signature.ECDSASignerVerifier }

func (pluginSigner) CreateKey(context.Context, string) (crypto.PublicKey, error) {
	return nil, errors.New("keys are made by themselves")
}
func (s pluginSigner) CryptoSigner(context.Context, func(error)) (crypto.Signer, crypto.SignerOpts, error) {
	return nil, nil, errors.New("not over this protocol")
}
func (pluginSigner) SupportedAlgorithms() []string { return []string{"ecdsa-p256-sha256"} }
func (pluginSigner) DefaultAlgorithm() string      { return "ecdsa-p256-sha256" }
