package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/manifests/spacelift"
	"github.com/google/go-cmp/cmp"
)

// TestQuestionsByPlatform holds what airlock site init asks against lists that
// were read: UPDATE_QUESTIONS=1 writes them anew. What must never be asked is
// said here once more, so that an update does not let it in.
func TestQuestionsByPlatform(t *testing.T) {
	t.Parallel()
	foreign := map[string][]string{
		"eks":    {"storage.minio.", "storage.azure.", "ecs."},
		"ecs":    {"storage.minio.", "storage.azure.", "k8s.", "helm.", "ingress.", "issuer.", "pull."},
		"gke":    {"aws.", "ecs.", "queue.sqs.", "tls.acm_arn", "encryption.kms.", "storage.azure."},
		"aks":    {"aws.", "ecs.", "queue.sqs.", "tls.acm_arn", "encryption.kms."},
		"onprem": {"aws.", "ecs.", "queue.sqs.", "tls.acm_arn", "encryption.kms.", "storage.azure.", "storage.region", "db.admin_url", "infra."},
	}
	c := presetChecklist(t)
	for _, platform := range spacelift.Platforms() {
		list, err := install.Questions(c, &manifests.Site{Name: "site-a", Platform: platform, Airgap: "isolated"}, "v4.0.0")
		if err != nil {
			t.Fatal(err)
		}
		var got strings.Builder
		for _, q := range list {
			fmt.Fprintf(&got, "%s %s%s\n", q.Phase.ID, q.Name, map[bool]string{true: " required"}[q.Required])
			if slices.ContainsFunc(foreign[platform], func(s string) bool { return strings.HasPrefix(q.Name, s) }) {
				t.Errorf("%s is asked for %s", platform, q.Name)
			}
		}
		name := filepath.Join("testdata", "questions", platform+".txt")
		if os.Getenv("UPDATE_QUESTIONS") != "" {
			if err := os.WriteFile(name, []byte(got.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got.String(), "\n")); d != "" {
			t.Errorf("%s: %s", platform, d)
		}
	}
}
