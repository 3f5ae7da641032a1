//go:build all

package main

import (
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/testdata/pki"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestRowCertificates: the site's own certificate becomes the Secrets whose names
// the chart has wired in, but where a load balancer or cert-manager has it.
func TestRowCertificates(t *testing.T) {
	kube := rowCluster(t)
	cert, key := pki.Files(t, pki.New(t, "enclave CA").Server(t, []string{netHost}))
	want, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, platform, mode, gateway, secrets, lacks string
	}{
		{"own", "onprem", "byo", "", "cert", ""},
		{"with a gateway", "onprem", "byo", "vcs.site-a.example", "cert vcs-gateway-cert", ""},
		{"cert-manager", "onprem", "cert-manager", "vcs.site-a.example", "", ""},
		{"no key", "onprem", "byo", "", "", "tls.key"},
		{"no certificate", "onprem", "byo", "", "", "tls.crt"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ns := kube.Namespace(t)
			inputs := secretInputs(map[string]any{"k8s.namespace": ns, "tls.mode": c.mode, "tls.cert_file": cert, "tls.key_file": key})
			maps.Copy(inputs, map[string]any{
				"storage.type": "minio", "storage.minio.endpoint": "minio.example:9000", "storage.minio.access_key_id": "k", "storage.minio.secret_access_key": "minio-secret",
			})
			if c.gateway != "" {
				inputs["hosts.vcs_gateway"] = c.gateway
			}
			given := map[string]any{
				"kubeconfig.file": kube.Kubeconfig, "encryption.key_file": rowFile(t, []byte("a2V5LW9mLXRoZS1zaXRl")), "storage.uploads_url": "https://storage.site-a.example", "mqtt.endpoint": "tls://spacelift-mqtt:1984",
				"image.launcher.repository": "registry.site-a.example/spacelift-launcher", "image.launcher.tag": "v4.3.0",
			}
			r := row{item: "create-kubernetes-secrets", platform: c.platform, inputs: inputs, given: given, want: install.StatePass}
			switch c.lacks {
			case "tls.key":
				inputs["tls.key_file"] = rowFile(t, nil)
			case "tls.crt":
				inputs["tls.cert_file"] = rowFile(t, nil)
			}
			if c.lacks != "" {
				r.want, r.code, r.says = install.StateFail, "SEC-01", []string{"cert lacks " + c.lacks, "the server's Ingress", "site file"}
			}
			runRow(t, r)
			list, err := kube.Clientset.CoreV1().Secrets(ns).List(t.Context(), metav1.ListOptions{FieldSelector: "type=" + string(corev1.SecretTypeTLS)})
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, s := range list.Items {
				names = append(names, s.Name)
				if string(s.Data["tls.crt"]) != string(want) || len(s.Data["tls.key"]) == 0 {
					t.Errorf("%s does not hold the site's certificate", s.Name)
				}
			}
			if got := strings.Join(names, " "); got != c.secrets {
				t.Errorf("TLS secrets %q, want %q", got, c.secrets)
			}
		})
	}
}
