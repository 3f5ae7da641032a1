package main

import (
	"testing"

	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/manifests/spacelift"
)

// BenchmarkChecklist measures what every command pays before it does anything:
// reading the shipped checklist, and compiling it for a site.
func BenchmarkChecklist(b *testing.B) {
	data, err := spacelift.Checklist()
	if err != nil {
		b.Fatal(err)
	}
	c, err := manifests.ParseChecklist("preset", data)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("parse", func(b *testing.B) {
		for b.Loop() {
			if _, err := manifests.ParseChecklist("preset", data); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("compile", func(b *testing.B) {
		a := &app{output: "text"}
		hosts, err := a.hosts(remote.Options{})
		if err != nil {
			b.Fatal(err)
		}
		site := &manifests.Site{Name: "site-a", Platform: "onprem", Airgap: "isolated", Inputs: map[string]any{
			"hosts.server": "spacelift.site-a.example", "tls.mode": "cert-manager", "issuer.kind": "selfSigned", "license.token": "env:A", "db.url": "env:B",
			"storage.type": "minio", "storage.minio.endpoint": "minio.site-a.example:9000",
		}}
		o := install.Options{Site: site}
		o.Probes, o.Actions = a.kinds(hosts, nil, site)
		for b.Loop() {
			if _, err := install.CheckSite(b.Context(), c, o, "v4.0.0"); err != nil {
				b.Fatal(err)
			}
		}
	})
}
