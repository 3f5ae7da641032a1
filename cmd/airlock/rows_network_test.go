package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/testdata/nameserver"
	"github.com/airlock-project/airlock/testdata/pki"
	"github.com/airlock-project/airlock/testdata/provider"
	"github.com/airlock-project/airlock/testdata/spacelift"
	"github.com/miekg/dns"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
)

const netHost = "spacelift.site-a.example"

// netRows runs cases of one item, inputs added to the item's own.
func netRows(t *testing.T, item string, inputs map[string]any, cases []row) {
	t.Helper()
	for _, r := range cases {
		r.item = item
		own := maps.Clone(inputs)
		if own == nil {
			own = map[string]any{}
		}
		maps.Copy(own, r.inputs)
		r.inputs = own
		t.Run(r.name, func(t *testing.T) { runRow(t, r) })
	}
}

func TestRowChooseHostnames(t *testing.T) {
	netRows(t, "choose-hostnames", map[string]any{"hosts.server": netHost}, []row{
		{name: "external workers", inputs: map[string]any{"workers.location": "external", "hosts.mqtt": "mqtt.site-a.example"}, want: install.StatePass},
		{name: "single label", inputs: map[string]any{"hosts.server": "spacelift"}, want: install.StateWarn, code: "HOST-05", says: []string{"spacelift is a single label", "domain"}},
		{name: "no MQTT name", inputs: map[string]any{"workers.location": "external"}, want: install.StateFail, code: "HOST-02", says: []string{"set hosts.mqtt"}},
		{name: "same name", inputs: map[string]any{"hosts.mqtt": netHost}, want: install.StateFail, code: "HOST-04", says: []string{netHost, "its own name"}},
		{name: "reserved port", inputs: map[string]any{"mqtt.port": 1983}, want: install.StateFail, code: "HOST-03", says: []string{"1983", "1984"}},
	})
}

// TestRowChooseHostnamesValues looks at what the item works out.
func TestRowChooseHostnamesValues(t *testing.T) {
	for name, c := range map[string]struct {
		platform string
		inputs   map[string]any
		want     string
	}{
		"in the cluster": {"", nil, "tls://spacelift-mqtt.spacelift.svc.cluster.local:1984"},
		"external":       {"", map[string]any{"workers.location": "external", "hosts.mqtt": "mqtt.site-a.example", "mqtt.port": 8984}, "tls://mqtt.site-a.example:8984"},
		"ECS":            {"ecs", map[string]any{"hosts.mqtt": "mqtt.site-a.example"}, "tls://mqtt.site-a.example:1984"},
		"given":          {"", map[string]any{"mqtt.endpoint": "tls://other.site-a.example:443"}, "tls://other.site-a.example:443"},
	} {
		t.Run(name, func(t *testing.T) {
			inputs := map[string]any{"hosts.server": netHost}
			maps.Copy(inputs, c.inputs)
			got := runRow(t, row{item: "choose-hostnames", platform: c.platform, inputs: inputs, want: install.StatePass}).Outputs
			if got["mqtt.endpoint"] != c.want || got["urls.webhooks"] != "https://"+netHost+"/webhooks" || got["urls.cors_origin"] != "https://"+netHost {
				t.Errorf("outputs are %v", got)
			}
		})
	}
}

// TestHostWithScheme shows that such a name is refused before anything runs.
func TestHostWithScheme(t *testing.T) {
	r := row{item: "choose-hostnames", inputs: map[string]any{"hosts.server": "https://" + netHost}}
	c := rowChecklist(t, r)
	site, _ := rowSite(t, r, c)
	b := rowBundle(t, r, c)
	a := &app{output: "text"}
	hosts, err := a.hosts(remote.Options{})
	if err != nil {
		t.Fatal(err)
	}
	o := install.Options{Site: site, DryRun: true}
	o.Probes, o.Actions = a.kinds(hosts, nil, site)
	o.Actions["test.give"] = give(nil)
	_, err = install.Run(t.Context(), b, o)
	if _, ok := errors.AsType[*install.InputError](err); !ok || !strings.Contains(err.Error(), "drop https://") {
		t.Errorf("error is %v", err)
	}
}

// refuseMQTT is a broker that lets nobody in, acceptMQTT one that lets anybody.
func refuseMQTT(c net.Conn) { connack(c, 5) }
func acceptMQTT(c net.Conn) { connack(c, 0) }

func connack(c net.Conn, code byte) {
	_, _ = c.Read(make([]byte, 64))
	_, _ = c.Write([]byte{0x20, 2, 0, code})
}

func netPlainHTTP(c net.Conn) {
	_, _ = c.Read(make([]byte, 1024))
	_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
}

// netClosed is one where nothing listens.
func netClosed(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	return l.Addr().String()
}

// netLocal is an address of this machine with a name.
func netLocal(address string) string { return strings.Replace(address, "127.0.0.1", "localhost", 1) }

func TestRowMQTTBroker(t *testing.T) {
	endpoint := func(s string) map[string]any { return map[string]any{"mqtt.endpoint": s} }
	good := endpoint("tls://mqtt.site-a.example:1984")
	netRows(t, "mqtt-broker", nil, []row{
		{name: "good", given: good, want: install.StatePass},
		{name: "in the cluster", given: endpoint("tls://spacelift-mqtt.spacelift.svc.cluster.local:1984"), want: install.StatePass},
		{name: "iotcore in a partial site", airgap: "partial", platform: "eks", inputs: map[string]any{"mqtt.type": "iotcore"}, given: endpoint("x-ats.iot.eu-west-1.amazonaws.com"), want: install.StatePass},
		{name: "iot-core", inputs: map[string]any{"mqtt.type": "iot-core"}, given: good, want: install.StateFail, code: "MQTT-01", says: []string{"iot-core", "set mqtt.type to iotcore"}},
		{name: "unknown type", inputs: map[string]any{"mqtt.type": "rabbitmq"}, given: good, want: install.StateFail, code: "MQTT-01", says: []string{"rabbitmq", "builtin or iotcore"}},
		{name: "iotcore in an isolated site", inputs: map[string]any{"mqtt.type": "iotcore"}, given: endpoint("x-ats.iot.eu-west-1.amazonaws.com"), want: install.StateFail, code: "MQTT-06", says: []string{"iotcore", "isolated", "set mqtt.type to builtin"}},
		{name: "no tls://", given: endpoint("mqtt.site-a.example:1984"), want: install.StateFail, code: "MQTT-02", says: []string{"mqtt.site-a.example:1984", "tls://HOST:PORT"}},
		{name: "no port", given: endpoint("tls://mqtt.site-a.example"), want: install.StateFail, code: "MQTT-02", says: []string{"no port", "tls://HOST:PORT"}},
		{name: "port 1983", given: endpoint("tls://mqtt.site-a.example:1983"), want: install.StateFail, code: "MQTT-02", says: []string{"1983", "other than 1983"}},
		// Nothing is dialled before it can run, also where the server is known already.
		{name: "not there yet", inputs: map[string]any{"workers.location": "external", "validation.server_url": "https://" + netHost}, given: endpoint("tls://" + netLocal(netClosed(t))), want: install.StatePass},
		{name: "ClusterIP", inputs: map[string]any{"workers.location": "external"}, given: endpoint("tls://spacelift-mqtt.spacelift.svc.cluster.local:1984"), want: install.StateFail, code: "MQTT-03", says: []string{"spacelift-mqtt.spacelift.svc.cluster.local", "mqttService.type=LoadBalancer"}},
	})
}

func TestRowMQTTLoadBalancer(t *testing.T) {
	root := pki.New(t, "Site A root")
	conf := &tls.Config{Certificates: []tls.Certificate{root.Server(t, []string{"mqtt.site-a.example"})}}
	at := func(address string) map[string]any { return map[string]any{"mqtt.lb_address": address} }
	cases := []row{
		{name: "good", inputs: at(pki.Listen(t, conf, refuseMQTT)), want: install.StatePass},
		{name: "ECS", platform: "ecs", inputs: map[string]any{"workers.location": "in-cluster", "mqtt.lb_address": pki.Listen(t, conf, refuseMQTT)}, want: install.StatePass},
		{name: "workers in the cluster", inputs: map[string]any{"workers.location": "in-cluster"}, want: install.StateSkipped},
		{name: "no address", want: install.StateFail, code: "MQTT-03", says: []string{"mqtt.site-a.example", "mqttService.type=LoadBalancer", "mqtt.lb_address"}},
		{name: "nothing listens", inputs: at(netClosed(t)), want: install.StateFail, code: "NET-01", says: []string{"127.0.0.1", "refused", "listener"}},
		{name: "ends TLS", inputs: at(pki.Listen(t, nil, netPlainHTTP)), want: install.StateFail, code: "MQTT-04", says: []string{"127.0.0.1", "passes everything"}},
		{name: "wrong target", inputs: at(pki.Listen(t, conf, netPlainHTTP)), want: install.StateFail, code: "MQTT-07", says: []string{"127.0.0.1", "target port"}},
		{name: "lets anybody in", inputs: at(pki.Listen(t, conf, acceptMQTT)), want: install.StateFail, code: "MQTT-05", says: []string{"127.0.0.1", "targets"}},
		{name: "bad address", inputs: at("a b"), want: install.StateFail, code: "MQTT-02", says: []string{"a b", "HOST:PORT"}},
	}
	for i := range cases {
		cases[i].given = map[string]any{"mqtt.endpoint": "tls://mqtt.site-a.example:1984"}
	}
	netRows(t, "network-mqtt-load-balancer", map[string]any{"workers.location": "external", "tls.ca_file": root.File(t)}, cases)
}

func TestRowConfigureNetworking(t *testing.T) {
	root, proxy := pki.New(t, "Site A root"), pki.New(t, "Corporate proxy")
	conf := &tls.Config{Certificates: []tls.Certificate{root.Server(t, []string{"127.0.0.1"})}}
	between := &tls.Config{Certificates: []tls.Certificate{proxy.Server(t, []string{"127.0.0.1"})}}
	flow := func(endpoint string) map[string]any {
		return map[string]any{"network.flows": []any{map[string]any{"from": "drain", "to": "VCS", "endpoint": endpoint}}}
	}
	open := pki.Listen(t, conf, netPlainHTTP)
	shut := netClosed(t)
	netRows(t, "configure-networking", map[string]any{"tls.ca_file": root.File(t)}, []row{
		{name: "good", inputs: flow("https://" + open), want: install.StatePass},
		{name: "list of addresses", inputs: map[string]any{"network.endpoints": []any{open}, "network.must_not_reach": []any{"nothing.invalid:443"}}, want: install.StatePass},
		{name: "nothing given", want: install.StateFail, code: "NET-04", says: []string{"network.flows"}},
		{name: "refused", inputs: flow("https://" + shut), want: install.StateFail, code: "NET-01", says: []string{"drain to VCS", shut, "refused", "start the service"}},
		{name: "refused, no name", inputs: map[string]any{"network.endpoints": []any{shut}}, want: install.StateFail, code: "NET-01", says: []string{"this machine", shut}},
		{name: "intercepted", inputs: flow("https://" + pki.Listen(t, between, netPlainHTTP)), want: install.StateFail, code: "NET-02", says: []string{"drain to VCS", "Corporate proxy", "exempt"}},
		{name: "not a database", inputs: flow("postgres://u:hunter2@" + pki.Listen(t, nil, netPlainHTTP)), want: install.StateFail, code: "NET-06", says: []string{"drain to VCS", "PostgreSQL", "proxy"}},
		{name: "a way out", inputs: map[string]any{"network.endpoints": []any{open}, "network.must_not_reach": []any{open}}, want: install.StateFail, code: "NET-05", says: []string{open, "close the route"}},
	})
}

func TestRowDNSRecords(t *testing.T) {
	zone := func(records ...string) map[string]any {
		return map[string]any{"dns.resolvers": []any{nameserver.Start(t, nameserver.Zone(t, records...))}}
	}
	two := func(a, b string) map[string]any {
		return map[string]any{"dns.resolvers": []any{nameserver.Start(t, nameserver.Zone(t, a)), nameserver.Start(t, nameserver.Zone(t, b))}}
	}
	a := netHost + ". A 10.1.2.3"
	target := func(in map[string]any) map[string]any {
		in["dns.server_addresses"], in["dns.server_target"] = []any{}, "lb.site-a.example"
		return in
	}
	fails := func(q dns.Question, r *dns.Msg, _ string) *dns.Msg { r.Rcode = dns.RcodeServerFailure; return r }
	silent := map[string]any{"dns.resolvers": []any{netClosed(t)}}
	netRows(t, "configure-dns-records", map[string]any{"hosts.server": netHost, "dns.server_addresses": []any{"10.1.2.3"}}, []row{
		{name: "good", inputs: zone(a), want: install.StatePass},
		{name: "CNAME", platform: "eks", inputs: target(zone(netHost+". CNAME lb.site-a.example.", "lb.site-a.example. A 10.1.2.3")), want: install.StatePass},
		{name: "nothing known", inputs: map[string]any{"dns.server_addresses": []any{}}, want: install.StateFail, code: "DNS-09", says: []string{"dns.server_addresses"}},
		{name: "NXDOMAIN", inputs: zone("other.site-a.example. A 10.1.2.3"), want: install.StateFail, code: "DNS-01", says: []string{netHost, "NXDOMAIN", "dns.zone"}},
		{name: "other address", inputs: zone(netHost + ". A 10.9.9.9"), want: install.StateFail, code: "DNS-02", says: []string{netHost, "10.9.9.9", "10.1.2.3", "correct the record"}},
		{name: "split answers", inputs: two(a, netHost+". A 10.9.9.9"), want: install.StateFail, code: "DNS-03", says: []string{netHost, "10.9.9.9", "split horizon"}},
		{name: "AAAA", inputs: zone(a, netHost+". AAAA fd00::1"), want: install.StateFail, code: "DNS-04", says: []string{netHost, "fd00::1", "remove the AAAA"}},
		{name: "SERVFAIL", inputs: map[string]any{"dns.resolvers": []any{nameserver.Start(t, fails)}}, want: install.StateFail, code: "DNS-05", says: []string{netHost, "SERVFAIL", "DNSSEC"}},
		{name: "public", inputs: netInputs(zone(netHost+". A 52.1.2.3"), map[string]any{"dns.server_addresses": []any{"52.1.2.3"}}), want: install.StateFail, code: "DNS-06", says: []string{netHost, "52.1.2.3", "network.own"}},
		{name: "public, its own", inputs: netInputs(zone(netHost+". A 52.1.2.3"), map[string]any{"dns.server_addresses": []any{"52.1.2.3"}, "network.own": []any{"52.0.0.0/8"}}), want: install.StatePass},
		{name: "silent", inputs: silent, want: install.StateFail, code: "DNS-07", says: []string{"does not answer", "open port 53"}},
		{name: "loop", platform: "eks", inputs: target(zone(netHost+". CNAME b.example.", "b.example. CNAME "+netHost+".")), want: install.StateFail, code: "DNS-08", says: []string{netHost, "b.example", "circle"}},
		{name: "cluster name outside", inputs: zone(a, "spacelift-mqtt.spacelift.svc.cluster.local. A 10.1.2.9"), want: install.StateFail, code: "DNS-02", says: []string{"spacelift-mqtt", "no record"}},
		{
			name: "update without server", inputs: netInputs(zone(a), map[string]any{"dns.server": netClosed(t), "dns.zone": "site-a.example", "dns.tsig.key": "airlock", "dns.tsig.secret": "c2VjcmV0LXNlY3JldC1zZWNyZXQ="}),
			want: install.StateFail, code: "DNS-12", says: []string{"127.0.0.1", "open port 53"},
		},
	})
}

func netInputs(list ...map[string]any) map[string]any {
	out := map[string]any{}
	for _, m := range list {
		maps.Copy(out, m)
	}
	return out
}

func TestRowServedCertificate(t *testing.T) {
	root, proxy := pki.New(t, "Site A root"), pki.New(t, "Corporate proxy")
	cert := root.Server(t, []string{netHost})
	file, _ := pki.Files(t, cert)
	serve := func(c tls.Certificate) map[string]any {
		return map[string]any{"validation.server_url": "https://" + pki.Listen(t, &tls.Config{Certificates: []tls.Certificate{c}}, func(net.Conn) {})}
	}
	expired := root.Server(t, []string{netHost}, func(c *x509.Certificate) { c.NotAfter = c.NotBefore.AddDate(0, 0, 0).Add(1) })
	netRows(t, "served-certificate", map[string]any{"hosts.server": netHost, "tls.ca_file": root.File(t)}, []row{
		{name: "good", inputs: netInputs(serve(cert), map[string]any{"tls.cert_file": file}), want: install.StatePass},
		{name: "not yet", want: install.StateSkipped},
		{name: "other name", inputs: serve(root.Server(t, []string{"other.site-a.example"})), want: install.StateFail, code: "TLS-02", says: []string{netHost, "other.site-a.example", "issued again"}},
		{name: "unknown authority", inputs: serve(proxy.Server(t, []string{netHost})), want: install.StateFail, code: "TLS-03", says: []string{"Corporate proxy", "tls.ca_file"}},
		{name: "intercepted", inputs: netInputs(serve(proxy.Server(t, []string{netHost})), map[string]any{"tls.cert_file": file}), want: install.StateFail, code: "NET-02", says: []string{"Corporate proxy", "exempt " + netHost}},
		{name: "expired", inputs: serve(expired), want: install.StateFail, code: "TLS-04", says: []string{"has expired", "renew"}},
		{name: "plain", inputs: map[string]any{"validation.server_url": "https://" + pki.Listen(t, nil, netPlainHTTP)}, want: install.StateFail, code: "TLS-09", says: []string{"plain HTTP", "validation.server_url"}},
		{name: "down", inputs: map[string]any{"validation.server_url": "https://" + netClosed(t)}, want: install.StateFail, code: "NET-01", says: []string{"refused", "127.0.0.1"}},
	})
}

// netHTTP answers with one status and body, at one path.
func netHTTP(t *testing.T, answers map[string]string) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, ok := answers[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

func TestRowObservability(t *testing.T) {
	at := func(u string) map[string]any { return map[string]any{"observability.promex_url": u} }
	netRows(t, "observability", nil, []row{
		{name: "good", inputs: at(netHTTP(t, map[string]string{"/health": "ok", "/metrics": "spacelift_public_worker_queue 0\n"})), want: install.StatePass},
		{name: "not used", want: install.StateSkipped},
		{name: "no metrics", inputs: at(netHTTP(t, map[string]string{"/health": "ok", "/metrics": "go_goroutines 8\n"})), want: install.StateFail, code: "HTTP-04", says: []string{"/metrics", "spacelift_", "admin API key"}},
		{name: "not healthy", inputs: at(netHTTP(t, map[string]string{"/metrics": "spacelift_x 0\n"})), want: install.StateFail, code: "HTTP-02", says: []string{"/health", "404", "log"}},
		{name: "down", inputs: at("http://" + netClosed(t)), want: install.StateFail, code: "HTTP-01", says: []string{"127.0.0.1", "9953"}},
	})
	ca := pki.New(t, "enclave CA")
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer token-of-the-scraper" {
			http.Error(w, "Unauthorized", http.StatusUnauthorized)
			return
		}
		_, _ = io.WriteString(w, "controller_runtime_active_workers 0\n") // a client that left is told nothing
	}))
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{ca.Server(t, []string{"127.0.0.1"})}}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	controller := func(u, token string, trust *pki.Authority) map[string]any {
		return map[string]any{"observability.controller_url": u, "observability.controller_token": token, "tls.ca_file": trust.File(t)}
	}
	netRows(t, "observability", nil, []row{
		{name: "controller", inputs: controller(srv.URL, "token-of-the-scraper", ca), want: install.StatePass},
		{name: "controller, other token", inputs: controller(srv.URL, "token-of-somebody-else", ca), want: install.StateFail, code: "MET-02", says: []string{"401", "metrics-reader"}},
		{name: "controller, without a token", inputs: map[string]any{"observability.controller_url": srv.URL, "tls.ca_file": ca.File(t)}, want: install.StateFail, code: "MET-02", says: []string{"401"}},
		{name: "controller, not trusted", inputs: controller(srv.URL, "token-of-the-scraper", pki.New(t, "another CA")), want: install.StateFail, code: "MET-04", says: []string{"metricsService.secure"}},
		{name: "controller, something else", inputs: map[string]any{"observability.controller_url": netHTTP(t, map[string]string{"/metrics": "go_goroutines 8\n"})}, want: install.StateFail, code: "MET-03", says: []string{"controller_runtime_"}},
		{name: "controller, down", inputs: controller("https://"+netClosed(t), "token-of-the-scraper", ca), want: install.StateFail, code: "MET-01", says: []string{"metricsService.enabled"}},
	})
}

// netSpans is a collector that takes everything.
type netSpans struct {
	collector.UnimplementedTraceServiceServer
}

func (netSpans) Export(context.Context, *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	return &collector.ExportTraceServiceResponse{}, nil
}

// netCollector starts a collector and returns its host:port.
func netCollector(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	collector.RegisterTraceServiceServer(srv, netSpans{})
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(srv.Stop)
	return l.Addr().String()
}

func TestRowTelemetry(t *testing.T) {
	at := func(e string) map[string]any { return map[string]any{"telemetry.endpoint": e} }
	netRows(t, "telemetry", map[string]any{"telemetry.vendor": "OpenTelemetry"}, []row{
		{name: "good", inputs: at("http://" + netCollector(t)), want: install.StatePass},
		{name: "disabled", inputs: map[string]any{"telemetry.vendor": "Disabled"}, want: install.StateSkipped},
		{name: "HTTP only", inputs: at(netHTTP(t, map[string]string{"/v1/traces": "{}"})), want: install.StateFail, code: "TEL-01", says: []string{"HTTP only", "gRPC receiver", "4317"}},
		{name: "no scheme", inputs: at("otel.site-a.example:4317"), want: install.StateFail, code: "TEL-02", says: []string{"otel.site-a.example:4317", "http://HOST:4317"}},
		{name: "refused", inputs: at("http://" + netClosed(t)), want: install.StateFail, code: "TEL-03", says: []string{"refused", "open port"}},
		{name: "web server", inputs: at(netHTTP(t, nil)), want: install.StateFail, code: "TEL-04", says: []string{"127.0.0.1", "receivers"}},
	})
}

func TestRowCloudIntegrations(t *testing.T) {
	good := provider.Start(t, nil)
	with := func(p *provider.Provider) map[string]any {
		return map[string]any{"validation.server_url": p.URL, "tls.ca_file": p.CA}
	}
	empty := provider.Start(t, func(p *provider.Provider) { p.Keys, p.Issuer = `{"keys":[]}`, "https://"+netHost })
	server := provider.Start(t, func(p *provider.Provider) { p.Issuer = "https://" + netHost })
	other := provider.Start(t, func(p *provider.Provider) { p.Issuer = "https://old.site-a.example" })
	cases := func(done install.State) []row {
		return []row{
			{name: "server", inputs: with(server), want: done},
			{name: "own issuer", inputs: map[string]any{"federation.issuer": good.URL, "tls.ca_file": good.CA}, want: done},
			{name: "issuer mismatch", inputs: with(other), want: install.StateFail, code: "OIDC-02", says: []string{"https://old.site-a.example", "https://" + netHost, "federation.issuer"}},
			{name: "no keys", inputs: with(empty), want: install.StateFail, code: "OIDC-05", says: []string{"no key", "FEDERATION_CUSTOM_JWKS_URI", "signing key"}},
			{name: "unknown authority", inputs: map[string]any{"validation.server_url": server.URL, "tls.ca_file": pki.New(t, "other").File(t)}, want: install.StateFail, code: "OIDC-03", says: []string{server.URL, "tls.ca_file"}},
			{name: "down", inputs: map[string]any{"validation.server_url": "https://" + netClosed(t)}, want: install.StateFail, code: "OIDC-01", says: []string{"refused", "check DNS"}},
		}
	}
	inputs := map[string]any{"hosts.server": netHost, "federation.target": "Vault"}
	t.Run("attest", func(t *testing.T) { netRows(t, "cloud-integrations-oidc", inputs, cases(install.StateWaiting)) })
	t.Run("export", func(t *testing.T) { netRows(t, "export-oidc-keys", inputs, cases(install.StatePass)) })
	got := runRow(t, row{item: "export-oidc-keys", inputs: netInputs(inputs, with(server)), want: install.StatePass})
	path, ok := got.Outputs["oidc.jwks_file"].(string)
	if !ok {
		t.Fatalf("outputs are %v", got.Outputs)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != server.Keys {
		t.Errorf("%s holds %q, %v", path, data, err)
	}
}

// TestRowVault: Vault is a stand-in that knows the one answer of
// GET /v1/auth/:mount/config that the row reads.
func TestRowVault(t *testing.T) {
	issuer := provider.Start(t, nil)
	trusts := issuer.URL
	url, ca, _ := spacelift.TLS(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("X-Vault-Token") != "vault-token-of-the-site":
			w.WriteHeader(http.StatusForbidden)
		case r.URL.Path != "/v1/auth/jwt/config":
			w.WriteHeader(http.StatusNotFound)
		default:
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"data":{"oidc_discovery_url":"`+trusts+`","jwks_url":""}}`) // the client may be gone
		}
	}))
	var both []byte
	for _, path := range []string{issuer.CA, ca} {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		both = append(both, data...)
	}
	inputs := map[string]any{
		"hosts.server": netHost, "federation.target": "Vault", "federation.issuer": issuer.URL, "tls.ca_file": rowFile(t, both),
		"federation.vault_url": url, "federation.vault_token": "vault-token-of-the-site",
	}
	netRows(t, "cloud-integrations-oidc", inputs, []row{
		{name: "trusts", want: install.StateWaiting},
		{
			name: "token", inputs: map[string]any{"federation.vault_token": "another-token"},
			want: install.StateFail, code: "HTTP-02", says: []string{"403", url, "the token lacks read"},
		},
		{
			name: "mount", inputs: map[string]any{"federation.vault_mount": "oidc"},
			want: install.StateFail, code: "HTTP-02", says: []string{"404", "federation.vault_mount"},
		},
	})
	trusts = "https://old.site-a.example"
	netRows(t, "cloud-integrations-oidc", inputs, []row{{
		name: "other issuer", want: install.StateFail, code: "HTTP-06", says: []string{trusts, issuer.URL, "data.oidc_discovery_url", "federation.issuer"},
	}})
}
