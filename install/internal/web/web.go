// Package web is the HTTP client of steps that look at a service inside: it
// trusts only the authorities given, uses no proxy, leaves no host, and bounds
// what it reads.
package web

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/airlock-project/airlock/install/internal/dial"
)

// maxRedirects is less than browsers follow; a service that needs more is wrong.
const maxRedirects = 10

// TrustError says that a server's certificate is not trusted.
type TrustError struct{ Reason string }

func (e *TrustError) Error() string { return e.Reason }

// Client returns a client whose every request ends after wait. The caller closes
// its idle connections. Redirects to another host, and from https to http, are
// refused: a password would follow.
func Client(roots *x509.CertPool, wait time.Duration) *http.Client {
	return &http.Client{
		Timeout: wait,
		// No proxy: what is proved is the way a client inside takes.
		Transport: &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}, ForceAttemptHTTP2: true},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			switch from := via[0].URL; {
			case req.URL.Host != from.Host:
				return fmt.Errorf("redirected to another host, %q", req.URL.Host)
			case req.URL.Scheme != from.Scheme:
				return fmt.Errorf("redirected to %s", req.URL.Scheme)
			case len(via) >= maxRedirects:
				return fmt.Errorf("redirected %d times", len(via))
			}
			return nil
		},
	}
}

// URL reads an address of http or https. The error does not quote it: it may
// hold a password.
func URL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("it is not a URL such as https://host/path")
	}
	return u, nil
}

// Answer is what came back, read and closed.
type Answer struct {
	Code   int
	Status string // code and text
	Media  string // Content-Type
	Body   []byte
}

// Do sends req and reads the answer, of at most limit bytes. An error is a
// *TrustError, or says in a person's words why there is no answer; it holds
// neither the URL nor what was sent.
func Do(client *http.Client, req *http.Request, limit int64) (Answer, error) {
	resp, err := client.Do(req)
	if err != nil {
		return Answer{}, reason(req.Context(), err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return Answer{}, reason(req.Context(), err)
	}
	if int64(len(body)) > limit {
		return Answer{}, fmt.Errorf("the answer is larger than %d bytes", limit)
	}
	return Answer{Code: resp.StatusCode, Status: resp.Status, Media: resp.Header.Get("Content-Type"), Body: body}, nil
}

func reason(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if v, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return &TrustError{v.Err.Error()}
	}
	if ue, ok := errors.AsType[*url.Error](err); ok {
		err = ue.Err
	}
	if short := dial.Reason(err); short != "no connection" {
		return errors.New(short)
	}
	return errors.New(dial.NotTLS(err))
}
