package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
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
	b, err := a.open(ctx, path, t, verify.Options{AnySite: true})
	if err != nil {
		return err
	}
	defer b.Close()
	h, err := mirror.Handler(ctx, b)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	s := mirror.NewServer(h)
	done := make(chan error, 1)
	go func() {
		if cert != "" {
			done <- s.ServeTLS(l, cert, key)
			return
		}
		done <- s.Serve(l)
	}()
	scheme := map[bool]string{true: "https", false: "http"}[cert != ""]
	a.say("serving %s %s on %s://%s, interrupt to stop", b.Info().Product, b.Info().Version, scheme, l.Addr())
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
