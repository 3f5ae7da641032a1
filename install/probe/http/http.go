// Package http is the probe http.get: does a service answer as it should, to a
// client that trusts only the authorities given.
package http

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/airlock-project/airlock/install"
)

// Codes. The checklist may give its own codes to statuses, with codes:.
const (
	codeUnreachable = "HTTP-01"
	codeStatus      = "HTTP-02"
	codeHeader      = "HTTP-03"
	codeBody        = "HTTP-04"
	codeTLS         = "HTTP-05"
)

const (
	// maxBody bounds what is read of an answer.
	maxBody = 4 << 20
	maxCA   = 1 << 20
	// maxRedirects is what browsers follow.
	maxRedirects   = 20
	defaultTimeout = 30 * time.Second
)

// Probe is http.get. Its zero value is ready and safe for concurrent use.
type Probe struct{}

// arguments are the step's with.
type arguments struct {
	URL      string            `json:"url"`
	Status   []int             `json:"status"`   // any of these; default 200
	Header   map[string]string `json:"header"`   // name: text its value contains
	Contains []string          `json:"contains"` // texts in the body
	CA       string            `json:"ca"`       // PEM file; without it the system's authorities count
	Timeout  string            `json:"timeout"`
	Codes    map[string]string `json:"codes"` // status: the code to report instead
}

// Codes implements install.Coder.
func (Probe) Codes() map[string][]string {
	return map[string][]string{
		codeUnreachable: {"url", "reason"},
		codeTLS:         {"url", "reason"},
		codeStatus:      {"url", "status", "want"},
		codeHeader:      {"url", "header", "want", "got"},
		codeBody:        {"url", "want"},
	}
}

// Run asks once, following redirects on the same host only.
func (Probe) Run(ctx context.Context, in install.Input) (install.Result, error) {
	a := arguments{Status: []int{http.StatusOK}, Timeout: defaultTimeout.String()}
	if err := in.Decode(&a); err != nil {
		return install.Result{}, err
	}
	u, err := url.Parse(a.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return install.Result{}, errors.New("want a url with http or https")
	}
	wait, err := time.ParseDuration(a.Timeout)
	if err != nil || wait <= 0 {
		return install.Result{}, fmt.Errorf("timeout %q is not a duration such as 30s", a.Timeout)
	}
	client, err := newClient(a.CA)
	if err != nil {
		return install.Result{}, err
	}
	defer client.CloseIdleConnections()
	asking, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	req, err := http.NewRequestWithContext(asking, http.MethodGet, a.URL, nil)
	if err != nil {
		return install.Result{}, errors.New("want a url with http or https")
	}
	resp, err := client.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return install.Result{}, ctx.Err()
		}
		return install.Result{Findings: []install.Finding{a.unanswered(err)}}, nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return install.Result{Findings: []install.Finding{a.unanswered(err)}}, nil
	}
	return install.Result{
		Findings: a.judge(resp, string(body)),
		Evidence: []install.Evidence{{Name: "answer", Media: "text/plain", Data: head(resp)}},
	}, nil
}

// head is the status line and the headers, without cookies.
func head(resp *http.Response) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n", resp.Proto, resp.Status)
	for _, name := range slices.Sorted(maps.Keys(resp.Header)) {
		if name != "Set-Cookie" {
			fmt.Fprintf(&b, "%s: %s\n", name, strings.Join(resp.Header[name], ", "))
		}
	}
	return []byte(b.String())
}

func newClient(ca string) (*http.Client, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		f, err := os.Open(ca)
		if err != nil {
			return nil, fmt.Errorf("read ca: %w", err)
		}
		defer f.Close()
		pem, err := io.ReadAll(io.LimitReader(f, maxCA))
		if err != nil {
			return nil, fmt.Errorf("read ca: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read ca: %s holds no PEM certificate", ca)
		}
	}
	return &http.Client{
		// No proxy: what is proved is the way a client inside takes.
		Transport: &http.Transport{TLSClientConfig: conf},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if req.URL.Hostname() != via[0].URL.Hostname() {
				return fmt.Errorf("redirected to another host, %q", req.URL.Host)
			}
			if len(via) >= maxRedirects {
				return fmt.Errorf("redirected %d times", len(via))
			}
			return nil
		},
	}, nil
}

func (a arguments) unanswered(err error) install.Finding {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		err = ue.Err // the URL is a field of its own
	}
	code := codeUnreachable
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		code = codeTLS
	}
	reason := err.Error()
	if errors.Is(err, context.DeadlineExceeded) {
		reason = "no answer within " + a.Timeout
	}
	return install.Finding{Code: code, Detail: reason, Fields: map[string]string{"url": a.URL, "reason": reason}}
}

// judge compares an answer with what is wanted.
func (a arguments) judge(resp *http.Response, body string) []install.Finding {
	if !slices.Contains(a.Status, resp.StatusCode) {
		got := strconv.Itoa(resp.StatusCode)
		code := codeStatus
		if own := a.Codes[got]; own != "" {
			code = own
		}
		// Headers and body of an error page say nothing of the service.
		return []install.Finding{{
			Code: code, Detail: "answered " + resp.Status,
			Fields: map[string]string{"url": a.URL, "status": got, "want": strings.Trim(fmt.Sprint(a.Status), "[]")},
		}}
	}
	var out []install.Finding
	for _, name := range slices.Sorted(maps.Keys(a.Header)) {
		want, got := a.Header[name], strings.Join(resp.Header.Values(name), ", ")
		if !strings.Contains(got, want) || got == "" {
			out = append(out, install.Finding{
				Code: codeHeader, Detail: fmt.Sprintf("%s is %q, want %q in it", name, got, want),
				Fields: map[string]string{"url": a.URL, "header": name, "want": want, "got": got},
			})
		}
	}
	for _, want := range a.Contains {
		if !strings.Contains(body, want) {
			out = append(out, install.Finding{
				Code: codeBody, Detail: fmt.Sprintf("the answer of %d bytes lacks %q", len(body), want),
				Fields: map[string]string{"url": a.URL, "want": want},
			})
		}
	}
	return out
}
