package kube

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/airlock-project/airlock/install"
	cluster "github.com/airlock-project/airlock/install/internal/kube"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Codes of k8s.webhook.
const (
	codeNoWebhook = "WEB-01"
	codeNoCA      = "WEB-02"
	codeEndpoints = "WEB-03"
	codeRefused   = "WEB-04"
)

var (
	validating = schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "validatingwebhookconfigurations"}
	mutating   = schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "mutatingwebhookconfigurations"}
)

// Webhook is the probe k8s.webhook: would the API server reach these admission
// webhooks? Its zero value is ready and safe for concurrent use.
type Webhook struct{}

type webhookArguments struct {
	cluster.Access
	Name     string         `json:"name"`     // of the configurations
	Selector string         `json:"selector"` // or their labels
	DryRun   map[string]any `json:"dry_run"`  // an object that the webhooks look at and let through
}

// Codes implements install.Coder.
func (Webhook) Codes() map[string][]string {
	return cluster.General(map[string][]string{
		codeNoWebhook: {"webhook", "reason"},
		codeNoCA:      {"webhook", "reason"},
		codeEndpoints: {"webhook", "service", "namespace", "reason"},
		codeRefused:   {"webhook", "object", "reason"},
	})
}

// Run looks at every webhook of the configurations, then tries one out.
func (Webhook) Run(ctx context.Context, in install.Input) (install.Result, error) {
	var a webhookArguments
	if err := in.Decode(&a); err != nil {
		return install.Result{}, err
	}
	if (a.Name == "") == (a.Selector == "") {
		return install.Result{}, errors.New("want name or selector of webhook configurations")
	}
	c, err := a.Open(ctx)
	if err != nil {
		return a.Failed(err, nil)
	}
	var res install.Result
	found := 0
	for _, r := range []schema.GroupVersionResource{validating, mutating} {
		configurations, err := list(ctx, c, r, "", a.Name, a.Selector)
		if err != nil {
			return a.Failed(err, nil)
		}
		for i := range configurations {
			hooks, _, _ := unstructured.NestedSlice(configurations[i].Object, "webhooks")
			for _, h := range hooks {
				hook, _ := h.(map[string]any)
				found++
				findings, err := a.hook(ctx, c, hook)
				if err != nil {
					return a.Failed(err, nil)
				}
				res.Findings = append(res.Findings, findings...)
			}
		}
	}
	which := a.Name + a.Selector
	if found == 0 {
		res.Findings = append(res.Findings, a.Report(codeNoWebhook, "there is no webhook configuration "+which, map[string]string{"webhook": which}))
	}
	if len(a.DryRun) == 0 || len(res.Findings) > 0 {
		return res, nil
	}
	if in.GitOps {
		res.Findings = append(res.Findings, install.Untried(install.SeverityInfo, "whether "+which+" lets an object through"))
		return res, nil
	}
	return a.try(ctx, c, which)
}

// hook looks at one webhook of a configuration.
func (a webhookArguments) hook(ctx context.Context, c *cluster.Client, hook map[string]any) ([]install.Finding, error) {
	name, _, _ := unstructured.NestedString(hook, "name")
	var out []install.Finding
	bundle, _, _ := unstructured.NestedString(hook, "clientConfig", "caBundle")
	if raw, err := base64.StdEncoding.DecodeString(bundle); err != nil || len(raw) == 0 {
		out = append(out, a.Report(codeNoCA, "webhook "+name+" has no caBundle yet: what fills it in does not run", map[string]string{"webhook": name}))
	}
	service, _, _ := unstructured.NestedString(hook, "clientConfig", "service", "name")
	namespace, _, _ := unstructured.NestedString(hook, "clientConfig", "service", "namespace")
	if service == "" {
		return out, nil // it is reached by URL
	}
	ready, err := endpoints(ctx, c, namespace, service)
	if err != nil {
		return nil, err
	}
	if ready == 0 {
		out = append(out, a.Report(codeEndpoints, fmt.Sprintf("service %s/%s of webhook %s has no ready endpoint", namespace, service, name),
			map[string]string{"webhook": name, "service": service, "namespace": namespace}))
	}
	return out, nil
}

// endpoints counts the ready endpoints of a service.
func endpoints(ctx context.Context, c *cluster.Client, namespace, service string) (int, error) {
	slices, err := c.Clientset().DiscoveryV1().EndpointSlices(namespace).List(ctx, metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=" + service, Limit: 100})
	if err != nil {
		return 0, fmt.Errorf("list endpoints of %s/%s: %w", namespace, service, c.Explain(err))
	}
	ready := 0
	for _, s := range slices.Items {
		for _, e := range s.Endpoints {
			if e.Conditions.Ready == nil || *e.Conditions.Ready {
				ready += len(e.Addresses)
			}
		}
	}
	return ready, nil
}

// try has the server go through the creation of an object without keeping it.
func (a webhookArguments) try(ctx context.Context, c *cluster.Client, which string) (install.Result, error) {
	o := &unstructured.Unstructured{Object: a.DryRun}
	if o.GetKind() == "" || o.GetAPIVersion() == "" {
		return install.Result{}, errors.New("dry_run is no object: it has no apiVersion or no kind")
	}
	if o.GetName() == "" {
		o.SetName("airlock-probe")
	}
	reason, err := admitted(ctx, c, o)
	if err != nil {
		return a.Failed(err, nil)
	}
	if reason == "" {
		return install.Result{}, nil
	}
	f := a.Report(codeRefused, reason, map[string]string{"webhook": which, "object": cluster.Name(o)})
	return install.Result{Findings: []install.Finding{f}}, nil
}

// admitted creates an object in a dry run of the server. It returns why that is
// refused, "" if it is not.
func admitted(ctx context.Context, c *cluster.Client, o *unstructured.Unstructured) (string, error) {
	r, _, err := c.Resource(ctx, o)
	if err != nil {
		return "", err
	}
	_, err = r.Create(ctx, o, metav1.CreateOptions{FieldManager: cluster.Manager, DryRun: []string{metav1.DryRunAll}})
	return cluster.Refusal(c.Explain(err))
}
