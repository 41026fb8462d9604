package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"hallmark/internal/fault"
)

// maxToken is how long a token may be, in bytes; maxCredentials bounds the file of
// them.
const (
	maxToken       = 200
	maxCredentials = 1 << 20
)

// TokenVariable is the environment variable whose token goes before a stored one,
// for CI.
const TokenVariable = "HALLMARK_TOKEN"

// credentials is the file of tokens, by server.
type credentials struct {
	Servers map[string]credential `json:"servers"`
}

type credential struct {
	Token string `json:"token"`
}

// CredentialsFile is where tokens are kept: hallmark/credentials.json in the user's
// folder for configuration (os.UserConfigDir).
func CredentialsFile() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fault.Advise(fault.Unsupported, "Set HOME or XDG_CONFIG_HOME, or give the token in "+TokenVariable+".", "there is no place for tokens: %w", err)
	}
	return filepath.Join(dir, "hallmark", "credentials.json"), nil
}

// parseCredentials reads the file of tokens.
func parseCredentials(b []byte) (credentials, error) {
	c := credentials{Servers: map[string]credential{}}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return c, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return c, errors.New("something follows its end")
	}
	if c.Servers == nil {
		c.Servers = map[string]credential{}
	}
	for s, v := range c.Servers {
		if u, err := ServerURL(s); err != nil || u != s {
			return c, fmt.Errorf("%.100q is no server", s)
		}
		if v.Token == "" || len(v.Token) > maxToken {
			return c, fmt.Errorf("the token for %s is not of the form of one", s)
		}
	}
	return c, nil
}

// load reads the file of tokens; one that is not there holds none. One that others
// than its owner can read is refused.
func load() (string, credentials, error) {
	name, err := CredentialsFile()
	if err != nil {
		return "", credentials{}, err
	}
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return name, credentials{Servers: map[string]credential{}}, nil
	}
	if err != nil {
		return name, credentials{}, fmt.Errorf("read the tokens: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return name, credentials{}, fmt.Errorf("read the tokens: %w", err)
	}
	if !st.Mode().IsRegular() || st.Mode().Perm()&0o077 != 0 {
		return name, credentials{}, fault.Advise(fault.Denied, "Others may have read the tokens: revoke them on the account's page, remove the file, and sign in again.",
			"%s can be read by others than you (mode %04o)", name, st.Mode().Perm())
	}
	b, err := io.ReadAll(io.LimitReader(f, maxCredentials+1))
	if err != nil {
		return name, credentials{}, fmt.Errorf("read the tokens: %w", err)
	}
	c, err := parseCredentials(b)
	if err != nil || len(b) > maxCredentials {
		return name, credentials{}, fault.Advise(fault.Conflict, "Remove it and sign in again: hallmark login --server URL", "%s cannot be read: %v", name, err)
	}
	return name, c, nil
}

func (c credentials) save(name string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return fmt.Errorf("keep the token: %w", err)
	}
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".credentials-*") // mode 0600
	if err != nil {
		return fmt.Errorf("keep the token: %w", err)
	}
	defer os.Remove(f.Name()) // gone already if all went well
	_, err = f.Write(append(b, '\n'))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("keep the token: %w", err)
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return fmt.Errorf("keep the token: %w", err)
	}
	return nil
}

// Token gives the token for a server: that of TokenVariable, else the stored one;
// empty if there is none.
func Token(server string) (string, error) {
	if t := strings.TrimSpace(os.Getenv(TokenVariable)); t != "" {
		return t, nil
	}
	base, err := ServerURL(server)
	if err != nil {
		return "", err
	}
	_, c, err := load()
	return c.Servers[base].Token, err
}

// KeepToken stores the token for a server, for its owner's eyes alone, and gives the
// file that it is in.
func KeepToken(server, token string) (string, error) {
	base, err := ServerURL(server)
	if err != nil {
		return "", err
	}
	if err := CheckToken(base); err != nil {
		return "", err
	}
	name, c, err := load()
	if err != nil {
		return "", err
	}
	c.Servers[base] = credential{token}
	return name, c.save(name)
}

// ForgetToken removes the stored token for a server, and tells whether there was
// one.
func ForgetToken(server string) (bool, error) {
	base, err := ServerURL(server)
	if err != nil {
		return false, err
	}
	name, c, err := load()
	if err != nil {
		return false, err
	}
	if _, ok := c.Servers[base]; !ok {
		return false, nil
	}
	delete(c.Servers, base)
	return true, c.save(name)
}
