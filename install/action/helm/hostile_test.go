package helm

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/airlock-project/airlock/bundle/chart"
	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/kube"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clients "k8s.io/client-go/kubernetes/fake"
)

// odd is a chart demo of these templates; names with a directory are no templates.
func odd(templates map[string]string) map[string]string {
	out := map[string]string{"Chart.yaml": "apiVersion: v2\nname: demo\nversion: 1.0.0\n"}
	for name, text := range templates {
		if !strings.Contains(name, "/") && name != "Chart.yaml" {
			name = "templates/" + name
		}
		out[name] = text
	}
	return out
}

// thing is an object without much in it.
func thing(apiVersion, kind, meta, more string) string {
	return fmt.Sprintf("---\napiVersion: %s\nkind: %s\nmetadata: {%s}\n%s\n", apiVersion, kind, meta, more)
}

func config(name, more string) string { return thing("v1", "ConfigMap", "name: "+name, more) }

// noise is text that no compression makes smaller than three quarters.
func noise(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		sum := sha256.Sum256(fmt.Append(nil, i))
		b.WriteString(base64.RawStdEncoding.EncodeToString(sum[:]))
	}
	return b.String()[:n]
}

// TestPlanTellsApart shows what a release has outside its namespace, what it does
// not install, and what goes with all that is in it.
func TestPlanTellsApart(t *testing.T) {
	wide := odd(map[string]string{
		"a.yaml": config("own", "") + thing("v1", "ConfigMap", "name: other, namespace: kube-system", "") +
			thing("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "name: boss", "roleRef: {kind: ClusterRole, name: cluster-admin}") +
			thing("v1", "Namespace", "name: more", "") + thing("v1", "PersistentVolumeClaim", "name: data", "") +
			thing("v1", "Secret", "name: kept, annotations: {helm.sh/resource-policy: keep}", "") +
			thing("v1", "List", "", "items: [{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: listed}}]") +
			thing("demo.test/v1", "Gadget", "name: g", "") + thing("wide.test/v1", "Globe", "name: g", ""),
		"crds/globes.yaml": strings.NewReplacer("demo.test", "wide.test", "Gadget", "Globe", "gadget", "globe", "Namespaced", "Cluster").Replace(gadgets("a globe")),
		"hook.yaml":        thing("v1", "ServiceAccount", "name: h, namespace: tenant, annotations: {helm.sh/hook: pre-install}", ""),
		"old.yaml":         thing("v1", "ConfigMap", "name: lost, annotations: {helm.sh/hook: crd-install}", ""),
	})
	want := []string{
		"careful: it has objects in other namespaces: ConfigMap kube-system/other, ServiceAccount tenant/h (hook)",
		"careful: it has objects for the whole cluster: ClusterRole listed, ClusterRoleBinding boss (grants ClusterRole cluster-admin), Globe g, Namespace more",
		`careful: left out, as Helm does: ConfigMap lost of demo/templates/old.yaml: hook "crd-install"`,
	}
	f, b := newFake(), carry(t, wide, "")
	for _, with := range []map[string]any{nil, {"kubeconfig": "(known later)", "map": "(known later)"}} {
		details := f.plan(t, b, input(t, with)).Details
		for _, line := range want {
			if !slices.Contains(details, line) {
				t.Errorf("no %q in\n%s", line, strings.Join(details, "\n"))
			}
		}
	}
	res := f.apply(t, b, input(t, nil))
	if !slices.ContainsFunc(res.Findings, func(f install.Finding) bool { return f.Detail == want[1] && f.Severity == install.SeverityInfo }) {
		t.Errorf("findings %+v", res.Findings)
	}
	text := strings.Join(f.plan(t, carry(t, odd(map[string]string{"a.yaml": config("own", "")}), ""), input(t, nil)).Details, "\n")
	for _, line := range []string{
		"remove Namespace more with all that is in it", "remove PersistentVolumeClaim data with all that is in it",
		"leave Secret kept where it is, the release has it no longer", "remove ClusterRole listed",
	} {
		if !strings.Contains(text+"\n", line+"\n") {
			t.Errorf("no %q in\n%s", line, text)
		}
	}
	if strings.Contains(text, "careful") {
		t.Error(text)
	}
}

// TestUnsound refuses what no cluster could take, in a plan without one too.
func TestUnsound(t *testing.T) {
	same := config("same", "")
	for name, c := range map[string]struct {
		files map[string]string
		says  string
	}{
		"library":      {map[string]string{"Chart.yaml": "apiVersion: v2\nname: demo\nversion: 1.0.0\ntype: library\n"}, "is a library"},
		"twice":        {map[string]string{"a.yaml": same, "b.yaml": same}, "ConfigMap same: chart demo has it twice: in demo/templates/a.yaml and in demo/templates/b.yaml"},
		"in a list":    {map[string]string{"a.yaml": same, "b.yaml": thing("v1", "List", "", "items: [{apiVersion: v1, kind: ConfigMap, metadata: {name: same, namespace: apps}}]")}, "has it twice"},
		"no type":      {map[string]string{"a.yaml": same, "crds/a.yaml": config("other", "")}, "is no CustomResourceDefinition: demo/crds/a.yaml"},
		"no base64":    {map[string]string{"a.yaml": thing("v1", "Secret", "name: s", "data: {pw: 'geheim!!'}")}, "Secret s: data.pw: it is no base64"},
		"no text":      {map[string]string{"a.yaml": thing("v1", "Secret", "name: s", "stringData: {pw: 4711}")}, "Secret s: stringData.pw: it is no text"},
		"record":       {map[string]string{"a.yaml": same, "files/a.txt": noise(900_000)}, "Secret apps/sh.helm.release.v1.prod: Helm keeps a release with its chart in one Secret"},
		"notes record": {map[string]string{"a.yaml": same, "files/a.txt": noise(400_000), "NOTES.txt": `{{ .Files.Get "files/a.txt" }}`}, ""},
		"notes":        {map[string]string{"a.yaml": same, "NOTES.txt": `{{ repeat 100000000 "x" }}`}, "more than 67108864 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			f, b := newFake(), carry(t, odd(c.files), "")
			for _, with := range []map[string]any{nil, {"kubeconfig": "(known later)", "map": "(known later)"}} {
				_, err := Action{open: f.open}.plan(t.Context(), b, input(t, with))
				if (err == nil) != (c.says == "") || err != nil && (!strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "geheim") || strings.Contains(err.Error(), "4711")) {
					t.Errorf("error %v", err)
				}
			}
			res, err := Action{open: f.open}.apply(t.Context(), b, input(t, nil))
			if c.says != "" && err == nil && (len(res.Findings) != 1 || res.Findings[0].Code != kube.CodeInvalid) {
				t.Errorf("%+v, %v", res.Findings, err)
			}
			if c.says != "" {
				f.wantHistory(t)
			}
		})
	}
}

// TestRefusedHidesSecrets has a server that repeats what a value was.
func TestRefusedHidesSecrets(t *testing.T) {
	f, b := newFake(), carry(t, odd(map[string]string{"a.yaml": config("a", "")}), "")
	f.tryErr = &kube.InvalidError{Object: "ConfigMap apps/a", Reason: `metadata.labels: Invalid value: "geheim-1234"`}
	in := input(t, map[string]any{"values": []any{map[string]any{"db": map[string]any{"password": "geheim-1234"}}}})
	res, err := Action{open: f.open}.apply(t.Context(), b, in)
	if err != nil || len(res.Findings) != 1 || res.Findings[0].Code != kube.CodeInvalid || !strings.Contains(res.Findings[0].Detail, `Invalid value: "(not shown)"`) {
		t.Errorf("%+v, %v", res.Findings, err)
	}
	if strings.Contains(fmt.Sprint(res), "geheim") {
		t.Errorf("%+v", res)
	}
	f.wantHistory(t)
}

// TestRefusedNamespace: a namespace that is not there, and that nothing of the
// release makes, is told before anything is changed.
func TestRefusedNamespace(t *testing.T) {
	f, b := newFake(), carry(t, odd(map[string]string{"a.yaml": config("a", ""), "n.yaml": thing("v1", "Namespace", "name: made", "")}), "")
	for name, refused := range map[string]bool{"tenant": true, "apps": true, "made": false} {
		f.tryErr = &kube.TerminatingError{Namespace: name, Missing: true}
		res, err := Action{open: f.open}.apply(t.Context(), b, input(t, nil))
		if got := len(res.Findings) > 0 && res.Findings[0].Code == kube.CodeTerminating; err != nil || got != refused {
			t.Errorf("%s: %+v, %v", name, res.Findings, err)
		}
		if refused {
			f.wantHistory(t)
			continue
		}
		f = newFake()
	}
}

// TestEvidenceOfLists: a Secret in a list shows as little as one alone.
func TestEvidenceOfLists(t *testing.T) {
	objects, err := chart.Parse("apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Secret, metadata: {name: s}, stringData: {pw: geheim}, data: {pw: Z2VoZWlt}}\n")
	if err != nil {
		t.Fatal(err)
	}
	text, err := evidence(objects)
	if err != nil || strings.Contains(string(text), "geheim") || strings.Contains(string(text), "Z2VoZWlt") || strings.Count(string(text), "(not shown)") != 2 {
		t.Errorf("%v\n%s", err, text)
	}
}

// TestDifferGroups has two kinds of one name, and a Secret in a list.
func TestDifferGroups(t *testing.T) {
	chart := func(size int, image string) *carried {
		return carry(t, odd(map[string]string{"a.yaml": thing("v1", "Service", "name: web", "") + thing("serving.test/v1", "Service", "name: web", fmt.Sprintf("spec: {size: %d}", size)) +
			thing("v1", "List", "", "items: [{apiVersion: v1, kind: Secret, metadata: {name: s}, stringData: {image: '"+image+" words'}}]")}), "")
	}
	f := newFake()
	f.apply(t, chart(1, "geheim"), input(t, nil))
	text := strings.Join(f.plan(t, chart(2, "other"), input(t, nil)).Details, "\n")
	if text != "change Secret s: stringData.image\nchange Service.serving.test web: spec.size (1 -> 2)" {
		t.Error(text)
	}
}

// TestRandomNames are no change, nor is the time.
func TestRandomNames(t *testing.T) {
	f, b := newFake(), carry(t, odd(map[string]string{
		"a.yaml": config("a-{{ randAlphaNum 8 | lower }}", "data: {at: {{ now | unixEpoch | quote }}, size: {{ .Values.size | default 1 | quote }}}"),
		"h.yaml": thing("v1", "ConfigMap", "name: h-{{ randAlphaNum 8 | lower }}, annotations: {helm.sh/hook: pre-install}", ""),
		"b.yaml": config("plain", ""),
	}), "")
	f.apply(t, b, input(t, nil))
	if c := f.plan(t, b, input(t, nil)); !c.Nothing {
		t.Errorf("something to do: %+v", c)
	}
	c := f.plan(t, b, input(t, map[string]any{"values": []any{map[string]any{"size": 2}}}))
	if len(c.Details) != 1 || !strings.HasPrefix(c.Details[0], "change ConfigMap a-") || !strings.HasSuffix(c.Details[0], ": data.size") {
		t.Errorf("%+v", c)
	}
}

// TestImagesByName are refused by their name, or at the enclave's registry.
func TestImagesByName(t *testing.T) {
	sum := "@sha256:" + strings.Repeat("a", 64)
	pod := func(container string) string {
		return thing("v1", "Pod", "name: p", "spec: {containers: [{name: a, "+container+"}]}")
	}
	for image, want := range map[string]string{
		`image: "quay.io/demo/web:1"`:                                          "harbor:5000/airlock/demo/web:1" + sum,
		`image: "quay.io/demo/web:1` + sum + `"`:                               "harbor:5000/airlock/demo/web:1" + sum,
		`image: "quay.io/demo/web` + sum + `"`:                                 "harbor:5000/airlock/demo/web:1" + sum,
		`image: "harbor:5000/airlock/demo/web:1` + sum + `"`:                   "harbor:5000/airlock/demo/web:1" + sum,
		`image: "docker.io/library/helper:3"`:                                  "harbor:5000/airlock/helper:3" + sum,
		`image: "quay.io/demo/web:1@sha256:` + strings.Repeat("b", 64) + `"`:   "",
		`image: "quay.io/demo/web:1@sha512:` + strings.Repeat("a", 128) + `"`:  "",
		`image: "quay.io:443/demo/web:1"`:                                      "",
		`image: "gcr.io/demo/web:1"`:                                           "",
		`image: "QUAY.io/demo/web:1"`:                                          "",
		`image: "quay.io/Demo/web:1"`:                                          "",
		`image: "quay.io/demo/web:"`:                                           "",
		`image: "quay.io/demo/web:1 "`:                                         "",
		`image: "quay.io/demo/web"`:                                            "",
		`image: "${IMAGE}"`:                                                    "",
		`image: "quay.io/demo/web:1", args: ["--sidecar", "gcr.io/x/y:1"]`:     "",
		`image: "quay.io/demo/web:1", command: [sh, -c, "run gcr.io/x/y:1"]`:   "",
		`image: "quay.io/demo/web:1", env: [{name: A, value: "gcr.io/x/y:1"}]`: "",
	} {
		t.Run(image, func(t *testing.T) {
			f := newFake()
			res, err := Action{open: f.open}.apply(t.Context(), carry(t, odd(map[string]string{"a.yaml": pod(image)}), ""), input(t, nil))
			if err != nil {
				t.Fatal(err)
			}
			if want == "" {
				if len(res.Findings) != 1 || res.Findings[0].Code != codeImages || !strings.Contains(res.Findings[0].Detail, "Pod/p spec.containers[0].") {
					t.Errorf("%+v", res)
				}
				f.wantHistory(t)
			} else if got := res.Outputs["helm.images"]; fmt.Sprint(got) != "["+want+"]" {
				t.Errorf("%v, %+v", got, res.Findings)
			}
		})
	}
}

// TestRecords reads only Secrets that are the revisions they say they are.
func TestRecords(t *testing.T) {
	packed := func(text string) []byte {
		var out bytes.Buffer
		z := gzip.NewWriter(&out)
		if _, err := z.Write([]byte(text)); err != nil || z.Close() != nil {
			t.Fatal(err)
		}
		return base64.StdEncoding.AppendEncode(nil, out.Bytes())
	}
	const good = `{"name":"prod","version":1,"info":{"status":"deployed"}}`
	for name, c := range map[string]struct {
		data []byte
		says string
	}{
		"good":          {packed(good), ""},
		"not packed":    {base64.StdEncoding.AppendEncode(nil, []byte(good)), ""},
		"nothing":       {nil, "no release in it"},
		"no base64":     {[]byte("garbage"), "no release in it"},
		"cut off":       {packed(good)[:40], "its compression is broken"},
		"something":     {packed(`[1]`), "something else in it"},
		"half":          {packed(`{"name":"prod","version":1}`), "half a release in it"},
		"half a hook":   {packed(`{"name":"prod","version":1,"info":{},"hooks":[null]}`), "half a release in it"},
		"another":       {packed(`{"name":"x\u001b[31m","version":1,"info":{}}`), `revision 1 of release "x\x1b[31m" in it`},
		"other version": {packed(`{"name":"prod","version":2,"info":{}}`), "revision 2 of"},
		"bomb":          {packed(`{"name":"` + strings.Repeat(" ", maxRevision)), "more than 67108864 bytes in it"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "one", Namespace: "apps", Labels: map[string]string{"name": "prod", "version": "1"}}, Data: map[string][]byte{"release": c.data}}
			r := records{clients.NewClientset(s).CoreV1().Secrets("apps")}
			_, err1 := r.Get(t.Context(), "one", metav1.GetOptions{})
			_, err2 := r.List(t.Context(), metav1.ListOptions{})
			for _, err := range []error{err1, err2} {
				if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), "read Secret apps/one: ") || !strings.Contains(err.Error(), c.says)) {
					t.Errorf("error %v, want %q", err, c.says)
				}
			}
		})
	}
	var many []*corev1.Secret
	for i := range 6 {
		text := fmt.Sprintf(`{"name":"prod","version":%d,"info":{},"manifest":"%s"}`, i, strings.Repeat(" ", maxRevision-1000))
		many = append(many, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: hex.EncodeToString([]byte{byte(i)}), Namespace: "apps", Labels: map[string]string{"name": "prod", "version": fmt.Sprint(i)}}, Data: map[string][]byte{"release": packed(text)}})
	}
	c := clients.NewClientset()
	for _, s := range many {
		if err := c.Tracker().Add(s); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := (records{c.CoreV1().Secrets("apps")}).List(t.Context(), metav1.ListOptions{}); err == nil || !strings.Contains(err.Error(), "more than 268435456 bytes") {
		t.Errorf("error %v", err)
	}
}
