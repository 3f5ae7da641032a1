package kube

import (
	"encoding/base64"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/kube/kubetest"
	"github.com/google/go-cmp/cmp"
)

// check wants the codes, fields that Codes lists, and the token nowhere.
func check(t *testing.T, name string, k install.Coder, res install.Result, err error, want ...string) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %v", name, err)
	}
	got := []string{}
	for _, f := range res.Findings {
		got = append(got, f.Code)
		for field := range f.Fields {
			if known, ok := k.Codes()[f.Code]; ok && !slices.Contains(known, field) {
				t.Errorf("%s: field %s is not listed with %s", name, field, f.Code)
			}
		}
	}
	if d := cmp.Diff(append([]string{}, want...), got); d != "" {
		t.Errorf("%s: %s\n%+v", name, d, res.Findings)
	}
	if raw, err := json.Marshal(res); err != nil || strings.Contains(string(raw), kubetest.Token) {
		t.Errorf("%s: a token shows in %s", name, raw)
	}
}

func node(name, arch, ready string) map[string]any {
	return map[string]any{
		"apiVersion": "v1", "kind": "Node", "metadata": map[string]any{"name": name},
		"status": map[string]any{
			"nodeInfo":   map[string]any{"operatingSystem": "linux", "architecture": arch},
			"conditions": []any{map[string]any{"type": "Ready", "status": ready, "reason": "KubeletNotReady", "message": "no CNI"}},
		},
	}
}

func TestVersion(t *testing.T) {
	s := kubetest.Start(t)
	s.Put(node("a", "arm64", "True"), node("b", "amd64", "True"), node("c", "amd64", "False"))
	res, err := Version{}.Run(t.Context(), install.Input{With: map[string]any{"kubeconfig": s.Kubeconfig, "min": "1.26", "nodes": true}})
	check(t, "good", Version{}, res, err, "K8S-12")
	if res.Findings[0].Severity != install.SeverityWarn || !strings.Contains(res.Findings[0].Detail, "no CNI") {
		t.Errorf("%+v", res.Findings)
	}
	if d := cmp.Diff(map[string]any{"k8s.version": "v1.37.2", "k8s.node_platforms": []any{"linux/amd64", "linux/arm64"}}, res.Outputs); d != "" {
		t.Error(d)
	}
	res, err = Version{}.Run(t.Context(), install.Input{With: map[string]any{"kubeconfig": s.Kubeconfig, "min": "1.38"}})
	check(t, "old", Version{}, res, err, "K8S-04")
	for name, with := range map[string]map[string]any{"min": {"min": "x"}, "skew": {"max_skew": "x"}, "unknown": {"minimum": "1"}} {
		with["kubeconfig"] = s.Kubeconfig
		if _, err := (Version{}).Run(t.Context(), install.Input{With: with}); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	res, err = Version{}.Run(t.Context(), install.Input{With: map[string]any{"codes": map[string]any{"K8S-07": "X-01"}}})
	check(t, "no kubeconfig", Version{}, res, err, "X-01")
}

func TestVersionTroubles(t *testing.T) {
	s := kubetest.Start(t)
	s.Handle("GET /api/v1/nodes", func(w http.ResponseWriter, _ *http.Request) {
		kubetest.Refuse(w, 403, "Forbidden", `nodes is forbidden: User "eve" cannot list resource "nodes" in API group "" at the cluster scope`)
	})
	res, err := Version{}.Run(t.Context(), install.Input{With: map[string]any{"kubeconfig": s.Kubeconfig, "nodes": true}})
	check(t, "forbidden", Version{}, res, err, "K8S-03")
	if f := res.Findings[0].Fields; f["verb"] != "list" || f["resource"] != "nodes" || f["user"] != "eve" {
		t.Errorf("%v", f)
	}
	empty := kubetest.Start(t)
	res, err = Version{}.Run(t.Context(), install.Input{With: map[string]any{"kubeconfig": empty.Kubeconfig, "nodes": true}})
	check(t, "no nodes", Version{}, res, err, "K8S-12")
	if res.Findings[0].Severity != install.SeverityWarn {
		t.Errorf("%+v", res.Findings)
	}
	down := kubetest.Start(t)
	down.Put(node("a", "amd64", "False"))
	res, err = Version{}.Run(t.Context(), install.Input{With: map[string]any{"kubeconfig": down.Kubeconfig, "nodes": true}})
	check(t, "none ready", Version{}, res, err, "K8S-12", "K8S-12")
	if res.Findings[1].Severity == install.SeverityWarn {
		t.Errorf("%+v", res.Findings)
	}
}

func TestClock(t *testing.T) {
	for name, c := range map[string]struct {
		off  time.Duration
		want []string
	}{"same": {0, nil}, "ahead": {time.Hour, []string{"K8S-13"}}, "behind": {-time.Hour, []string{"K8S-13"}}, "a little": {-20 * time.Second, nil}} {
		s := kubetest.Start(t)
		s.Late = c.off
		res, err := Version{}.Run(t.Context(), install.Input{With: map[string]any{"kubeconfig": s.Kubeconfig}})
		check(t, name, Version{}, res, err, c.want...)
	}
	s := kubetest.Start(t)
	s.Unready = "[+]ping ok\n[-]etcd failed: reason withheld\nreadyz check failed\n"
	res, err := Version{}.Run(t.Context(), install.Input{With: map[string]any{"kubeconfig": s.Kubeconfig}})
	check(t, "not ready", Version{}, res, err, "K8S-11")
	if !strings.Contains(res.Findings[0].Detail, "etcd failed") {
		t.Errorf("%+v", res.Findings)
	}
}

// TestIngressAddressed: a controller has given the Ingress an address, or not.
func TestIngressAddressed(t *testing.T) {
	s := kubetest.Start(t)
	route := func(name string, addresses ...any) map[string]any {
		return map[string]any{
			"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": map[string]any{"name": name, "namespace": "n"},
			"spec": map[string]any{"rules": []any{map[string]any{"host": "a.example"}}}, "status": map[string]any{"loadBalancer": map[string]any{"ingress": addresses}},
		}
	}
	s.Put(route("new"), route("ip", map[string]any{"ip": "192.0.2.1"}), route("name", map[string]any{"hostname": "lb.example"}))
	for name, want := range map[string][]string{"new": {"ING-02"}, "ip": nil, "name": nil} {
		res, err := Ingress{}.Run(t.Context(), install.Input{With: map[string]any{"kubeconfig": s.Kubeconfig, "name": name, "namespace": "n", "host": "a.example", "addressed": true}})
		check(t, name, Ingress{}, res, err, want...)
	}
}

// TestIngressNamed: an Ingress that is there leads a host somewhere, or not.
func TestIngressNamed(t *testing.T) {
	s := kubetest.Start(t)
	route := func(name, class string) map[string]any {
		return map[string]any{"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": map[string]any{"name": name, "namespace": "n"}, "spec": map[string]any{"ingressClassName": class, "rules": []any{map[string]any{"host": "vcs.example"}}}}
	}
	s.Put(map[string]any{"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": map[string]any{"name": "nginx"}, "spec": map[string]any{"controller": "k8s.io/ingress-nginx"}}, route("good", "nginx"), route("lost", "gone"))
	for name, c := range map[string]struct {
		ingress, host, says string
		want                []string
	}{
		"good":       {"good", "vcs.example", "", nil},
		"missing":    {"none", "vcs.example", "n/none: it does not exist", []string{"ING-08"}},
		"other host": {"good", "other.example", "[vcs.example]", []string{"ING-08"}},
		"no class":   {"lost", "vcs.example", "IngressClass gone", []string{"ING-08"}},
	} {
		res, err := Ingress{}.Run(t.Context(), install.Input{With: map[string]any{"kubeconfig": s.Kubeconfig, "name": c.ingress, "namespace": "n", "host": c.host}})
		check(t, name, Ingress{}, res, err, c.want...)
		if len(res.Findings) == 1 && !strings.Contains(res.Findings[0].Detail, c.says) {
			t.Errorf("%s: %s", name, res.Findings[0].Detail)
		}
	}
	for _, with := range []map[string]any{{"name": "good"}, {"name": "good", "class": "nginx", "host": "h", "namespace": "n"}} {
		with["kubeconfig"] = s.Kubeconfig
		if _, err := (Ingress{}).Run(t.Context(), install.Input{With: with}); err == nil {
			t.Errorf("%v is accepted", with)
		}
	}
}

func TestCRD(t *testing.T) {
	s := kubetest.Start(t)
	crd := func(name string, conditions ...any) map[string]any {
		return map[string]any{"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": map[string]any{"name": name}, "status": map[string]any{"conditions": conditions}}
	}
	s.Put(crd("a.x", map[string]any{"type": "Established", "status": "True"}), crd("b.x"))
	run := func(names ...any) (install.Result, error) {
		return CRD{}.Run(t.Context(), install.Input{With: map[string]any{"kubeconfig": s.Kubeconfig, "names": names, "codes": map[string]any{"CRD-01": "CM-01"}}})
	}
	res, err := run("a.x")
	check(t, "there", CRD{}, res, err)
	res, err = run("a.x", "b.x", "c.x")
	check(t, "missing", CRD{}, res, err, "CM-01")
	if res.Findings[0].Fields["missing"] != "b.x, c.x" {
		t.Errorf("%+v", res.Findings)
	}
}

func TestWebhook(t *testing.T) {
	s := kubetest.Start(t)
	hook := func(kind, name, ca string) map[string]any {
		return map[string]any{"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": map[string]any{"name": name, "labels": map[string]any{"app": name}}, "webhooks": []any{
			map[string]any{"name": "w." + name, "clientConfig": map[string]any{"caBundle": ca, "service": map[string]any{"name": name, "namespace": "n"}}},
		}}
	}
	slice := func(name string, ready bool) map[string]any {
		return map[string]any{
			"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": map[string]any{"name": name, "namespace": "n", "labels": map[string]any{"kubernetes.io/service-name": name}},
			"addressType": "IPv4", "endpoints": []any{map[string]any{"addresses": []any{"10.0.0.1"}, "conditions": map[string]any{"ready": ready}}},
		}
	}
	ca := base64.StdEncoding.EncodeToString([]byte("PEM"))
	s.Put(hook("ValidatingWebhookConfiguration", "good", ca), hook("MutatingWebhookConfiguration", "good", ca), slice("good", true),
		hook("ValidatingWebhookConfiguration", "bare", ""), slice("bare", false))
	s.Handle("POST /api/v1/namespaces/n/configmaps", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("dryRun") != "All" {
			t.Errorf("asked %s", r.URL)
		}
		kubetest.Refuse(w, 500, "InternalError", `failed calling webhook "w.good": x509: certificate signed by unknown authority`)
	})
	object := func(kind string) map[string]any {
		return map[string]any{"apiVersion": "v1", "kind": kind, "metadata": map[string]any{"namespace": "n"}}
	}
	for name, c := range map[string]struct {
		with map[string]any
		want []string
	}{
		"good":      {map[string]any{"name": "good", "dry_run": object("ServiceAccount")}, nil},
		"by label":  {map[string]any{"selector": "app=good"}, nil},
		"none":      {map[string]any{"name": "nothing"}, []string{"WEB-01"}},
		"bare":      {map[string]any{"name": "bare", "dry_run": object("ServiceAccount")}, []string{"WEB-02", "WEB-03"}},
		"not taken": {map[string]any{"name": "good", "dry_run": object("ConfigMap"), "codes": map[string]any{"WEB-04": "CM-02"}}, []string{"CM-02"}},
	} {
		c.with["kubeconfig"] = s.Kubeconfig
		res, err := Webhook{}.Run(t.Context(), install.Input{With: c.with})
		check(t, name, Webhook{}, res, err, c.want...)
	}
	if s.Object("/api/v1/namespaces/n/serviceaccounts/airlock-probe") != nil {
		t.Error("a dry run left an object")
	}
}

func TestIngress(t *testing.T) {
	s := kubetest.Start(t)
	service := func(name string, addresses ...any) map[string]any {
		return map[string]any{"apiVersion": "v1", "kind": "Service", "metadata": map[string]any{"name": name, "namespace": "n"}, "spec": map[string]any{"type": "LoadBalancer"}, "status": map[string]any{"loadBalancer": map[string]any{"ingress": addresses}}}
	}
	s.Put(map[string]any{"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": map[string]any{"name": "nginx"}, "spec": map[string]any{"controller": "k8s.io/ingress-nginx"}},
		service("up", map[string]any{"ip": "10.0.0.9"}), service("pending"))
	s.Handle("POST /apis/networking.k8s.io/v1/namespaces/deny/ingresses", func(w http.ResponseWriter, _ *http.Request) {
		kubetest.Refuse(w, 400, "BadRequest", `admission webhook "validate.nginx" denied the request: host "a.example" is already defined`)
	})
	lb := func(name string) map[string]any { return map[string]any{"namespace": "n", "name": name} }
	for name, c := range map[string]struct {
		with map[string]any
		want []string
	}{
		"good":             {map[string]any{"class": "nginx", "host": "a.example", "service": lb("up"), "address": "10.0.0.9"}, nil},
		"no class":         {map[string]any{"class": "traefik"}, []string{"ING-01"}},
		"other controller": {map[string]any{"class": "nginx", "controller": "eks.amazonaws.com/alb"}, []string{"ING-01"}},
		"pending":          {map[string]any{"class": "nginx", "service": lb("pending")}, []string{"ING-02"}},
		"no service":       {map[string]any{"class": "nginx", "service": lb("nothing")}, []string{"ING-02"}},
		"other address":    {map[string]any{"class": "nginx", "service": lb("up"), "address": "10.0.0.8"}, []string{"ING-02"}},
		"limit":            {map[string]any{"class": "nginx", "limits": map[string]any{"k8s.io/ingress-nginx": "1m"}}, []string{"ING-04"}},
		"refused":          {map[string]any{"class": "nginx", "host": "a.example", "namespace": "deny"}, []string{"ING-06"}},
	} {
		c.with["kubeconfig"] = s.Kubeconfig
		res, err := Ingress{}.Run(t.Context(), install.Input{With: c.with})
		check(t, name, Ingress{}, res, err, c.want...)
	}
}

// TestIngressAnswers asks a controller at its address: over HTTP, or else over
// HTTPS with whatever certificate it has.
func TestIngressAnswers(t *testing.T) {
	s := kubetest.Start(t)
	s.Put(map[string]any{"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": map[string]any{"name": "nginx"}, "spec": map[string]any{"controller": "k8s.io/ingress-nginx"}})
	hosts := make(chan string, 1)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hosts <- r.Host
		http.Redirect(w, r, "https://elsewhere.example/", http.StatusFound)
	})
	plain, secure := httptest.NewServer(h), httptest.NewTLSServer(h)
	defer plain.Close()
	defer secure.Close()
	silent := httptest.NewServer(h)
	silent.Close()
	port := func(srv *httptest.Server) int { return srv.Listener.Addr().(*net.TCPAddr).Port }
	for name, c := range map[string]struct {
		http, https int
		want        []string
	}{
		"HTTP":    {port(plain), port(silent), nil},
		"HTTPS":   {port(silent), port(secure), nil},
		"nothing": {port(silent), port(silent), []string{"ING-07"}},
	} {
		with := map[string]any{"kubeconfig": s.Kubeconfig, "class": "nginx", "host": "a.example", "address": "127.0.0.1", "request": map[string]any{"http": c.http, "https": c.https}}
		res, err := Ingress{}.Run(t.Context(), install.Input{With: with})
		check(t, name, Ingress{}, res, err, c.want...)
		if len(c.want) > 0 {
			if reason := res.Findings[0].Fields["reason"]; strings.Count(reason, "refused") != 2 {
				t.Errorf("reason %q", reason)
			}
			continue
		}
		if host := <-hosts; host != "a.example" {
			t.Errorf("%s: asked for %q", name, host)
		}
	}
	for _, more := range []map[string]any{{"address": "127.0.0.1"}, {"host": "a.example"}} {
		more["kubeconfig"], more["class"], more["request"] = s.Kubeconfig, "nginx", map[string]any{}
		if _, err := (Ingress{}).Run(t.Context(), install.Input{With: more}); err == nil {
			t.Errorf("%v is accepted", more)
		}
	}
}
