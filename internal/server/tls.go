package server

import (
	"crypto/tls"
	"net"
	"os"
	"sync"
	"time"

	"hallmark/internal/fault"
)

// TLS has a listener speak TLS 1.2 or newer with the certificate chain and the key
// in the files named, which are read again when they change, so that a renewed
// certificate needs no restart. Files that cannot be read are fault.Usage at the
// start; later ones are passed over, and the certificate that was good stays.
func TLS(l net.Listener, certFile, keyFile string) (net.Listener, error) {
	c := &certificate{cert: certFile, key: keyFile}
	if _, err := c.get(nil); err != nil {
		return nil, fault.New(fault.Usage, "TLS certificate %s with key %s: %w", certFile, keyFile, err)
	}
	return tls.NewListener(l, &tls.Config{GetCertificate: c.get, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}), nil
}

// certificate is a certificate in files that may be renewed.
type certificate struct {
	cert, key string

	mu     sync.Mutex // guards the rest
	loaded *tls.Certificate
	stamp  time.Time // of the certificate's file when it was read
	looked time.Time // when the file was last looked at
}

// lookAgain is how often the file is looked at.
const lookAgain = 10 * time.Second

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if c.loaded != nil && now.Sub(c.looked) < lookAgain {
		return c.loaded, nil
	}
	c.looked = now
	st, err := os.Stat(c.cert)
	if err == nil && (c.loaded == nil || !st.ModTime().Equal(c.stamp)) {
		var fresh tls.Certificate
		if fresh, err = tls.LoadX509KeyPair(c.cert, c.key); err == nil {
			c.loaded, c.stamp = &fresh, st.ModTime()
		}
	}
	if c.loaded != nil {
		return c.loaded, nil
	}
	return nil, err
}
