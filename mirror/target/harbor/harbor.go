// Package harbor is the mirror target for Harbor 2: projects that have to
// exist, quota and tag rules that are better known before the first byte, and
// answers that do not mean what they say.
//
// What it knows was observed on Harbor 2.16. The first segment of a repository
// name is the project; repositories below it are made by the push, at any depth.
// Credentials go with every request as Basic authentication: Harbor's token
// service hands anyone with a wrong password a token for nobody, so that a wrong
// password looks like missing rights. Its session cookie turns the next write
// into a 403 about CSRF, so no cookie is kept.
package harbor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"

	"github.com/airlock-project/airlock/mirror/target"
)

// Options say which Harbor, and as whom. Host and HTTPClient are required.
type Options struct {
	Host       string // HOST[:PORT]
	HTTPClient *http.Client
	PlainHTTP  bool // spoken to without TLS

	// Credential is shown to Host and nobody else. Where it is empty the
	// environment of Harbor's Terraform provider is used, HARBOR_USERNAME and
	// HARBOR_PASSWORD, if HARBOR_URL names this host.
	Credential target.Credential
	// Login returns what is to be shown to Host, found by all the ways that a
	// user has: flags, auth files, docker's and podman's logins, and Credential
	// of this package among them. Where it is set, API calls show that and
	// nothing else; an empty one means that there is none. It is asked once.
	Login     func(context.Context) (target.Credential, error)
	LookupEnv func(string) (string, bool) // nil means os.LookupEnv

	// ManagedElsewhere says that projects are made by other means, such as
	// Terraform: a missing one is then a fatal notice, not an action.
	ManagedElsewhere bool
	// Public and StorageLimit are settings of projects that Prepare makes.
	Public       bool
	StorageLimit int64 // bytes; 0 leaves it to Harbor's default, -1 is no limit
}

// Target is one Harbor. It is safe for concurrent use.
type Target struct {
	opts Options
	base string // scheme and host
	http *http.Client
	cred target.Credential // of options or environment

	mu    sync.Mutex // guards what follows
	login loginState
	shown target.Credential // what API calls show; empty: not yet asked for
}

// loginState is what is known of the credential. Harbor's refusals of a wrong
// password and of missing rights are the same.
type loginState int

const (
	loginUnknown loginState = iota
	loginAccepted
	loginRefused
)

var hostPort = regexp.MustCompile(`^([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?$`)

// New checks the options. It sends nothing.
func New(o Options) (*Target, error) {
	if !hostPort.MatchString(o.Host) {
		return nil, fmt.Errorf("use Harbor %q: not HOST[:PORT]", o.Host)
	}
	if o.HTTPClient == nil {
		return nil, fmt.Errorf("use Harbor %s: no HTTP client", o.Host)
	}
	if o.StorageLimit < -1 {
		return nil, fmt.Errorf("use Harbor %s: storage limit %d is neither -1 nor a size", o.Host, o.StorageLimit)
	}
	if o.LookupEnv == nil {
		o.LookupEnv = os.LookupEnv
	}
	t := &Target{opts: o, base: "https://" + o.Host, http: withoutCookies(o.HTTPClient), cred: o.Credential}
	if o.PlainHTTP {
		t.base = "http://" + o.Host
	}
	if t.cred.Username == "" {
		t.cred = fromEnvironment(o)
	}
	return t, nil
}

// withoutCookies returns a client that keeps no cookie and follows no redirect:
// what it sends is for one host.
func withoutCookies(c *http.Client) *http.Client {
	bare := *c
	bare.Jar = nil
	bare.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &bare
}

// fromEnvironment uses the variables of Harbor's Terraform provider, and only
// for the host that they are for.
func fromEnvironment(o Options) target.Credential {
	where, _ := o.LookupEnv("HARBOR_URL")
	u, err := url.Parse(where)
	if err != nil || !strings.EqualFold(u.Host, o.Host) {
		return target.Credential{}
	}
	user, _ := o.LookupEnv("HARBOR_USERNAME")
	password, _ := o.LookupEnv("HARBOR_PASSWORD")
	if user == "" || password == "" {
		return target.Credential{}
	}
	return target.Credential{Username: user, Password: password, Source: "environment HARBOR_USERNAME"}
}

// Kind returns "harbor".
func (t *Target) Kind() string { return "harbor" }

// Limits returns what Harbor accepts: project and repository, 255 bytes of
// name, and user name and password with the first request, which saves a token
// for every repository and outlives the token's 30 minutes. Uploads are never
// cut into chunks: the registry inside accepts them out of order.
func (t *Target) Limits() target.Limits {
	return target.Limits{
		RepositoryMax:   255,
		PreemptiveBasic: true,
		CheckRepository: func(name string) error {
			_, _, err := t.split(name)
			return err
		},
	}
}

// Credential returns the credential of the options or the environment; Harbor
// has no other. The error is a *target.Problem.
func (t *Target) Credential(context.Context) (target.Credential, error) {
	if t.cred.Username == "" || t.cred.Password == "" {
		return target.Credential{}, t.noCredentials("there are none")
	}
	return t.cred, checkUser(t.cred)
}

func (t *Target) noCredentials(why string) error {
	return &target.Problem{
		Code:   target.NoCredentials,
		Remedy: "log in with the name and secret of a user or robot account: docker login " + t.opts.Host + ", --username with --password-stdin, or HARBOR_URL, HARBOR_USERNAME and HARBOR_PASSWORD",
		Err:    fmt.Errorf("find credentials for Harbor %s: %s", t.opts.Host, why),
	}
}

func checkUser(c target.Credential) error {
	if strings.Contains(c.Username, ":") {
		return errors.New("use Harbor credentials: a user name with a colon cannot be sent")
	}
	return nil
}

// loginFor returns what API calls show.
func (t *Target) loginFor(ctx context.Context) (target.Credential, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.shown.Username != "" {
		return t.shown, nil
	}
	if t.opts.Login == nil {
		c, err := t.Credential(ctx)
		t.shown = c
		return c, err
	}
	c, err := t.opts.Login(ctx)
	if err != nil {
		return target.Credential{}, err
	}
	if c.Username == "" || c.Password == "" {
		why := "there are none"
		if c.Source != "" {
			why = "what there is (" + c.Source + ") is no name with a secret"
		}
		return target.Credential{}, t.noCredentials(why)
	}
	t.shown = c
	return c, checkUser(c)
}

// user is the name that is shown, or "".
func (t *Target) user() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return cmp.Or(t.shown.Username, t.cred.Username)
}

// NameError says that a repository name does not fit Harbor: nothing was sent.
type NameError struct {
	Host, Name string
	Reason     string
}

func (e *NameError) Error() string {
	return fmt.Sprintf("place %q in Harbor %s: %s", e.Name, e.Host, e.Reason)
}

// nameComponent is the grammar of projects (src/controller/project) and of the
// components of a repository name (distribution-spec 1.1).
var nameComponent = regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$`)

// split takes a repository name apart. A path without project is what Harbor
// answers with a bare 400.
func (t *Target) split(name string) (project, repository string, err error) {
	fail := func(format string, a ...any) (string, string, error) {
		return "", "", &NameError{Host: t.opts.Host, Name: name, Reason: fmt.Sprintf(format, a...)}
	}
	project, repository, found := strings.Cut(name, "/")
	if !found {
		return fail("it names no project: write %s/PROJECT/REPOSITORY", t.opts.Host)
	}
	if len(name) > 255 {
		return fail("it has %d bytes, 255 are allowed", len(name))
	}
	if strings.Contains(project, "__") || strings.Contains(project, "--") || !nameComponent.MatchString(project) {
		return fail("%q is no project: lower-case letters and digits, with single '.', '_' or '-' between them", project)
	}
	for c := range strings.SplitSeq(repository, "/") {
		if !nameComponent.MatchString(c) {
			return fail("%q is no repository: lower-case letters and digits, with '.', '_' or '-' between them", repository)
		}
	}
	return project, repository, nil
}

func (t *Target) setLogin(s loginState) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.login = s
}

func (t *Target) loginState() loginState {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.login
}
