package kube

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

const (
	// maxCredential bounds what an exec plugin prints, and maxWords what of its
	// words about a failure is kept.
	maxCredential = 1 << 20
	maxWords      = 4 << 10
)

// plugin runs the exec plugin of a kubeconfig (client.authentication.k8s.io) in
// place of client-go, which hands the plugin's stderr to the terminal as it is,
// reads its output without end and lets it run when nobody waits any more. What it
// gave is kept until it expires or is refused. It is safe for concurrent use.
type plugin struct {
	cfg  *clientcmdapi.ExecConfig
	info map[string]any // the cluster, where the plugin wants it

	mu   sync.Mutex
	have *credential
}

// credential is what a plugin gave.
type credential struct {
	token string
	cert  *tls.Certificate
	until time.Time // zero: for good
}

// plugins are those that ran in this process, by what they are run with: a
// cluster is opened by each step, and a login may take seconds or a person.
var plugins sync.Map //nolint:gochecknoglobals // as client-go does

// pluginOf is the plugin of a user, nil if there is none.
func pluginOf(user *clientcmdapi.AuthInfo, cluster *clientcmdapi.Cluster) (*plugin, error) {
	if user.Exec == nil {
		return nil, nil
	}
	p := &plugin{cfg: user.Exec}
	if user.Exec.ProvideClusterInfo {
		p.info = map[string]any{"server": cluster.Server, "certificate-authority-data": cluster.CertificateAuthorityData}
		for k, v := range map[string]string{"tls-server-name": cluster.TLSServerName, "proxy-url": cluster.ProxyURL} {
			if v != "" {
				p.info[k] = v
			}
		}
		if config := cluster.Extensions[execExtension]; config != nil {
			p.info["config"] = config
		}
	}
	key, err := json.Marshal([]any{p.cfg.Command, p.cfg.Args, p.cfg.Env, p.cfg.APIVersion, p.info, cluster.Server})
	if err != nil {
		return nil, fmt.Errorf("getting credentials: %w", err)
	}
	known, _ := plugins.LoadOrStore(string(key), p)
	return known.(*plugin), nil
}

// get returns what the plugin gave, or runs it.
func (p *plugin) get(ctx context.Context) (*credential, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.have != nil && (p.have.until.IsZero() || time.Now().Before(p.have.until)) {
		return p.have, nil
	}
	c, err := p.run(ctx)
	if err != nil {
		return nil, fmt.Errorf("getting credentials: %w", err)
	}
	p.have = c
	return c, nil
}

// refused forgets a credential that the server did not take.
func (p *plugin) refused(c *credential) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.have == c {
		p.have = nil
	}
}

// execCredential is the document of a plugin, in v1 and v1beta1.
type execCredential struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Status     *struct {
		Expires     *time.Time `json:"expirationTimestamp"`
		Token       string     `json:"token"`
		Certificate string     `json:"clientCertificateData"`
		Key         string     `json:"clientKeyData"`
	} `json:"status"`
}

func (p *plugin) run(ctx context.Context) (*credential, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	spec := map[string]any{"interactive": false}
	if p.info != nil {
		spec["cluster"] = p.info
	}
	info, err := json.Marshal(map[string]any{"apiVersion": p.cfg.APIVersion, "kind": "ExecCredential", "spec": spec})
	if err != nil {
		return nil, err
	}
	out, words := &limited{left: maxCredential}, &limited{left: maxWords}
	cmd := exec.CommandContext(ctx, p.cfg.Command, p.cfg.Args...) //nolint:gosec // the operator's kubeconfig names it
	cmd.Env = append(os.Environ(), "KUBERNETES_EXEC_INFO="+string(info))
	for _, e := range p.cfg.Env {
		cmd.Env = append(cmd.Env, e.Name+"="+e.Value)
	}
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = out, words, time.Second
	if err := cmd.Run(); err != nil {
		switch {
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			return nil, fmt.Errorf("it gave none within %s", requestTime)
		case ctx.Err() != nil:
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("it failed: %w%s", err, spoken(words.String()))
	}
	return p.read(out)
}

// read takes the credential out of what a plugin printed, of which no error
// repeats anything.
func (p *plugin) read(out *limited) (*credential, error) {
	var doc execCredential
	switch err := json.Unmarshal(out.Bytes(), &doc); {
	case out.over:
		return nil, fmt.Errorf("it printed more than %d bytes", maxCredential)
	case err != nil || doc.Kind != "ExecCredential":
		return nil, errors.New("what it printed is no ExecCredential")
	case doc.APIVersion != p.cfg.APIVersion:
		return nil, fmt.Errorf("it speaks %s, the kubeconfig says %s", clean(doc.APIVersion), clean(p.cfg.APIVersion))
	case doc.Status == nil || doc.Status.Token == "" && doc.Status.Certificate == "":
		return nil, errors.New("it gave neither a token nor a certificate")
	}
	c := &credential{token: doc.Status.Token}
	if doc.Status.Expires != nil {
		c.until = *doc.Status.Expires
	}
	if doc.Status.Certificate != "" || doc.Status.Key != "" {
		pair, err := tls.X509KeyPair([]byte(doc.Status.Certificate), []byte(doc.Status.Key))
		if err != nil {
			return nil, errors.New("the certificate and key that it gave do not fit each other, or are none")
		}
		c.cert = &pair
	}
	return c, nil
}

// cert is the client's certificate for a connection, none if the plugin gives a
// token.
func (p *plugin) cert() (*tls.Certificate, error) {
	c, err := p.get(context.Background())
	if err != nil {
		return nil, err
	}
	return c.cert, nil
}

// withPlugin adds a plugin's token to requests.
type withPlugin struct {
	*plugin
	next http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (w withPlugin) RoundTrip(req *http.Request) (*http.Response, error) {
	c, err := w.get(req.Context())
	if err != nil {
		return nil, err
	}
	if c.token != "" && req.Header.Get("Authorization") == "" {
		req = utilnet.CloneRequest(req)
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := w.next.RoundTrip(req)
	if err == nil && resp.StatusCode == http.StatusUnauthorized {
		w.refused(c)
		if c.cert != nil {
			utilnet.CloseIdleConnectionsFor(w.next) // they have its certificate
		}
	}
	return resp, err
}

// limited keeps the beginning of what is written to it.
type limited struct {
	bytes.Buffer
	left int
	over bool
}

func (l *limited) Write(b []byte) (int, error) {
	n := min(len(b), l.left)
	l.left -= n
	l.over = l.over || n < len(b)
	l.Buffer.Write(b[:n])
	return len(b), nil
}

// ReadFrom hides that of bytes.Buffer, which knows no limit.
func (l *limited) ReadFrom(r io.Reader) (int64, error) { return io.Copy(struct{ io.Writer }{l}, r) }

var (
	escapes = regexp.MustCompile(`\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(\x07|\x1b\\)?`)
	// Words that may be secrets: long ones, and what follows their names.
	secretish = regexp.MustCompile(`(?i)((?:token|password|passwd|secret|authorization|bearer|key)["']?\s*[:= ]\s*["']?)[^\s"',;]+|[A-Za-z0-9_+/=.~-]{24,}`)
	// paths look like long words and say what is missing.
	pathlike = regexp.MustCompile(`^\.{0,2}/[\w.-]+(/[\w.-]+)+$`)
)

// spoken is the end of what a plugin said about its failure: one line, bounded, with
// nothing in it that moves a terminal or may be a secret.
func spoken(words string) string {
	words = strings.TrimSpace(escapes.ReplaceAllString(words, ""))
	if words == "" {
		return ""
	}
	words = secretish.ReplaceAllStringFunc(words, func(s string) string {
		if pathlike.MatchString(s) {
			return s
		}
		return secretish.ReplaceAllString(s, "${1}[hidden]")
	})
	return ": " + clean(words)
}
