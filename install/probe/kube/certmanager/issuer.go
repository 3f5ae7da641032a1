// Package certmanager is the probe certmanager.issuer: is an issuer of
// cert-manager ready, and does it issue what the enclave trusts?
package certmanager

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/airlock-project/airlock/install"
	cluster "github.com/airlock-project/airlock/install/internal/kube"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
)

// Codes, beside the general ones.
const (
	codeReady     = "ISS-01"
	codeSecret    = "ISS-02"
	codeChallenge = "ISS-03"
	codeChain     = "ISS-04"
)

const (
	apiVersion       = "cert-manager.io/v1"
	clusterNamespace = "cert-manager"
	defaultWait      = 2 * time.Minute
	pause            = 500 * time.Millisecond
	// cleaning bounds how long what was made is removed, when the step's own time
	// may be over.
	cleaning = 15 * time.Second
)

// Issuer is the probe certmanager.issuer. Its zero value is ready and safe for
// concurrent use with different issuers. What it makes to look, a Certificate
// and its Secret, it removes.
type Issuer struct{}

type arguments struct {
	cluster.Access
	Name      string `json:"name"`
	Kind      string `json:"kind"`      // ClusterIssuer, the default, or Issuer
	Namespace string `json:"namespace"` // of the Certificate, and of an Issuer; default cert-manager
	Issue     string `json:"issue"`     // host name to have a Certificate issued for; none if empty
	CA        string `json:"ca"`        // PEM file; the chain has to lead there
	Wait      string `json:"wait"`      // for issuer and certificate, each; default 2m; less where cert-manager has given up
}

// Codes implements install.Coder.
func (Issuer) Codes() map[string][]string {
	fields := []string{"issuer", "name", "host", "secret", "namespace", "reason"}
	return cluster.General(map[string][]string{codeReady: fields, codeSecret: fields, codeChallenge: fields, codeChain: fields})
}

// work is one run.
type work struct {
	arguments
	*cluster.Client
	wait time.Duration
	site string // what relative paths are relative to
	only bool   // nothing may be made in the cluster
}

// Run waits for the issuer, then has it issue.
func (Issuer) Run(ctx context.Context, in install.Input) (install.Result, error) {
	w := &work{wait: defaultWait, site: in.Site, only: in.GitOps}
	if err := in.Decode(&w.arguments); err != nil {
		return install.Result{}, err
	}
	if err := w.defaults(); err != nil {
		return install.Result{}, err
	}
	var err error
	if w.Client, err = w.Open(ctx); err != nil {
		return w.Failed(err, w.fields(""))
	}
	f, err := w.run(ctx)
	if err != nil {
		return w.Failed(err, w.fields(""))
	}
	if f == nil {
		return install.Result{}, nil
	}
	return install.Result{Findings: []install.Finding{*f}}, nil
}

func (w *work) defaults() error {
	if w.Name == "" {
		return errors.New("want the name of an issuer")
	}
	switch w.Kind {
	case "":
		w.Kind = "ClusterIssuer"
	case "ClusterIssuer", "Issuer":
	default:
		return fmt.Errorf("kind %q is neither ClusterIssuer nor Issuer", w.Kind)
	}
	if w.Namespace == "" {
		w.Namespace = clusterNamespace
	}
	if w.Wait == "" {
		return nil
	}
	d, err := time.ParseDuration(w.Wait)
	if err != nil || d <= 0 {
		return fmt.Errorf("wait %q is not a duration such as 2m", w.Wait)
	}
	w.wait = d
	return nil
}

func (w *work) fields(reason string) map[string]string {
	return map[string]string{"issuer": w.Name, "name": w.Name, "host": w.Issue, "namespace": w.Namespace, "reason": reason}
}

func (w *work) run(ctx context.Context) (*install.Finding, error) {
	reason, err := w.ready(ctx)
	if err != nil {
		return nil, err
	}
	if reason != "" {
		f := w.unready(reason)
		return &f, nil
	}
	if w.Issue == "" {
		return nil, nil
	}
	if w.only {
		f := install.Untried(install.SeverityWarn, "a certificate of issuer "+w.Name+" for "+w.Issue)
		return &f, nil
	}
	return w.issue(ctx)
}

// resource is the client for one of cert-manager's kinds.
func (w *work) resource(ctx context.Context, kind string) (dynamic.ResourceInterface, error) {
	o := &unstructured.Unstructured{}
	o.SetAPIVersion(apiVersion)
	o.SetKind(kind)
	o.SetNamespace(w.Namespace)
	r, _, err := w.Resource(ctx, o)
	return r, err
}

// ready waits until the issuer says that it is. What it says last counts.
func (w *work) ready(ctx context.Context) (reason string, err error) {
	r, err := w.resource(ctx, w.Kind)
	if err != nil {
		return "", err
	}
	err = w.poll(ctx, func() (bool, error) {
		o, err := r.Get(ctx, w.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			reason = "it does not exist"
			return true, nil
		}
		if err != nil {
			return true, fmt.Errorf("read %s %s: %w", w.Kind, w.Name, w.Explain(err))
		}
		if stale(o, "Ready") {
			reason = "cert-manager has not looked at it since it was changed"
			return false, nil
		}
		if reason = cluster.Unmet(o, "Ready"); reason == "" {
			return true, nil
		}
		return w.final(ctx, o)
	})
	return reason, err
}

// lost is how cert-manager says that a Secret is not where it looks.
var lost = regexp.MustCompile(`secrets? "([^"]+)" not found`)

func (w *work) unready(reason string) install.Finding {
	fields := w.fields(reason)
	code := codeReady
	if m := lost.FindStringSubmatch(reason); m != nil {
		code, fields["secret"] = codeSecret, m[1]
	}
	return w.Report(code, fmt.Sprintf("%s %s is not ready: %s", w.Kind, w.Name, reason), fields)
}

// poll looks until look is done or time is up.
func (w *work) poll(ctx context.Context, look func() (bool, error)) error {
	end := time.NewTimer(w.wait)
	defer end.Stop()
	for {
		done, err := look()
		if done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-end.C:
			return nil
		case <-time.After(pause):
		}
	}
}
