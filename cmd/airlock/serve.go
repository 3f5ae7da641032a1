package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/airlock-project/airlock/mirror"
	"github.com/airlock-project/airlock/verify"
	"github.com/spf13/cobra"
)

func (a *app) serve() *cobra.Command {
	var t trustFlags
	var listen, cert, key string
	cmd := &cobra.Command{
		Use: "serve BUNDLE", Short: "A read-only OCI registry straight out of a verified bundle",
		Long: "Nothing is unpacked. quay.io/jetstack/x:v1 is served as jetstack/x:v1 and as\nquay.io/jetstack/x:v1. Every blob is verified while it is sent.",
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, list []string) error {
			return a.runServe(cmd.Context(), list[0], t, listen, cert, key)
		},
	}
	t.add(cmd)
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:5000", "`address` to listen on")
	cmd.Flags().StringVar(&cert, "tls-cert", "", "PEM certificate chain `file`: serve HTTPS")
	cmd.Flags().StringVar(&key, "tls-key", "", "PEM key `file` of --tls-cert")
	return cmd
}

func (a *app) runServe(ctx context.Context, path string, t trustFlags, listen, cert, key string) error {
	if (cert == "") != (key == "") {
		return &usageError{errors.New("--tls-cert and --tls-key go together")}
	}
	s := mirror.NewServer(nil)
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return badTLS(err)
		}
		s.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	}
	b, err := a.open(ctx, path, t, verify.Options{AnySite: true})
	if err != nil {
		return err
	}
	defer b.Close()
	if s.Handler, err = mirror.Handler(ctx, b, func(err error) { a.warn("%v", err) }); err != nil {
		return err
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return &listenError{err}
	}
	done := make(chan error, 1)
	go func() {
		if cert != "" {
			done <- s.ServeTLS(l, "", "")
			return
		}
		done <- s.Serve(l)
	}()
	if err := a.announce(b, map[bool]string{true: "https", false: "http"}[cert != ""]+"://"+l.Addr().String()); err != nil {
		return errors.Join(err, s.Close())
	}
	select {
	case err := <-done:
		return fmt.Errorf("serve %s: %w", path, err)
	case <-ctx.Done():
	}
	// The command's own context is over; what is under way gets ten seconds.
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := s.Shutdown(stop); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return errors.Join(err, s.Close())
	}
	a.say("stopped")
	return nil
}

// announce says where the registry is: in words, or as the result for programs.
func (a *app) announce(b *verify.Bundle, address string) error {
	if a.output == "json" {
		return a.result(map[string]string{"address": address}, nil)
	}
	a.say("serving %s %s on %s, interrupt to stop", b.Info().Product, b.Info().Version, address)
	return nil
}

// badTLS is about certificate and key; a file that cannot be read speaks for
// itself.
func badTLS(err error) error {
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return err
	}
	return &settingError{fmt.Errorf("--tls-cert and --tls-key: %w", err), "give the PEM certificate chain, the server's own first, with --tls-cert and its private key with --tls-key"}
}

// listenError says that the address cannot be listened on.
type listenError struct{ err error }

func (e *listenError) Error() string { return e.err.Error() }
func (e *listenError) Unwrap() error { return e.err }

func (e *listenError) verdict() verdict {
	switch {
	case errors.Is(e.err, syscall.EADDRINUSE):
		return verdict{exitFailed, "another program listens there: choose another address with --listen"}
	case errors.Is(e.err, syscall.EACCES):
		return verdict{exitFailed, "ports below 1024 are for root: choose another with --listen"}
	}
	return verdict{exitUsage, "--listen wants an address of this machine and a port, as in 0.0.0.0:5000"}
}
