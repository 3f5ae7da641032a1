package web

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/airlock-project/airlock/install/internal/dial"
)

// mostRedirects is what browsers follow.
const mostRedirects = 20

// Trusting returns a client that trusts the PEM file ca, or what this machine
// trusts if ca is "". It follows redirects on the same host, never from https
// to http; strict follows none to another port either, for requests that carry
// a secret.
func Trusting(ca string, strict bool) (*http.Client, error) {
	roots, err := dial.Pool(ca)
	if err != nil {
		return nil, err
	}
	return &http.Client{
		// No proxy: what is proved is the way a client inside takes.
		Transport: &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			from := via[0].URL
			switch {
			case req.URL.Hostname() != from.Hostname(), strict && req.URL.Host != from.Host:
				return fmt.Errorf("redirected to another host, %q", req.URL.Host)
			case req.URL.Scheme != from.Scheme && req.URL.Scheme != "https":
				return fmt.Errorf("redirected from %s to %s", from.Scheme, req.URL.Scheme)
			case len(via) >= mostRedirects:
				return fmt.Errorf("redirected %d times", len(via))
			}
			return nil
		},
	}, nil
}

// Address checks that s is an http or https URL; secret asks for https.
func Address(s string, secret bool) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return errors.New("want a url with http or https")
	case u.User != nil:
		return errors.New("want a url without a user: secrets do not belong in it")
	case secret && u.Scheme != "https":
		return errors.New("want a url with https: a secret is not sent in the clear")
	}
	return nil
}

// Why says in a few words why a request has no answer, and whether it is
// because the certificate is not trusted.
func Why(err error) (reason string, untrusted bool) {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		err = ue.Err // the URL is a field of its own
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return err.Error(), true
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time", false
	}
	if short := dial.Reason(err); short != "no connection" {
		return short, false
	}
	return dial.NotTLS(err), false
}

// maxQuoted bounds what is quoted of an outside text.
const maxQuoted = 200

// Quote makes outside text fit for a message: one line, no control characters,
// bounded, and without the secrets given.
func Quote(s string, secrets ...string) string {
	for _, secret := range secrets {
		if secret != "" {
			s = strings.ReplaceAll(s, secret, "[secret]")
		}
	}
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0:
			return -1
		}
		return r
	}, s)
	if r := []rune(s); len(r) > maxQuoted {
		s = string(r[:maxQuoted]) + "…"
	}
	return s
}
