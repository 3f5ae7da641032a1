package main

import (
	"github.com/airlock-project/airlock/install"
	dnsaction "github.com/airlock-project/airlock/install/action/dns"
	oidcaction "github.com/airlock-project/airlock/install/action/oidc"
	"github.com/airlock-project/airlock/install/probe/dns"
	"github.com/airlock-project/airlock/install/probe/flows"
	"github.com/airlock-project/airlock/install/probe/git"
	"github.com/airlock-project/airlock/install/probe/grpc"
	"github.com/airlock-project/airlock/install/probe/mqtt"
	"github.com/airlock-project/airlock/install/probe/oidc"
	"github.com/airlock-project/airlock/install/probe/otlp"
	"github.com/airlock-project/airlock/install/probe/tls"
	"github.com/airlock-project/airlock/install/probe/value"
)

// networkKinds registers the steps about DNS, TLS, MQTT, Git and telemetry.
func networkKinds(probes map[string]install.Probe, actions map[string]install.Action) {
	probes["dns.records"] = dns.Probe{}
	probes["git.lsremote"] = git.Probe{}
	probes["grpc.health"] = grpc.Health{}
	probes["mqtt.dial"] = mqtt.Dial{}
	probes["mqtt.endpoint"] = mqtt.Endpoint{}
	probes["net.flows"] = flows.Probe{}
	probes["oidc.discovery"] = oidc.Probe{}
	probes["otlp.export"] = otlp.Probe{}
	probes["tls.dial"] = tls.Probe{}
	probes["value.give"] = value.Probe{}
	actions["dns.snippet"] = dnsaction.Snippet{}
	actions["dns.update"] = dnsaction.Update{}
	actions["oidc.jwks"] = oidcaction.Action{}
}
