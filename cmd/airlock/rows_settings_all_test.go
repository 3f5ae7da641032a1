//go:build all

package main

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/testdata/cluster"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// settings runs create-kubernetes-secrets with further answers.
func (c *releaseRows) settings(t *testing.T, in map[string]any, want install.State, code string) {
	t.Helper()
	given := maps.Clone(c.given)
	maps.Copy(given, map[string]any{
		"encryption.key_file": rowFile(t, []byte("a2V5LW9mLXRoZS1zaXRl")), "storage.uploads_url": "https://storage.site-a.example",
		"mqtt.endpoint":             "tls://spacelift-mqtt.spacelift.svc.cluster.local:1984",
		"image.launcher.repository": "registry.site-a.example/spacelift-launcher", "image.launcher.tag": "v4.3.0",
	})
	runRow(t, row{item: "create-kubernetes-secrets", inputs: in, given: given, want: want, code: code})
	// What the server knows of times, it knows to a second.
	<-time.After(time.Until(time.Now().Truncate(time.Second).Add(time.Second)))
}

// restarted are the parts whose pods a restart has made anew.
func (c *releaseRows) restarted(t *testing.T, ns string) string {
	t.Helper()
	var out []string
	for _, part := range []string{"server", "drain", "scheduler"} {
		if d := c.deployment(t, ns, "spacelift-"+part); d == nil || d.Spec.Template.Annotations["airlock-project.io/restarted-at"] != "" {
			out = append(out, part)
		}
	}
	return strings.Join(out, " ")
}

// TestRowSettingsChanged changes answers after the installation: what the pods
// have in their environment is read at start, so they are made anew, and only
// then.
func TestRowSettingsChanged(t *testing.T) {
	c := newReleaseRows(t)
	ns := c.Namespace(t)
	in := secretInputs(map[string]any{
		"hosts.server": netHost, "k8s.namespace": ns,
		"storage.type": "minio", "storage.minio.endpoint": "minio.site-a.example:9000", "storage.minio.access_key_id": "spacelift", "storage.minio.secret_access_key": "secret-of-minio",
	})
	pods := ""
	deploy := func(t *testing.T, anew bool) {
		t.Helper()
		c.release(t, ns, row{want: install.StatePass})
		now := c.pods(t, ns)
		if changed := pods != "" && now != pods; changed != anew {
			t.Errorf("pods were %s, are %s", pods, now)
		}
		if parts := strings.Count(now, `":[`); parts != 3 {
			t.Errorf("pods of %d parts: %s", parts, now)
		}
		pods = now
	}
	t.Run("first", func(t *testing.T) {
		c.settings(t, in, install.StatePass, "")
		deploy(t, false)
	})
	t.Run("unchanged", func(t *testing.T) {
		c.settings(t, in, install.StatePass, "")
		deploy(t, false)
		if got := c.restarted(t, ns); got != "" {
			t.Errorf("restarted: %s", got)
		}
	})
	maps.Copy(in, map[string]any{"telemetry.vendor": "OpenTelemetry", "telemetry.endpoint": "http://otel.site-a.example:4317"})
	t.Run("telemetry on", func(t *testing.T) {
		c.settings(t, in, install.StateWarn, "SEC-04")
		deploy(t, true)
		if got := c.restarted(t, ns); got != "server drain scheduler" {
			t.Errorf("restarted: %s", got)
		}
	})
	t.Run("telemetry-rollout", func(t *testing.T) {
		runRow(t, row{item: "telemetry-rollout", given: c.given, inputs: map[string]any{
			"k8s.namespace": ns, "telemetry.vendor": "OpenTelemetry", "telemetry.endpoint": "http://otel.site-a.example:4317",
		}, want: install.StatePass})
		if now := c.pods(t, ns); now != pods {
			t.Errorf("pods were %s, are %s", pods, now)
		}
	})
	in["db.url"] = "postgres://spacelift:rotated-pw-of-db@db.site-a.example:5432/spacelift"
	t.Run("database rotated", func(t *testing.T) {
		c.settings(t, in, install.StateWarn, "SEC-04")
		deploy(t, true)
	})
	t.Run("unchanged again", func(t *testing.T) {
		c.settings(t, in, install.StatePass, "")
		deploy(t, false)
	})
	// Only the server reads what the site says of its administrator.
	in["admin.password"] = "another-first-login"
	t.Run("server alone", func(t *testing.T) {
		before := c.deployment(t, ns, "spacelift-drain").Generation
		c.settings(t, in, install.StateWarn, "SEC-04")
		deploy(t, true)
		if after := c.deployment(t, ns, "spacelift-drain").Generation; after != before {
			t.Error("the drain was restarted")
		}
	})
	// With settings that the server does not start with, the rest stays as it was.
	t.Run("not up", func(t *testing.T) {
		patch := []byte(`{"spec":{"template":{"metadata":{"annotations":{"` + cluster.OutcomeAnnotation + `":"` + string(cluster.Crash) + `","` + cluster.TextAnnotation + `":"cannot decrypt the signing key"}}}}}`)
		if _, err := c.Clientset.AppsV1().Deployments(ns).Patch(t.Context(), "spacelift-server", types.StrategicMergePatchType, patch, metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
		in["db.url"] = "postgres://spacelift:wrong-pw-of-db@db.site-a.example:5432/spacelift"
		before := c.deployment(t, ns, "spacelift-drain").Generation
		c.settings(t, in, install.StateWarn, "SEC-04")
		c.release(t, ns, row{limit: "20s", want: install.StateFail, code: "RST-01", says: []string{"spacelift-server", "the encryption key cannot be used: cannot decrypt the signing key", "create-kubernetes-secrets"}})
		if after := c.deployment(t, ns, "spacelift-drain").Generation; after != before {
			t.Error("the drain was restarted")
		}
	})
}
