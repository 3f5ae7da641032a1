//go:build all

package main

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/airlock-project/airlock/install"
	"github.com/google/go-cmp/cmp"
)

var updateSecrets = flag.Bool("update-secrets", false, "write the golden files of the Secrets anew")

// TestSecretsGolden puts the three Secrets of each platform and option into a
// real cluster and compares them with what section "Kubernetes Secrets" of
// Spacelift's modules and guide has.
func TestSecretsGolden(t *testing.T) {
	kube := rowCluster(t)
	key, roots := rowFile(t, []byte("a2V5LW9mLXRoZS1zaXRl")), rowFile(t, []byte("cm9vdHM="))
	for _, tt := range secretCases() {
		t.Run(tt.name, func(t *testing.T) {
			namespace := kube.Namespace(t)
			inputs := tt.answers()
			inputs["k8s.namespace"] = namespace
			given := map[string]any{
				"kubeconfig.file": kube.Kubeconfig, "encryption.key_file": key, "trust.root_cas_file": roots, "storage.uploads_url": "https://storage.site-a.example",
				"mqtt.endpoint": "tls://spacelift-mqtt.spacelift.svc.cluster.local:1984", "minio.access_key_id": "made-by-airlock", "minio.secret_key_file": rowFile(t, []byte("made-secret")),
				"image.launcher.repository": "registry.site-a.example/spacelift-launcher", "image.launcher.tag": "v4.3.0",
			}
			if e, ok := inputs["mqtt.endpoint"]; ok {
				given["mqtt.endpoint"] = e
			}
			runRow(t, row{item: "create-kubernetes-secrets", platform: tt.platform, inputs: inputs, given: given, want: install.StatePass})
			checkGolden(t, tt.name, secretsOf(t, kube.Clientset, namespace))
		})
	}
}

func checkGolden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "secrets", name+".txt")
	if *updateSecrets {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("secrets (-want +got):\n%s", diff)
	}
}
