package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/install"
	cluster "github.com/airlock-project/airlock/install/internal/kube"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Codes of k8s.ingress.
const (
	codeClass    = "ING-01"
	codePending  = "ING-02"
	codeLimit    = "ING-04"
	codeSilent   = "ING-07"
	codeAdmitted = "ING-06"
	codeRoute    = "ING-08"
)

// Ingress is the probe k8s.ingress: does a controller serve a class? Its zero
// value is ready and safe for concurrent use.
type Ingress struct{}

type ingressArguments struct {
	cluster.Access
	Class      string            `json:"class"`
	Name       string            `json:"name"`       // an Ingress that is there: does it lead host somewhere? instead of class
	Controller string            `json:"controller"` // that the class has to name
	Host       string            `json:"host"`       // try an Ingress for it
	Namespace  string            `json:"namespace"`  // of that Ingress; default is the cluster's
	Addressed  bool              `json:"addressed"`  // with name: its controller has given it an address
	Service    *ingressService   `json:"service"`    // of the controller, that a load balancer gives an address
	Address    string            `json:"address"`    // that it should have
	Limits     map[string]string `json:"limits"`     // controller: how large a body it takes by default
	Request    *ingressPorts     `json:"request"`    // ask the address for the host
}

type ingressService struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Selector  string `json:"selector"`
}

// ingressPorts are where a controller listens; 0 is 80 and 443.
type ingressPorts struct {
	HTTP  uint16 `json:"http"`
	HTTPS uint16 `json:"https"`
}

// Codes implements install.Coder.
func (Ingress) Codes() map[string][]string {
	return cluster.General(map[string][]string{
		codeClass:    {"class", "controller", "have", "reason"},
		codePending:  {"class", "service", "address", "reason"},
		codeLimit:    {"class", "controller", "limit", "reason"},
		codeSilent:   {"class", "address", "host", "reason"},
		codeAdmitted: {"class", "host", "reason"},
		codeRoute:    {"name", "namespace", "host", "reason"},
	})
}

// Run looks at the class, the address of its controller, whether the server
// admits an Ingress of it, and whether the controller answers for the host.
func (Ingress) Run(ctx context.Context, in install.Input) (install.Result, error) {
	var a ingressArguments
	if err := in.Decode(&a); err != nil {
		return install.Result{}, err
	}
	switch {
	case (a.Class == "") == (a.Name == ""):
		return install.Result{}, errors.New("want the class of an ingress controller, or the name of an Ingress")
	case a.Addressed && a.Name == "":
		return install.Result{}, errors.New("want the name of the Ingress that has an address")
	case a.Name != "" && (a.Host == "" || a.Namespace == ""):
		return install.Result{}, errors.New("with name want host and namespace too")
	case a.Request != nil && a.Host == "":
		return install.Result{}, errors.New("want the host to ask for")
	case a.Request != nil && a.Service == nil && a.Address == "":
		return install.Result{}, errors.New("want the service of the controller, or an address, to ask")
	}
	c, err := a.Open(ctx)
	if err != nil {
		return a.Failed(err, nil)
	}
	var res install.Result
	at := ""
	addressed := func(ctx context.Context, c *cluster.Client) (findings []install.Finding, err error) {
		at, findings, err = a.addressed(ctx, c)
		return findings, err
	}
	looks := []func(context.Context, *cluster.Client) ([]install.Finding, error){a.class, addressed, a.admits}
	if in.GitOps && a.Host != "" {
		looks = looks[:2]
		res.Findings = append(res.Findings, install.Untried(install.SeverityInfo, "whether an Ingress for "+a.Host+" is let through"))
	}
	if a.Name != "" {
		looks = []func(context.Context, *cluster.Client) ([]install.Finding, error){a.leads}
	}
	for _, look := range looks {
		findings, err := look(ctx, c)
		if err != nil {
			return a.Failed(err, nil)
		}
		res.Findings = append(res.Findings, findings...)
	}
	if a.Request != nil && at != "" {
		res.Findings = append(res.Findings, a.answers(ctx, at)...)
	}
	return res, ctx.Err()
}

func (a ingressArguments) class(ctx context.Context, c *cluster.Client) ([]install.Finding, error) {
	classes, err := c.Clientset().NetworkingV1().IngressClasses().List(ctx, metav1.ListOptions{Limit: 100})
	if err != nil {
		return nil, fmt.Errorf("list ingressclasses: %w", c.Explain(err))
	}
	var have []string
	for _, k := range classes.Items {
		controller := cluster.Clean(k.Spec.Controller)
		have = append(have, k.Name+" ("+controller+")")
		if k.Name != a.Class || controller == "" || a.Controller != "" && a.Controller != controller {
			continue
		}
		limit, limited := a.Limits[controller]
		if !limited {
			return nil, nil
		}
		f := a.Report(codeLimit, fmt.Sprintf("%s takes bodies of up to %s", controller, limit), map[string]string{"class": a.Class, "controller": controller, "limit": limit})
		f.Severity = install.SeverityWarn
		return []install.Finding{f}, nil
	}
	slices.Sort(have)
	text := "none"
	if len(have) > 0 {
		text = strings.Join(have, ", ")
	}
	want := a.Controller
	if want == "" {
		want = "of any name"
	}
	return []install.Finding{a.Report(codeClass, fmt.Sprintf("no IngressClass %s with a controller %s; there are: %s", a.Class, want, text),
		map[string]string{"class": a.Class, "controller": want, "have": text})}, nil
}

// addressed looks whether a load balancer gave the controller's service an
// address, and the right one. It returns the address to ask.
func (a ingressArguments) addressed(ctx context.Context, c *cluster.Client) (string, []install.Finding, error) {
	if a.Service == nil {
		return a.Address, nil, nil
	}
	options := metav1.ListOptions{LabelSelector: a.Service.Selector, Limit: 100}
	if a.Service.Name != "" {
		options.FieldSelector = "metadata.name=" + a.Service.Name
	}
	services, err := c.Clientset().CoreV1().Services(a.Service.Namespace).List(ctx, options)
	if err != nil {
		return "", nil, fmt.Errorf("list services of %s: %w", a.Service.Namespace, c.Explain(err))
	}
	report := func(service, reason string) (string, []install.Finding, error) {
		return "", []install.Finding{a.Report(codePending, service+": "+reason, map[string]string{"class": a.Class, "service": service, "address": a.Address, "reason": reason})}, nil
	}
	what := a.Service.Namespace + "/" + a.Service.Name + a.Service.Selector
	for i := range services.Items {
		s := &services.Items[i]
		if s.Spec.Type != corev1.ServiceTypeLoadBalancer {
			continue
		}
		what = s.Namespace + "/" + s.Name
		addresses := addressesOf(s)
		switch {
		case len(addresses) == 0:
			return report(what, "no load balancer has given it an address")
		case a.Address != "" && !slices.Contains(addresses, a.Address):
			return report(what, fmt.Sprintf("its address is %s and not %s", strings.Join(addresses, ", "), a.Address))
		case a.Address != "":
			return a.Address, nil, nil
		}
		return addresses[0], nil, nil
	}
	return report(what, "there is no service of type LoadBalancer")
}

func addressesOf(s *corev1.Service) []string {
	var out []string
	for _, i := range s.Status.LoadBalancer.Ingress {
		for _, v := range []string{i.IP, i.Hostname} {
			if v != "" {
				out = append(out, cluster.Clean(v))
			}
		}
	}
	return out
}

// admits tries an Ingress out in a dry run of the server.
func (a ingressArguments) admits(ctx context.Context, c *cluster.Client) ([]install.Finding, error) {
	if a.Host == "" {
		return nil, nil
	}
	namespace := a.Namespace
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	o := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": map[string]any{"name": "airlock-probe", "namespace": namespace},
		"spec": map[string]any{"ingressClassName": a.Class, "rules": []any{map[string]any{
			"host": a.Host, "http": map[string]any{"paths": []any{map[string]any{
				"path": "/airlock-probe", "pathType": "Prefix",
				"backend": map[string]any{"service": map[string]any{"name": "airlock-probe", "port": map[string]any{"number": int64(80)}}},
			}}},
		}}},
	}}
	reason, err := admitted(ctx, c, o)
	if err != nil || reason == "" {
		return nil, err
	}
	return []install.Finding{a.Report(codeAdmitted, "an Ingress for "+a.Host+" is refused: "+reason, map[string]string{"class": a.Class, "host": a.Host, "reason": reason})}, nil
}

// leads looks whether the Ingress of a name has a rule for the host, and whether
// its class exists.
func (a ingressArguments) leads(ctx context.Context, c *cluster.Client) ([]install.Finding, error) {
	report := func(reason string) []install.Finding {
		return []install.Finding{a.Report(codeRoute, "Ingress "+a.Namespace+"/"+a.Name+": "+reason, map[string]string{"name": a.Name, "namespace": a.Namespace, "host": a.Host, "reason": reason})}
	}
	o, err := c.Clientset().NetworkingV1().Ingresses(a.Namespace).Get(ctx, a.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return report("it does not exist"), nil
	}
	if err != nil {
		return nil, fmt.Errorf("read ingress %s/%s: %w", a.Namespace, a.Name, c.Explain(err))
	}
	var hosts []string
	for _, r := range o.Spec.Rules {
		hosts = append(hosts, cluster.Clean(r.Host))
	}
	if !slices.Contains(hosts, a.Host) {
		return report("it is for [" + strings.Join(hosts, ", ") + "]"), nil
	}
	if o.Spec.IngressClassName == nil {
		return a.reachable(o), nil
	}
	class := *o.Spec.IngressClassName
	// Listed, as elsewhere: who may list classes need not be given more.
	classes, err := c.Clientset().NetworkingV1().IngressClasses().List(ctx, metav1.ListOptions{Limit: 100})
	if err != nil {
		return nil, fmt.Errorf("list ingressclasses: %w", c.Explain(err))
	}
	if !slices.ContainsFunc(classes.Items, func(k networkingv1.IngressClass) bool { return k.Name == class }) {
		return report("its IngressClass " + cluster.Clean(class) + " does not exist"), nil
	}
	return a.reachable(o), nil
}

// reachable wants the address that a controller gives an Ingress.
func (a ingressArguments) reachable(o *networkingv1.Ingress) []install.Finding {
	if !a.Addressed || slices.ContainsFunc(o.Status.LoadBalancer.Ingress, func(i networkingv1.IngressLoadBalancerIngress) bool { return i.IP != "" || i.Hostname != "" }) {
		return nil
	}
	class := "the default one"
	if o.Spec.IngressClassName != nil {
		class = *o.Spec.IngressClassName
	}
	const reason = "no controller has given it an address"
	return []install.Finding{a.Report(codePending, "Ingress "+a.Namespace+"/"+a.Name+": "+reason, map[string]string{"class": class, "service": a.Name, "address": "none", "reason": reason})}
}
