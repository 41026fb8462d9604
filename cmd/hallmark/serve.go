package main

import (
	"fmt"
	"io"
	"log/slog"
	"strings"

	"hallmark/internal/app"
	"hallmark/internal/server"
)

type serveCmd struct {
	Listen      string `help:"Address to listen on." default:"127.0.0.1:8420" placeholder:"ADDR"`
	ExternalURL string `name:"external-url" help:"How clients reach the server; part of builder and verifier ids." placeholder:"URL"`
	SingleUser  bool   `name:"single-user" help:"Loopback only, no accounts: whoever reaches the port is the owner."`
}

func (c *serveCmd) Run(e *env) error {
	l, err := server.Listen(c.Listen)
	if err != nil {
		return err
	}
	defer l.Close()
	// A reader: builds may go on while it serves.
	a, err := e.open(false, func(cfg *app.Config) { cfg.ExternalURL = c.ExternalURL })
	if err != nil {
		return err
	}
	defer a.Close()
	url := c.ExternalURL
	if url == "" {
		url = "http://" + strings.Replace(l.Addr().String(), "127.0.0.1", "localhost", 1)
	}
	s, err := server.New(a.Backend(), server.Options{ExternalURL: url, SingleUser: c.SingleUser, Version: version,
		Log: slog.New(slog.NewTextHandler(e.err, nil))})
	if err != nil {
		return err
	}
	err = e.print(map[string]string{"url": url}, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "Serving %s\n", url)
		return err
	})
	if err != nil {
		return err
	}
	return s.Serve(e.ctx, l)
}
