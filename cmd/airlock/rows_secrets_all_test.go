//go:build all

package main

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/airlock-project/airlock/install"
	"github.com/google/go-cmp/cmp"
)

var updateSecrets = flag.Bool("update-secrets", false, "write the golden files of the Secrets anew")

// secretInputs are what every platform answers.
func secretInputs(more map[string]any) map[string]any {
	in := map[string]any{
		"hosts.server": "spacelift.site-a.example", "admin.username": "admin", "admin.password": "first-login",
		"license.type": "jwt", "license.token": "license.token.signature", "db.url": "postgres://spacelift:pw-of-db@db.site-a.example:5432/spacelift",
		"encryption.type": "rsa", "queue.type": "postgres", "mqtt.type": "builtin",
	}
	maps.Copy(in, more)
	return in
}

// TestSecretsGolden puts the three Secrets of each platform and option into a
// real cluster and compares them with what section "Kubernetes Secrets" of
// Spacelift's modules and guide has.
func TestSecretsGolden(t *testing.T) {
	kube := rowCluster(t)
	key, roots := rowFile(t, []byte("a2V5LW9mLXRoZS1zaXRl")), rowFile(t, []byte("cm9vdHM="))
	minio := map[string]any{"storage.type": "minio", "storage.minio.endpoint": "minio.site-a.example:9000", "storage.minio.use_ssl": true, "storage.minio.access_key_id": "spacelift", "storage.minio.secret_access_key": "secret-of-minio"}
	aws := map[string]any{"storage.type": "aws", "aws.account_id": "123456789012", "aws.region": "eu-west-1", "db.read_only_url": "postgres://spacelift:pw-of-db@replica.site-a.example:5432/spacelift"}
	kms := map[string]any{"encryption.type": "kms", "encryption.kms.encryption_key_id": "alias/spacelift", "encryption.kms.signing_key_id": "alias/spacelift-jwt"}
	sqs := map[string]any{"queue.type": "sqs", "mqtt.type": "iotcore", "mqtt.endpoint": "abc-ats.iot.eu-west-1.amazonaws.com"}
	for _, q := range []string{"async", "async_fifo", "cronjobs", "dlq", "dlq_fifo", "events_inbox", "iot", "webhooks"} {
		sqs["queue.sqs."+q+"_url"] = "https://sqs.eu-west-1.amazonaws.com/123456789012/" + q
	}
	base := "apiVersion: v1\nkind: Secret\nmetadata: {name: spacelift-shared}\nstringData: {ENVIRONMENT: terraform, AWS_PARTITION: aws-iso}\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: spacelift-drain}\ndata: {DRAIN_CONCURRENCY_EVENTS: OQ==}\n"
	for _, tt := range []struct {
		name, platform string
		inputs         []map[string]any
	}{
		{"onprem", "onprem", []map[string]any{minio}},
		{"onprem-made-key", "onprem", []map[string]any{{"storage.type": "minio", "storage.minio.endpoint": "minio.site-a.example:9000"}}},
		{"onprem-options", "onprem", []map[string]any{minio, {"hosts.vcs_gateway": "vcs.site-a.example", "telemetry.vendor": "OpenTelemetry", "telemetry.endpoint": "http://otel.site-a.example:4317", "backend.env": map[string]any{"NO_PROXY": ".site-a.example"}}}},
		{"eks-kms", "eks", []map[string]any{aws, kms}},
		{"eks-rsa", "eks", []map[string]any{aws}},
		{"eks-sqs-iotcore", "eks", []map[string]any{aws, kms, sqs}},
		{"eks-terraform", "eks", []map[string]any{aws, kms, {"infra.kubernetes_secrets": base}}},
		{"gke", "gke", []map[string]any{{"storage.type": "gcp"}}},
		{"gke-vcs-gateway", "gke", []map[string]any{{"storage.type": "gcp", "hosts.vcs_gateway": "vcs.site-a.example"}}},
		{"aks", "aks", []map[string]any{{"storage.type": "azure", "storage.azure.account_url": "https://spacelift.blob.core.windows.net"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			namespace := kube.Namespace(t)
			inputs := secretInputs(map[string]any{"k8s.namespace": namespace})
			for _, more := range tt.inputs {
				maps.Copy(inputs, more)
			}
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
