package main

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// secretCase is a site whose three Secrets are compared with a golden file.
type secretCase struct {
	name, platform string
	inputs         []map[string]any
}

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

// secretBase is the output kubernetes_secrets of a Terraform module, in part.
const secretBase = "apiVersion: v1\nkind: Secret\nmetadata: {name: spacelift-shared}\nstringData: {ENVIRONMENT: terraform, AWS_PARTITION: aws-iso}\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: spacelift-drain}\ndata: {DRAIN_CONCURRENCY_EVENTS: OQ==}\n"

func secretCases() []secretCase {
	minio := map[string]any{"storage.type": "minio", "storage.minio.endpoint": "minio.site-a.example:9000", "storage.minio.use_ssl": true, "storage.minio.access_key_id": "spacelift", "storage.minio.secret_access_key": "secret-of-minio"}
	replica := map[string]any{"db.read_only_url": "postgres://spacelift:pw-of-db@replica.site-a.example:5432/spacelift"}
	aws := map[string]any{"storage.type": "aws", "aws.account_id": "123456789012", "aws.region": "eu-west-1", "db.read_only_url": replica["db.read_only_url"]}
	kms := map[string]any{"encryption.type": "kms", "encryption.kms.encryption_key_id": "alias/spacelift", "encryption.kms.signing_key_id": "alias/spacelift-jwt"}
	sqs := map[string]any{"queue.type": "sqs", "mqtt.type": "iotcore", "mqtt.endpoint": "abc-ats.iot.eu-west-1.amazonaws.com"}
	for _, q := range []string{"async", "async_fifo", "cronjobs", "dlq", "dlq_fifo", "events_inbox", "iot", "webhooks"} {
		sqs["queue.sqs."+q+"_url"] = "https://sqs.eu-west-1.amazonaws.com/123456789012/" + q
	}
	gcp := map[string]any{"storage.type": "gcp"}
	azure := map[string]any{"storage.type": "azure", "storage.azure.account_url": "https://spacelift.blob.core.windows.net"}
	gateway := map[string]any{"hosts.vcs_gateway": "vcs.site-a.example"}
	telemetry := map[string]any{"telemetry.vendor": "OpenTelemetry", "telemetry.endpoint": "http://otel.site-a.example:4317"}
	module := map[string]any{"infra.kubernetes_secrets": secretBase}
	return []secretCase{
		{"onprem", "onprem", []map[string]any{minio}},
		{"onprem-made-key", "onprem", []map[string]any{{"storage.type": "minio", "storage.minio.endpoint": "minio.site-a.example:9000"}}},
		{"onprem-options", "onprem", []map[string]any{minio, gateway, telemetry, {"backend.env": map[string]any{"NO_PROXY": ".site-a.example"}, "federation.issuer": "https://issuer.site-a.example"}}},
		{"eks-kms", "eks", []map[string]any{aws, kms}},
		{"eks-rsa", "eks", []map[string]any{aws}},
		{"eks-sqs-iotcore", "eks", []map[string]any{aws, kms, sqs}},
		{"eks-terraform", "eks", []map[string]any{aws, kms, module}},
		{"eks-options", "eks", []map[string]any{aws, kms, gateway, telemetry, {"license.type": "aws", "license.token": nil}}},
		{"gke", "gke", []map[string]any{gcp}},
		{"gke-vcs-gateway", "gke", []map[string]any{gcp, gateway}},
		{"gke-terraform", "gke", []map[string]any{gcp, replica, telemetry, module}},
		{"aks", "aks", []map[string]any{azure}},
		{"aks-terraform", "aks", []map[string]any{azure, replica, gateway, module}},
	}
}

// answers are all that a case answers.
func (c secretCase) answers() map[string]any {
	in := secretInputs(nil)
	for _, more := range c.inputs {
		maps.Copy(in, more)
	}
	maps.DeleteFunc(in, func(_ string, v any) bool { return v == nil })
	return in
}

// keys are those that the three Secrets have to hold, by the table of section
// "Kubernetes Secrets" of the specification: what each platform's module or guide
// sets, with METADATA and UPLOADS shared everywhere, the key of RSA on EKS too,
// and the enclave's own authorities.
func (c secretCase) keys() map[string][]string {
	in := c.answers()
	has := func(name string) bool { _, ok := in[name]; return ok }
	cloud, module := c.platform != "onprem", has("infra.kubernetes_secrets")
	prefixed := func(prefix, names string) []string {
		var out []string
		for n := range strings.FieldsSeq(names) {
			out = append(out, prefix+n)
		}
		return out
	}
	when := func(ok bool, names ...string) []string {
		if ok {
			return names
		}
		return nil
	}
	concurrency := prefixed("DRAIN_CONCURRENCY_", "ASYNC_JOBS ASYNC_JOBS_FIFO CRONJOBS DLQ DLQ_FIFO EVENTS IOT WEBHOOKS")
	shared := slices.Concat(
		strings.Fields("SERVER_DOMAIN MQTT_BROKER_TYPE MQTT_BROKER_ENDPOINT ENCRYPTION_TYPE MESSAGE_QUEUE_TYPE OBJECT_STORAGE_TYPE DATABASE_URL LICENSE_TYPE ADDITIONAL_ROOT_CAS"),
		prefixed("OBJECT_STORAGE_BUCKET_", "DELIVERIES LARGE_QUEUE_MESSAGES MODULES POLICY_INPUTS RUN_LOGS STATES USER_UPLOADED_WORKSPACES WORKSPACE USAGE_ANALYTICS UPLOADS_URL METADATA UPLOADS"),
		when(in["license.type"] == "jwt", "LICENSE_TOKEN"),
		when(cloud, "ENVIRONMENT", "SPACELIFT_PUBLIC_API"),
		when(cloud || has("telemetry.vendor"), "OBSERVABILITY_VENDOR"),
		when(has("telemetry.vendor"), "OTEL_EXPORTER_OTLP_ENDPOINT"),
		when(has("db.read_only_url"), "DATABASE_READ_ONLY_URL"),
		when(c.platform == "eks", "AWS_ACCOUNT_ID", "AWS_REGION", "AWS_DEFAULT_REGION"),
		when(in["encryption.type"] == "kms", "ENCRYPTION_KMS_ENCRYPTION_KEY_ID", "ENCRYPTION_KMS_SIGNING_KEY_ID"),
		when(in["encryption.type"] == "rsa", "ENCRYPTION_RSA_PRIVATE_KEY"),
		when(in["storage.type"] == "azure", "OBJECT_STORAGE_AZURE_ACCOUNT_URL"),
		when(in["storage.type"] == "minio", prefixed("OBJECT_STORAGE_MINIO_", "ENDPOINT USE_SSL ALLOW_INSECURE ACCESS_KEY_ID SECRET_ACCESS_KEY")...),
		when(in["queue.type"] == "sqs", prefixed("MESSAGE_QUEUE_SQS_", "ASYNC_URL ASYNC_FIFO_URL CRONJOBS_URL DLQ_URL DLQ_FIFO_URL EVENTS_INBOX_URL IOT_URL WEBHOOKS_URL")...),
		when(in["mqtt.type"] == "iotcore", "MQTT_BROKER_IOTCORE_NAMESPACE"),
		when(has("hosts.vcs_gateway") || c.platform == "gke" || c.platform == "aks", "VCS_GATEWAY_ENDPOINT"),
		when(has("federation.issuer"), "FEDERATION_CUSTOM_ISSUER"),
		when(has("backend.env"), "NO_PROXY"),
		when(module, "AWS_PARTITION"), // what the module's output has and the site does not answer stays
	)
	drain := slices.Concat(
		[]string{"LAUNCHER_IMAGE", "LAUNCHER_IMAGE_TAG"},
		when((c.platform == "eks" || c.platform == "aks") && !module, concurrency...),
		when(c.platform == "eks" && !module, "DRAIN_SCHEDULER_ENABLED"),
		when(module, "DRAIN_CONCURRENCY_EVENTS"),
	)
	return map[string][]string{
		"spacelift-shared": slices.Sorted(slices.Values(shared)),
		"spacelift-server": {"ADMIN_PASSWORD", "ADMIN_USERNAME", "WEBHOOKS_ENDPOINT"},
		"spacelift-drain":  slices.Sorted(slices.Values(drain)),
	}
}

// TestSecretsKeys holds the golden files against the specification's table: they
// are written by what they test.
func TestSecretsKeys(t *testing.T) {
	for _, c := range secretCases() {
		raw, err := os.ReadFile(filepath.Join("testdata", "secrets", c.name+".txt"))
		if err != nil {
			t.Error(err)
			continue
		}
		have, name := map[string][]string{}, ""
		for line := range strings.Lines(string(raw)) {
			key, indented := strings.CutPrefix(line, "  ")
			if !indented {
				name, _, _ = strings.Cut(line, " ")
				continue
			}
			key, _, _ = strings.Cut(key, "=")
			have[name] = append(have[name], key)
		}
		if diff := cmp.Diff(c.keys(), have); diff != "" {
			t.Errorf("%s (-table +golden):\n%s", c.name, diff)
		}
	}
}
