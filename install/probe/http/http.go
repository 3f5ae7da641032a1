// Package http is the probe http.get: does a service answer as it should, to a
// client that trusts only the authorities given.
package http

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/answer"
	"github.com/airlock-project/airlock/install/internal/web"
)

// Codes. The checklist may give its own codes to statuses, with codes:.
const (
	codeUnreachable = "HTTP-01"
	codeStatus      = "HTTP-02"
	codeHeader      = "HTTP-03"
	codeBody        = "HTTP-04"
	codeTLS         = "HTTP-05"
	codeJSON        = "HTTP-06"
)

const (
	// maxBody bounds what is read of an answer.
	maxBody        = 4 << 20
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
	JSON     []answer.Check    `json:"json"`     // what the body has to say
	CA       string            `json:"ca"`       // PEM file; without it the system's authorities count
	Timeout  string            `json:"timeout"`
	Codes    map[string]string `json:"codes"`   // status, or one of our codes: the code to report instead
	Outputs  map[string]string `json:"outputs"` // name: path in the body's JSON

	// Request are headers to send. They may hold secrets: with them the URL must
	// be https and no redirect leaves the host and port.
	Request map[string]string `json:"request"`
	Basic   *basic            `json:"basic"`
}

// basic are credentials as RFC 7617 sends them; as secret as the headers.
type basic struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

// secret reports whether a request carries something that is not for others.
func (a arguments) secret() bool { return len(a.Request) > 0 || a.Basic != nil }

// Codes implements install.Coder.
func (Probe) Codes() map[string][]string {
	return map[string][]string{
		codeUnreachable: {"url", "reason"},
		codeTLS:         {"url", "reason"},
		codeStatus:      {"url", "status", "want"},
		codeHeader:      {"url", "header", "want", "got"},
		codeBody:        {"url", "want"},
		codeJSON:        {"url", "path", "want", "got"},
	}
}

// Run asks once, following redirects on the same host only.
func (Probe) Run(ctx context.Context, in install.Input) (install.Result, error) {
	a := arguments{Status: []int{http.StatusOK}, Timeout: defaultTimeout.String()}
	if err := in.Decode(&a); err != nil {
		return install.Result{}, err
	}
	if err := web.Address(a.URL, a.secret()); err != nil {
		return install.Result{}, err
	}
	wait, err := time.ParseDuration(a.Timeout)
	if err != nil || wait <= 0 {
		return install.Result{}, fmt.Errorf("timeout %q is not a duration such as 30s", a.Timeout)
	}
	client, err := web.Trusting(a.CA, a.secret())
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
	for name, value := range a.Request {
		if strings.ContainsAny(value, "\r\n") {
			return install.Result{}, fmt.Errorf("request header %s: its value has a line end", name)
		}
		req.Header.Set(name, value)
	}
	if a.Basic != nil {
		req.SetBasicAuth(a.Basic.Username, a.Basic.Password)
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
	res := install.Result{
		Findings: a.judge(resp, body),
		Evidence: []install.Evidence{{Name: "answer", Media: "text/plain", Data: head(resp)}},
	}
	if a.secret() {
		res.Evidence = nil // a server may send back what it was sent
	}
	if len(res.Findings) == 0 && len(a.Outputs) > 0 {
		err = a.take(body, &res)
	}
	return res, err
}

// take reads outputs out of the body.
func (a arguments) take(body []byte, res *install.Result) error {
	doc, err := decode(body)
	if err != nil {
		return err
	}
	res.Outputs = make(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(a.Outputs)) {
		v, ok := answer.At(doc, a.Outputs[name])
		s, isText := answer.Text(v)
		if !ok || !isText {
			return fmt.Errorf("output %s: the answer has no text at %q", name, a.Outputs[name])
		}
		res.Outputs[name] = s
	}
	return nil
}

func decode(body []byte) (doc any, err error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if err := d.Decode(&doc); err != nil {
		return nil, errors.New("the answer is not JSON")
	}
	return doc, nil
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

func (a arguments) unanswered(err error) install.Finding {
	reason, untrusted := web.Why(err)
	code := codeUnreachable
	if untrusted {
		code = codeTLS
	}
	if errors.Is(err, context.DeadlineExceeded) {
		reason = "no answer within " + a.Timeout
	}
	reason = a.clean(reason)
	return install.Finding{Code: a.own(code), Detail: reason, Fields: map[string]string{"url": a.URL, "reason": reason}}
}

// clean takes what was sent out of a text.
func (a arguments) clean(s string) string {
	secrets := slices.Collect(maps.Values(a.Request))
	if a.Basic != nil {
		secrets = append(secrets, a.Basic.Password)
	}
	return web.Quote(s, secrets...)
}

func (a arguments) own(code string) string {
	if mine := a.Codes[code]; mine != "" {
		return mine
	}
	return code
}

// judge compares an answer with what is wanted.
func (a arguments) judge(resp *http.Response, body []byte) []install.Finding {
	if !slices.Contains(a.Status, resp.StatusCode) {
		got := strconv.Itoa(resp.StatusCode)
		code := a.own(codeStatus)
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
				Code: a.own(codeHeader), Detail: a.clean(fmt.Sprintf("%s is %q, want %q in it", name, got, want)),
				Fields: map[string]string{"url": a.URL, "header": name, "want": want, "got": a.clean(got)},
			})
		}
	}
	for _, want := range a.Contains {
		if !bytes.Contains(body, []byte(want)) {
			out = append(out, install.Finding{
				Code: a.own(codeBody), Detail: fmt.Sprintf("the answer of %d bytes lacks %q", len(body), want),
				Fields: map[string]string{"url": a.URL, "want": want},
			})
		}
	}
	return append(out, a.facts(body)...)
}

// facts compares the body's JSON with what it has to say.
func (a arguments) facts(body []byte) []install.Finding {
	if len(a.JSON) == 0 {
		return nil
	}
	doc, err := decode(body)
	var out []install.Finding
	for _, check := range a.JSON {
		got, want, ok := check.Judge(doc)
		if err != nil {
			got, ok = err.Error(), false
		}
		if ok {
			continue
		}
		code := check.Code
		if code == "" {
			code = a.own(codeJSON)
		}
		got = a.clean(got)
		out = append(out, install.Finding{
			Code: code, Detail: fmt.Sprintf("%s is %s, want %s", check.Path, got, want),
			Fields: map[string]string{"url": a.URL, "path": check.Path, "want": want, "got": got},
		})
	}
	return out
}
