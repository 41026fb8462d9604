package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"strings"
	"syscall"

	"hallmark/internal/app"
	"hallmark/internal/fault"
	"hallmark/internal/server"
)

type serveCmd struct {
	Listen      string `help:"Address to listen on." default:"127.0.0.1:8420" placeholder:"ADDR"`
	ExternalURL string `name:"external-url" help:"How clients reach the server; part of builder and verifier ids." placeholder:"URL"`
	SingleUser  bool   `name:"single-user" help:"Loopback only, no accounts: whoever reaches the port is the owner."`
	BehindProxy bool   `name:"behind-proxy" help:"A proxy in front ends TLS and appends the client's address to X-Forwarded-For; allows to listen beyond loopback."`
	TLSCert     string `name:"tls-cert" help:"Certificate chain (PEM) to speak TLS with; allows to listen beyond loopback. Read again when it changes." type:"existingfile" placeholder:"FILE"`
	LogFormat   string `name:"log-format" help:"Lines of the log on standard error: text or json." enum:"text,json" default:"text" env:"HALLMARK_LOG_FORMAT"`
	LogLevel    string `name:"log-level" help:"debug, info (a line for each request), warn or error." enum:"debug,info,warn,error" default:"info" env:"HALLMARK_LOG_LEVEL"`
	TLSKey      string `name:"tls-key" help:"Its private key (PEM)." type:"existingfile" placeholder:"FILE"`

	Provider      providerFlags `embed:"" prefix:"oidc-"`
	MetricsListen string        `name:"metrics-listen" help:"Serve /metrics on this address alone, to whoever reaches it, without TLS; without it /metrics is for this machine and for administrators." placeholder:"ADDR"`
	DebugListen   string        `name:"debug-listen" help:"Serve profiles of this program (net/http/pprof) on this loopback address; off without it." placeholder:"ADDR"`
}

func (c *serveCmd) Run(e *env) error {
	if c.SingleUser && c.BehindProxy {
		return fault.New(fault.Usage, "--single-user and --behind-proxy: a single user's server is for the person in front of the machine")
	}
	if c.BehindProxy && !strings.HasPrefix(c.ExternalURL, "https://") {
		return fault.Advise(fault.Usage, "Say what clients use: --external-url https://HOST", "--behind-proxy: the proxy has to speak TLS to clients")
	}
	if c.SingleUser && c.Provider.Issuer != "" {
		return fault.New(fault.Usage, "--single-user and --oidc-issuer: a single user's server has nobody to sign in")
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return fault.New(fault.Usage, "--tls-cert and --tls-key belong together")
	}
	if c.TLSCert != "" && (c.SingleUser || c.BehindProxy) {
		return fault.New(fault.Usage, "--tls-cert is for a server with accounts that clients reach without a proxy")
	}
	if c.TLSCert != "" && !strings.HasPrefix(c.ExternalURL, "https://") {
		return fault.Advise(fault.Usage, "Say what clients use: --external-url https://HOST", "--tls-cert: the address for clients begins with https://")
	}
	listen := server.Listen
	if c.BehindProxy || c.TLSCert != "" {
		listen = server.ListenAnywhere
	}
	l, err := listen(c.Listen)
	if err != nil {
		return err
	}
	defer l.Close()
	url := c.ExternalURL
	if url == "" {
		url = "http://" + strings.Replace(l.Addr().String(), "127.0.0.1", "localhost", 1)
	}
	log := c.log(e.err)
	opts := server.Options{ExternalURL: url, SingleUser: c.SingleUser, BehindProxy: c.BehindProxy, MetricsApart: c.MetricsListen != "", Version: version, Log: log}
	cfg, err := e.config(false)
	if err != nil {
		return err
	}
	cfg.ExternalURL = c.ExternalURL
	setup, backend := "", server.Backend(nil)
	h, err := app.Host(e.ctx, cfg, log)
	switch {
	case err == nil:
		defer func() {
			if err := h.Close(); err != nil {
				log.Error("the end was not clean", "error", err)
			}
		}()
		backend, opts.Platform, opts.Builds = h.Backend(), h.Platform, h.Queue
		opts.Catalog, opts.Stats = h.Catalog(), h.Stats
		if !c.SingleUser {
			opts.Accounts = h.Accounts
			if err = c.Provider.identify(h.Accounts, url); err != nil {
				return err
			}
			if setup, err = h.Accounts.Setup(e.ctx); err != nil {
				return err
			}
		}
	case c.SingleUser && (errors.Is(err, syscall.EROFS) || errors.Is(err, fs.ErrPermission)):
		// What cannot be written can be shown.
		a, rerr := e.open(false, func(cfg *app.Config) { cfg.ExternalURL = c.ExternalURL })
		if rerr != nil {
			return errors.Join(err, rerr)
		}
		defer a.Close()
		backend = a.Backend()
	default:
		return err
	}
	if c.TLSCert != "" {
		if l, err = server.TLS(l, c.TLSCert, c.TLSKey); err != nil {
			return err
		}
	}
	if c.DebugListen != "" {
		if err := debugOn(e.ctx, c.DebugListen, log); err != nil {
			return err
		}
	}
	s, err := server.New(backend, opts)
	if err != nil {
		return err
	}
	if c.MetricsListen != "" {
		if err := c.metricsOn(e.ctx, s, log); err != nil {
			return err
		}
	}
	said := map[string]string{"url": url}
	if setup != "" {
		said["setup"] = url + "/link/" + setup
	}
	err = e.print(said, func(w io.Writer) error {
		if _, err := fmt.Fprintf(w, "Serving %s\n", url); err != nil || setup == "" {
			return err
		}
		_, err := fmt.Fprintf(w, "Nobody has an account yet. Make the administrator's here, once, within a day:\n  %s\n", said["setup"])
		return err
	})
	if err != nil {
		return err
	}
	return s.Serve(e.ctx, l)
}

// log is the server's log.
func (c *serveCmd) log(w io.Writer) *slog.Logger {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	o := &slog.HandlerOptions{Level: levels[c.LogLevel]}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}
