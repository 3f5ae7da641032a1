package spacelift

import (
	"slices"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/manifests"
	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
)

const ecr = "public.ecr.aws/spacelift/"

func vendorImages() []string {
	return []string{"spacelift-backend:v3.0.0", "spacelift-launcher:v3.0.0"}
}

func certManager() []string {
	var refs []string
	for _, part := range []string{"controller", "webhook", "cainjector", "acmesolver", "startupapicheck"} {
		refs = append(refs, "quay.io/jetstack/cert-manager-"+part+":v1.19.2")
	}
	return refs
}

func ingressNginx() []string {
	return []string{
		"registry.k8s.io/ingress-nginx/controller:v1.15.1@sha256:594ceea76b01c592858f803f9ff4d2cb40542cae2060410b2c95f75907d659e1",
		"registry.k8s.io/ingress-nginx/kube-webhook-certgen:v1.6.9@sha256:01038e7de14b78d702d2849c3aad72fd25903c4765af63cf16aa3398f5d5f2dd",
	}
}

// TestDefinitions lists what each platform's bundle must hold.
func TestDefinitions(t *testing.T) {
	runners := []string{ecr + "runner-terraform:latest", ecr + "runner-ansible:latest"}
	cluster := []string{ecr + "kube-workerpool-controller:v0.0.32", ecr + "promex:v0.7.0"}
	agent := []string{ecr + "vcs-agent:latest"}
	ours := []string{"spacelift spacelift-self-hosted v0.62.0", "spacelift-workerpool-controller spacelift-workerpool-controller v0.62.0", "spacelift-promex spacelift-promex v0.62.0"}
	cm, nginx := []string{"cert-manager cert-manager v1.19.2"}, []string{"ingress-nginx ingress-nginx 4.15.1"}

	tests := map[string]struct {
		images, charts, modules, archiveFiles []string
	}{
		"eks": {
			images:       slices.Concat(vendorImages(), runners, cluster, agent),
			charts:       ours,
			modules:      []string{"vendor/terraform-aws-eks-spacelift-selfhosted"},
			archiveFiles: []string{"bin/spacelift-launcher"},
		},
		"ecs": {
			images:       slices.Concat(vendorImages(), runners, agent),
			modules:      []string{"vendor/terraform-aws-spacelift-selfhosted", "vendor/terraform-aws-ecs-spacelift-selfhosted", "vendor/terraform-aws-spacelift-workerpool-on-ec2"},
			archiveFiles: []string{"bin/spacelift-launcher"},
		},
		"gke": {
			images:  slices.Concat(vendorImages(), runners, cluster, agent, []string{"gcr.io/cloud-sql-connectors/cloud-sql-proxy:2.21.0"}, certManager()),
			charts:  slices.Concat(ours, cm),
			modules: []string{"vendor/terraform-google-spacelift-selfhosted"},
		},
		"aks": {
			images:  slices.Concat(vendorImages(), runners, cluster, agent, certManager(), ingressNginx()),
			charts:  slices.Concat(ours, cm, nginx),
			modules: []string{"vendor/terraform-azure-spacelift-selfhosted"},
		},
		"onprem": {
			images: slices.Concat(vendorImages(), runners, cluster, agent, certManager(), ingressNginx()),
			charts: slices.Concat(ours, cm, nginx),
		},
	}
	if got := Platforms(); len(got) != len(tests) {
		t.Fatalf("platforms are %v, the table has %d", got, len(tests))
	}
	for _, name := range Platforms() {
		t.Run(name, func(t *testing.T) {
			data, err := Definition(name)
			if err != nil {
				t.Fatal(err)
			}
			def, err := manifests.ParseDefinition("airlock.yaml", data)
			if err != nil {
				t.Fatal(err)
			}
			var images, charts, modules, archiveFiles []string
			for _, a := range def.Archives {
				for _, img := range a.Images {
					images = append(images, img.As)
				}
				for _, f := range a.Files {
					archiveFiles = append(archiveFiles, f.Path)
				}
			}
			for _, img := range def.Images {
				images = append(images, img.Ref)
				if strings.Contains(img.Ref, "@") && !slices.Equal(img.Platforms, []string{"all"}) {
					t.Errorf("%s is named by the digest of its index, which is carried only with platforms: all", img.Ref)
				}
			}
			for _, c := range def.Charts {
				charts = append(charts, c.Name+" "+c.Chart+" "+c.Version)
			}
			for _, m := range def.Modules {
				modules = append(modules, m.Path)
			}
			want := tests[name]
			for _, d := range []struct{ what, diff string }{
				{"images", cmp.Diff(want.images, images)},
				{"charts", cmp.Diff(want.charts, charts)},
				{"modules", cmp.Diff(want.modules, modules)},
				{"archive files", cmp.Diff(want.archiveFiles, archiveFiles)},
			} {
				if d.diff != "" {
					t.Errorf("%s (-want +got):\n%s", d.what, d.diff)
				}
			}
			if def.Checklist == nil || def.Checklist.Preset != Name {
				t.Errorf("checklist is %+v, want preset %s", def.Checklist, Name)
			}
			if got := def.Archives[0].Signer.Fingerprint; got != "380BD7699053035B71D027B173EBA0CF3B3F4A46" {
				t.Errorf("vendor's fingerprint is %s", got)
			}
		})
	}
}

// TestFiles checks that every values file a chart names is written, and no other.
func TestFiles(t *testing.T) {
	for _, name := range Platforms() {
		files, err := Files(name)
		if err != nil {
			t.Fatal(err)
		}
		def, err := manifests.ParseDefinition("airlock.yaml", files["airlock.yaml"])
		if err != nil {
			t.Fatal(err)
		}
		used := []string{"airlock.yaml"}
		for _, c := range def.Charts {
			used = append(used, c.Values...)
		}
		for _, f := range used {
			if len(files[f]) == 0 {
				t.Errorf("%s: %s is named and not written", name, f)
			}
		}
		if len(files) != len(used) {
			t.Errorf("%s: %d files are written, %d are used", name, len(files), len(used))
		}
		for f, data := range files {
			if strings.Contains(string(data), "[[") || strings.Contains(string(data), "<no value>") {
				t.Errorf("%s: %s has an unfilled place", name, f)
			}
		}
	}
}

// TestPlatforms: the preset has every platform that a site can have.
func TestPlatforms(t *testing.T) {
	if got, want := Platforms(), manifests.SitePlatforms(); !slices.Equal(got, want) {
		t.Errorf("platforms %q, want %q", got, want)
	}
}

func TestUnknownPlatform(t *testing.T) {
	for _, name := range []string{"", "EKS", "../eks"} {
		if _, err := Definition(name); err == nil || !strings.Contains(err.Error(), "eks, ecs, gke, aks, onprem") {
			t.Errorf("Definition(%q) error is %v, want one that lists the platforms", name, err)
		}
		if _, err := Files(name); err == nil {
			t.Errorf("Files(%q) succeeded", name)
		}
	}
}

func TestChecklist(t *testing.T) {
	data, err := Checklist()
	if err != nil {
		t.Fatal(err)
	}
	c, err := manifests.ParseChecklist("checklist.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	if c.Product != Name {
		t.Errorf("product is %q, want %q", c.Product, Name)
	}
	var ids []string
	for _, p := range c.Phases {
		ids = append(ids, p.ID)
	}
	if want := []string{"p1", "p2", "p3", "p4", "p5", "p6", "p7", "p8"}; !slices.Equal(ids, want) {
		t.Errorf("phases are %v, want %v", ids, want)
	}
}

// TestSecondIngressIsOff: the chart's default makes a second Ingress for all
// paths and without a class, on every platform but dual-stack GKE.
func TestSecondIngressIsOff(t *testing.T) {
	for _, name := range Platforms() {
		files, err := Files(name)
		if err != nil {
			t.Fatal(err)
		}
		values, ok := files["values/spacelift.yaml"]
		if !ok {
			if name != "ecs" {
				t.Errorf("%s has no values for the chart", name)
			}
			continue
		}
		var v struct {
			IngressV6 struct {
				Enabled *bool `yaml:"enabled"`
			} `yaml:"ingressV6"`
		}
		if err := yaml.Unmarshal(values, &v); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if e := v.IngressV6.Enabled; e == nil || *e {
			t.Errorf("%s: ingressV6.enabled is not false", name)
		}
	}
}

// TestOrder: what an item cannot do without comes before it, in whatever way it is
// needed.
func TestOrder(t *testing.T) {
	data, err := Checklist()
	if err != nil {
		t.Fatal(err)
	}
	c, err := manifests.ParseChecklist("checklist.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	needs := map[string][]string{}
	for _, it := range c.Items {
		needs[it.ID] = append(needs[it.ID], slices.Concat(it.Needs, it.Children)...)
		for _, child := range it.Children {
			needs[child] = append(needs[child], it.Needs...)
		}
	}
	before := func(id string) map[string]bool {
		seen, next := map[string]bool{}, []string{id}
		for len(next) > 0 {
			at := next[0]
			next = next[1:]
			for _, n := range needs[at] {
				if !seen[n] {
					seen[n] = true
					next = append(next, n)
				}
			}
		}
		return seen
	}
	const pods = "configure-kubectl-credentials create-kubernetes-namespace image-pull-credentials setup-registry-push-images "
	for id, list := range map[string]string{
		"create-kubernetes-namespace":   "configure-kubectl-credentials",
		"image-pull-credentials":        "create-kubernetes-namespace",
		"reach-from-cluster":            pods + "postgresql-database object-storage",
		"install-ingress-controller":    pods,
		"eks-ingress-class":             "configure-kubectl-credentials",
		"install-cert-manager":          pods,
		"create-cluster-issuer":         pods + "install-cert-manager choose-issuer",
		"create-kubernetes-secrets":     "create-kubernetes-namespace postgresql-database object-storage encryption message-queue mqtt-broker obtain-license-and-materials distribute-ca-trust",
		"deploy-helm-chart":             pods + "create-kubernetes-secrets install-ingress-controller eks-ingress-class create-cluster-issuer gke-database-grants prepare-tls-certificate render-charts",
		"configure-dns-records":         "deploy-helm-chart",
		"served-certificate":            "configure-dns-records",
		"names-from-cluster":            pods + "configure-dns-records",
		"vcs-gateway":                   "deploy-helm-chart configure-dns-records",
		"login-admin":                   "deploy-helm-chart",
		"install-workerpool-controller": pods + "distribute-ca-trust",
		"deploy-worker-pool":            pods + "create-worker-pool install-workerpool-controller",
		"verify-workers-connect":        "deploy-worker-pool",
		"prove-other-login":             "configure-sso issue-api-key",
		"disable-admin-login":           "prove-other-login configure-sso deploy-helm-chart",
		"install-promex":                pods + "issue-api-key",
		"observability":                 "install-promex",
		"telemetry-rollout":             "telemetry deploy-helm-chart",
	} {
		have := before(id)
		for need := range strings.FieldsSeq(list) {
			if !have[need] {
				t.Errorf("%s does not come after %s", id, need)
			}
		}
	}
}
