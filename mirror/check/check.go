// Package check examines a registry before anything is sent to it: TLS, clock,
// credentials and what it can do. It stores nothing. Without Options.WriteProbe
// it sends GET and HEAD only; with it, uploads are opened and given up again,
// and what a registry must refuse is offered to see how it refuses.
package check

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/mirror/target"
	"oras.land/oras-go/v2/registry/remote/auth"
)

// Clock skew. Signed requests and tokens stop working at five minutes (AWS
// Signature Version 4; the leeway of most JWT libraries).
const (
	skewWarn = 2 * time.Minute
	skewFail = 5 * time.Minute
)

// expiryWarn is how long before its end a certificate is worth a word.
const expiryWarn = 30 * 24 * time.Hour

// maxBody bounds what is read of an answer: distribution-spec bounds manifests
// at 4 MiB.
const maxBody = 4 << 20

// Hosts makes clients and knows credentials; *remote.Hosts is the one to use.
type Hosts interface {
	HTTPClient() *http.Client
	AuthFor(remote.Reference) *auth.Client
	Scheme(host string) string
	Login(host string) remote.Login
	certificates
}

// Options say what to check, and how far to go.
type Options struct {
	Registry   string // REGISTRY[:PORT][/PREFIX]
	Repository string // below it, for the probes; "airlock-check" if empty
	Hosts      Hosts
	WriteProbe bool
	// Kind is the adapter's name for the registry's product; it is only shown.
	Kind string
	// Inspect asks the adapter of the registry's product; nil if there is none.
	Inspect func(ctx context.Context) (target.State, error)
	// Explain adds cause and remedy to an error; nil leaves it as it is.
	Explain func(error) error
	// ManifestMax is the adapter's limit in bytes; 0 means 4 MiB.
	ManifestMax int64
	// Now is the clock to compare with; nil means time.Now.
	Now func() time.Time
}

// Status is the outcome of one check.
type Status string

// Statuses. Unknown means that nothing was found out, which is no failure.
const (
	OK      Status = "ok"
	Warn    Status = "warn"
	Fail    Status = "fail"
	Unknown Status = "unknown"
)

// Row is one check and its outcome.
type Row struct {
	Name   string `json:"name"` // tls, api, clock, credentials, one of the capabilities, …
	Status Status `json:"status"`
	Text   string `json:"text"`
	Remedy string `json:"remedy,omitempty"`
}

// Result is what was found. It holds no secret.
type Result struct {
	Registry     string          `json:"registry"`
	Repository   string          `json:"repository"` // that probes spoke of
	Kind         string          `json:"kind,omitempty"`
	Certificates []Certificate   `json:"certificates,omitempty"` // the server's first
	Skew         *Duration       `json:"clockSkew,omitempty"`    // the registry's clock minus ours
	APIVersion   string          `json:"apiVersion,omitempty"`
	Login        remote.Login    `json:"login"`
	Capabilities map[string]bool `json:"capabilities"` // those that are known
	Rows         []Row           `json:"checks"`       // in the order of checking
	Notices      []target.Notice `json:"notices,omitempty"`
}

// Duration is written as text.
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// OK reports whether nothing failed.
func (r *Result) OK() bool {
	for _, row := range r.Rows {
		if row.Status == Fail {
			return false
		}
	}
	for _, n := range r.Notices {
		if n.Fatal {
			return false
		}
	}
	return true
}

// Run checks a registry. What is wrong with the registry is in the result; the
// error is about the options or the context.
func Run(ctx context.Context, o Options) (*Result, error) {
	if o.Repository == "" {
		o.Repository = "airlock-check"
	}
	registry := strings.TrimSuffix(o.Registry, "/")
	if host, _, _ := strings.Cut(registry, "/"); !strings.ContainsAny(host, ".:") && host != "localhost" {
		return nil, fmt.Errorf("registry %q: want REGISTRY[:PORT][/PREFIX]", o.Registry)
	}
	ref, err := remote.ParseReference(registry + "/" + o.Repository)
	if err != nil {
		return nil, fmt.Errorf("check registry: %w", err)
	}
	if ref.Tag != "" || ref.Digest != "" {
		return nil, fmt.Errorf("registry %q: want REGISTRY[:PORT][/PREFIX], without tag and digest", o.Registry)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	c := &checker{o: o, ref: ref, result: &Result{Registry: registry, Repository: ref.Repository, Kind: o.Kind, Capabilities: map[string]bool{}}}
	c.run(ctx)
	c.result.Login = o.Hosts.Login(ref.Host)
	return c.result, ctx.Err()
}

// checker collects a Result.
type checker struct {
	o      Options
	ref    remote.Reference
	result *Result
}

// run goes on for as long as the next step can tell anything.
func (c *checker) run(ctx context.Context) {
	if !c.reach(ctx) || !c.login(ctx) {
		return
	}
	c.read(ctx)
	if c.o.WriteProbe {
		c.write(ctx)
	} else {
		for _, name := range []string{"push", "single-post", "chunked-upload", "self-mount", "delete"} {
			c.row(name, Unknown, "only a write probe can tell", "")
		}
	}
	c.inspect(ctx)
}

func (c *checker) row(name string, s Status, text, remedy string) {
	c.result.Rows = append(c.result.Rows, Row{Name: name, Status: s, Text: text, Remedy: remedy})
}

// capability notes what a registry can or cannot do; neither is a failure.
func (c *checker) capability(name string, has bool, text string) {
	c.result.Capabilities[name] = has
	c.row(name, OK, text, "")
}

// failed reports an error as a row, in the adapter's words where it has some.
func (c *checker) failed(name string, s Status, err error) {
	if c.o.Explain != nil {
		err = c.o.Explain(err)
	}
	remedy := ""
	if p, ok := errors.AsType[*target.Problem](err); ok {
		remedy = p.Remedy
	}
	c.row(name, s, remote.Explain(err, c.ref.Name()).Error(), remedy)
}

// inspect adds what the registry's adapter has to say.
func (c *checker) inspect(ctx context.Context) {
	if c.o.Inspect == nil {
		return
	}
	state, err := c.o.Inspect(ctx)
	if err != nil {
		c.failed("provider", Fail, fmt.Errorf("inspect: %w", err))
		return
	}
	c.result.Notices = state.Notices
	text := "nothing to report"
	if n := len(state.Notices); n > 0 {
		text = fmt.Sprintf("%d notices", n)
	}
	c.row("provider", OK, text, "")
}

// url makes an address below /v2/.
func (c *checker) url(path string) string {
	host := c.ref.Host
	if host == remote.DefaultHost {
		host = "registry-1.docker.io"
	}
	return c.o.Hosts.Scheme(c.ref.Host) + "://" + host + "/v2/" + path
}
