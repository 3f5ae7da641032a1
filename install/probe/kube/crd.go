package kube

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/airlock-project/airlock/install"
	cluster "github.com/airlock-project/airlock/install/internal/kube"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

const codeCRD = "CRD-01"

var crds = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

// CRD is the probe k8s.crd: are these types there, and served? Its zero value is
// ready and safe for concurrent use.
type CRD struct{}

type crdArguments struct {
	cluster.Access
	Names []string `json:"names"` // plural.group
}

// Codes implements install.Coder.
func (CRD) Codes() map[string][]string {
	return cluster.General(map[string][]string{codeCRD: {"missing", "reason"}})
}

// Run reports all types that are missing or not established, in one finding.
func (CRD) Run(ctx context.Context, in install.Input) (install.Result, error) {
	var a crdArguments
	if err := in.Decode(&a); err != nil {
		return install.Result{}, err
	}
	if len(a.Names) == 0 {
		return install.Result{}, errors.New("want names of types, such as certificates.cert-manager.io")
	}
	c, err := a.Open(ctx)
	if err != nil {
		return a.Failed(err, nil)
	}
	var missing, reasons []string
	for _, name := range a.Names {
		o, err := c.Dynamic().Resource(crds).Get(ctx, name, metav1.GetOptions{})
		reason := ""
		switch {
		case apierrors.IsNotFound(err):
			reason = "it does not exist"
		case err != nil:
			return a.Failed(fmt.Errorf("read type %s: %w", name, c.Explain(err)), nil)
		default:
			reason = cluster.Unmet(o, "Established")
		}
		if reason != "" {
			missing, reasons = append(missing, name), append(reasons, name+": "+reason)
		}
	}
	if len(missing) == 0 {
		return install.Result{}, nil
	}
	f := a.Report(codeCRD, strings.Join(reasons, "; "), map[string]string{"missing": strings.Join(missing, ", ")})
	return install.Result{Findings: []install.Finding{f}}, nil
}

// list returns the objects of a resource that a name or a label selector picks.
func list(ctx context.Context, c *cluster.Client, r schema.GroupVersionResource, namespace, name, selector string) ([]unstructured.Unstructured, error) {
	options := metav1.ListOptions{LabelSelector: selector, Limit: 100}
	if name != "" {
		options.FieldSelector = "metadata.name=" + name
	}
	got, err := c.Dynamic().Resource(r).Namespace(namespace).List(ctx, options)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", r.GroupResource(), c.Explain(err))
	}
	return got.Items, nil
}
