package job

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the golden files")

func full() Options {
	return Options{
		Name: "carry", Namespace: "spacelift", To: "harbor.site.internal/airlock", Bundle: "2026/product-v3.tar.zst", Claim: "bundles",
		Image: "harbor.site.internal/airlock/airlock:v1@sha256:" + strings.Repeat("a", 64), Shards: 4, Parallel: 2,
		Policy: "airlock-policy", Auth: "harbor-login", CA: "site-ca", PullSecret: "harbor-login", Account: "mirror",
		Args: []string{"--keep-host", "--workers=4"}, CPU: "2", Memory: "256Mi",
	}
}

func least() Options {
	return Options{To: "r.test:5000", Bundle: "b.tar.zst", Claim: "c", Image: "r.test/airlock:v1", Shards: 1, Policy: "p"}
}

// jobs decodes with the types of Kubernetes, unknown fields refused.
func jobs(t *testing.T, o Options) []batchv1.Job {
	t.Helper()
	data, err := Render(o)
	if err != nil {
		t.Fatal(err)
	}
	var list []batchv1.Job
	for doc := range bytes.SplitSeq(data, []byte("\n---\n")) {
		var j batchv1.Job
		if err := yaml.UnmarshalStrict(doc, &j); err != nil {
			t.Fatalf("%v\n%s", err, doc)
		}
		list = append(list, j)
	}
	if len(list) != 2 {
		t.Fatalf("%d documents, want 2", len(list))
	}
	return list
}

func TestGolden(t *testing.T) {
	for file, o := range map[string]Options{"testdata/full.yaml": full(), "testdata/least.yaml": least()} {
		got, err := Render(o)
		if err != nil {
			t.Fatal(err)
		}
		if *update {
			if err := os.WriteFile(file, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
	}
}

func TestJobs(t *testing.T) {
	list := jobs(t, full())
	shards, closing := list[0], list[1]
	for _, j := range list {
		if j.APIVersion != "batch/v1" || j.Kind != "Job" || j.Namespace != "spacelift" {
			t.Errorf("%s is %s %s in %q", j.Name, j.APIVersion, j.Kind, j.Namespace)
		}
	}
	if s := shards.Spec; s.CompletionMode == nil || *s.CompletionMode != batchv1.IndexedCompletion || *s.Completions != 4 || *s.Parallelism != 2 {
		t.Errorf("shards: %+v", s)
	}
	if shards.Spec.Suspend != nil {
		t.Error("the shards do not start by themselves")
	}
	if s := closing.Spec; s.CompletionMode != nil || s.Completions != nil || s.Suspend == nil || !*s.Suspend {
		t.Errorf("closing: %+v", s)
	}
	common := []string{"mirror", "/bundle/2026/product-v3.tar.zst", "--to=harbor.site.internal/airlock", "--policy=/trust/policy.yaml", "--ca-file=/ca/ca.pem", "--auth-file=/auth/config.json", "--keep-host", "--workers=4"}
	for j, last := range map[*batchv1.Job]string{&shards: "--shard=$(JOB_COMPLETION_INDEX)/4", &closing: "--closing"} {
		if diff := cmp.Diff(append(slices.Clone(common), last), j.Spec.Template.Spec.Containers[0].Args); diff != "" {
			t.Errorf("%s: arguments (-want +got):\n%s", j.Name, diff)
		}
	}
}

// TestRestricted holds every pod to the "restricted" Pod Security Standard, and
// every mount to a volume.
func TestRestricted(t *testing.T) {
	for _, j := range append(jobs(t, full()), jobs(t, least())...) {
		p := j.Spec.Template.Spec
		sc := p.SecurityContext
		if sc == nil || !*sc.RunAsNonRoot || *sc.RunAsUser == 0 || sc.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
			t.Errorf("%s: pod security context %+v", j.Name, sc)
		}
		if *p.AutomountServiceAccountToken || p.RestartPolicy != corev1.RestartPolicyNever || p.HostNetwork || p.HostPID {
			t.Errorf("%s: the pod may do more than it needs", j.Name)
		}
		c := p.Containers[0]
		if *c.SecurityContext.AllowPrivilegeEscalation || !*c.SecurityContext.ReadOnlyRootFilesystem || !slices.Equal(c.SecurityContext.Capabilities.Drop, []corev1.Capability{"ALL"}) {
			t.Errorf("%s: container security context %+v", j.Name, c.SecurityContext)
		}
		if c.Resources.Requests.Memory().IsZero() || c.Resources.Limits.Memory().Cmp(*c.Resources.Requests.Memory()) <= 0 {
			t.Errorf("%s: resources %+v", j.Name, c.Resources)
		}
		have := map[string]corev1.Volume{}
		for _, v := range p.Volumes {
			have[v.Name] = v
		}
		for _, m := range c.VolumeMounts {
			v, ok := have[m.Name]
			if !ok || (v.EmptyDir == nil && !m.ReadOnly) {
				t.Errorf("%s: mount %+v of %+v", j.Name, m, v)
			}
			delete(have, m.Name)
		}
		if len(have) > 0 {
			t.Errorf("%s: volumes that nothing mounts: %v", j.Name, have)
		}
	}
}

func TestRenderRefuses(t *testing.T) {
	for option, change := range map[string]func(*Options){
		"name":        func(o *Options) { o.Name = "Upper" },
		"namespace":   func(o *Options) { o.Namespace = "a: b" },
		"volume":      func(o *Options) { o.Claim = "" },
		"policy":      func(o *Options) { o.Policy = "x\ny" },
		"auth":        func(o *Options) { o.Auth = "../x" },
		"shards":      func(o *Options) { o.Shards = MaxShards + 1 },
		"parallel":    func(o *Options) { o.Parallel = -1 },
		"to":          func(o *Options) { o.To = "plain/path" },
		"image":       func(o *Options) { o.Image = "r.test/airlock" },
		"bundle":      func(o *Options) { o.Bundle = "../secret" },
		"argument":    func(o *Options) { o.Args = []string{"--password=$(SECRET)"} },
		"memory":      func(o *Options) { o.Memory = "lots" },
		"pull-secret": func(o *Options) { o.PullSecret = "A" },
	} {
		t.Run(option, func(t *testing.T) {
			o := full()
			change(&o)
			_, err := Render(o)
			if e, ok := errors.AsType[*OptionError](err); !ok || e.Option != option {
				t.Errorf("got %v, want *OptionError of %s", err, option)
			}
		})
	}
	o := least()
	o.Shards, o.Policy = 0, ""
	if _, err := Render(o); err == nil || !strings.Contains(err.Error(), "shards") || !strings.Contains(err.Error(), "policy") {
		t.Errorf("two mistakes: got %v", err)
	}
}
