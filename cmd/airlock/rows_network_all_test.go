//go:build all

package main

import (
	"testing"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/testdata/nameserver"
)

// TestRowDNSUpdate runs the row against BIND, with dnsmasq as the site's resolver.
func TestRowDNSUpdate(t *testing.T) {
	zone := func(records ...string) map[string]any {
		server := nameserver.Named(t, "site-a.example", records...)
		return map[string]any{"dns.server": server, "dns.resolvers": []any{nameserver.Dnsmasq(t, server)}}
	}
	key := func(name, secret string) map[string]any {
		return map[string]any{"dns.tsig.key": name, "dns.tsig.secret": secret}
	}
	stale := zone()
	stale["dns.resolvers"] = []any{nameserver.Dnsmasq(t, stale["dns.server"].(string), netHost+"/10.9.9.9")}
	netRows(t, "configure-dns-records", netInputs(key(nameserver.KeyName, nameserver.KeySecret), map[string]any{
		"hosts.server": netHost, "dns.server_addresses": []any{"10.1.2.3"}, "dns.zone": "site-a.example",
		"hosts.mqtt": "mqtt.site-a.example", "dns.mqtt_target": netHost,
	}), []row{
		{name: "new", inputs: zone(), want: install.StatePass},
		{name: "changed", inputs: zone("spacelift A 10.9.9.9", "mqtt A 10.9.9.9"), want: install.StatePass},
		{name: "plan", dryRun: true, inputs: zone(), want: install.StatePlanned},
		{name: "stale resolver", inputs: stale, want: install.StateFail, code: "DNS-02", says: []string{netHost, "10.9.9.9", "10.1.2.3"}},
		{name: "wrong secret", inputs: netInputs(zone(), key(nameserver.KeyName, "d3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3I=")), want: install.StateFail, code: "DNS-10", says: []string{"mqtt.site-a.example", "BADSIG", "dns.tsig.key"}},
		{name: "unknown key", inputs: netInputs(zone(), key("nobody", nameserver.KeySecret)), want: install.StateFail, code: "DNS-10", says: []string{"BADKEY", "dns.tsig.key"}},
		{name: "policy", inputs: netInputs(zone(), map[string]any{"hosts.server": "x.denied.site-a.example", "hosts.mqtt": nil}), want: install.StateFail, code: "DNS-10", says: []string{"x.denied.site-a.example", "REFUSED", "update policy"}},
	})
}
