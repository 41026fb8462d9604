package main

import (
	"io"
	"os"
	"strings"

	"hallmark/internal/account"
	"hallmark/internal/fault"
	"hallmark/internal/server"
)

// providerFlags describe the OpenID Connect provider that people sign in with. The
// client's secret is never an argument: other users of the machine see those.
type providerFlags struct {
	Issuer     string   `help:"OpenID Connect provider to sign in with, as it calls itself." env:"HALLMARK_OIDC_ISSUER" placeholder:"URL"`
	ClientID   string   `name:"client-id" help:"What the provider knows this server as." env:"HALLMARK_OIDC_CLIENT_ID" placeholder:"ID"`
	SecretFile string   `name:"client-secret-file" help:"File with the client's secret, else the environment's HALLMARK_OIDC_CLIENT_SECRET; without either it is a public client." env:"HALLMARK_OIDC_CLIENT_SECRET_FILE" placeholder:"FILE"`
	Name       string   `help:"What the button calls the provider; its host if empty." env:"HALLMARK_OIDC_NAME" placeholder:"NAME"`
	Domains    []string `name:"domain" help:"Let in only those with an e-mail address of this domain that the provider verified; may be given several times." env:"HALLMARK_OIDC_DOMAIN" placeholder:"DOMAIN"`
}

const secretVariable = "HALLMARK_OIDC_CLIENT_SECRET"

// maxSecret bounds a client's secret, in bytes.
const maxSecret = 4096

// secret reads the client's.
func (f providerFlags) secret() (string, error) {
	if f.SecretFile == "" {
		s := os.Getenv(secretVariable)
		// No program that the server starts has any use for it.
		return s, os.Unsetenv(secretVariable)
	}
	file, err := os.Open(f.SecretFile)
	if err != nil {
		return "", fault.New(fault.Usage, "--oidc-client-secret-file: %w", err)
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxSecret+1))
	s := strings.TrimSpace(string(b))
	if err != nil || s == "" || len(b) > maxSecret || strings.ContainsAny(s, "\r\n") {
		return "", fault.New(fault.Usage, "--oidc-client-secret-file %s: want one line with the secret, of at most %d bytes", f.SecretFile, maxSecret)
	}
	return s, nil
}

// identify has people sign in by passkeys, and with the provider if there is one.
func (f providerFlags) identify(a *account.Service, externalURL string) error {
	if err := a.UsePasskeys(externalURL); err != nil {
		return err
	}
	if f.Issuer == "" {
		if f.ClientID != "" || f.SecretFile != "" || f.Name != "" || len(f.Domains) > 0 {
			return fault.New(fault.Usage, "--oidc-client-id and what belongs to it need --oidc-issuer")
		}
		return nil
	}
	secret, err := f.secret()
	if err != nil {
		return err
	}
	return a.UseProvider(account.Provider{Issuer: f.Issuer, ClientID: f.ClientID, Secret: secret, Name: f.Name, Domains: f.Domains, Callback: strings.TrimSuffix(externalURL, "/") + server.CallbackPath})
}
