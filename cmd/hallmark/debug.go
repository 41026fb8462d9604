package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"time"

	"hallmark/internal/fault"
	"hallmark/internal/server"
)

// debugOn serves the program's own profiles (net/http/pprof) on an address of their
// own until ctx ends. They tell much of what the server does, so the address is on the
// loopback interface, whatever else the server listens on: fault.Denied if not. Nobody
// is asked who it is: whoever has an account on the machine can read them.
func debugOn(ctx context.Context, addr string, log *slog.Logger) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fault.New(fault.Usage, "--debug-listen %.100q: want HOST:PORT, such as 127.0.0.1:6060", addr)
	}
	if ip, err := netip.ParseAddr(host); err != nil || !ip.IsLoopback() {
		return fault.Advise(fault.Denied, "Use 127.0.0.1 or ::1.", "--debug-listen %.100q: profiles are for this machine alone", addr)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fault.Advise(fault.Conflict, "Another program may have the port; choose another one.", "--debug-listen %s: %w", addr, err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	hs := &http.Server{Handler: ownHost(mux), ReadHeaderTimeout: 10 * time.Second}
	go func() {
		if err := hs.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("profiles are not served any more", "error", err)
		}
	}()
	context.AfterFunc(ctx, func() { hs.Close() })
	log.Warn("profiles are served", "address", l.Addr().String())
	return nil
}

// metricsOn serves the server's numbers on an address of their own until ctx ends.
func (c *serveCmd) metricsOn(ctx context.Context, s *server.Server, log *slog.Logger) error {
	if _, _, err := net.SplitHostPort(c.MetricsListen); err != nil {
		return fault.New(fault.Usage, "--metrics-listen %.100q: want HOST:PORT, such as 127.0.0.1:9420", c.MetricsListen)
	}
	l, err := net.Listen("tcp", c.MetricsListen)
	if err != nil {
		return fault.Advise(fault.Conflict, "Another program may have the port; choose another one.", "--metrics-listen %s: %w", c.MetricsListen, err)
	}
	hs := &http.Server{Handler: s.MetricsHandler(), ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 32 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	go func() {
		if err := hs.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("numbers are not served any more", "error", err)
		}
	}()
	context.AfterFunc(ctx, func() { hs.Close() })
	log.Info("numbers are served", "address", l.Addr().String())
	return nil
}

// ownHost refuses what a page elsewhere makes a browser ask (DNS rebinding).
func ownHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		ip, bad := netip.ParseAddr(host)
		if err != nil || host != "localhost" && (bad != nil || !ip.IsLoopback()) || r.Header.Get("Origin") != "" {
			http.Error(w, "This answers only to its own names.", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}
