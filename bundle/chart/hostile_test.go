package chart

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// hostile loads a chart named demo of some files.
func hostile(t *testing.T, files map[string]string) *Chart {
	t.Helper()
	dir := t.TempDir()
	all := map[string]string{"Chart.yaml": "apiVersion: v2\nname: demo\nversion: 1.0.0\n"}
	maps.Copy(all, files)
	for name, text := range all {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := LoadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func configMap(value string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {x: " + value + "}\n"
}

// TestErrorsHideSecrets gives templates, parsers and schemas what they repeat.
func TestErrorsHideSecrets(t *testing.T) {
	const plain = `{"properties":{"db":{"properties":{"password":`
	for name, c := range map[string]struct {
		template, schema, values string
		says                     string
	}{
		"fail":            {`{{ fail (printf "bad %s for %s" .Values.db.password .Values.site) }}`, "", "db: {password: geheim-123456}\nsite: lab1", "bad (not shown) for lab1"},
		"encoded":         {`{{ fail (.Values.db.password | b64enc) }}`, "", "db: {password: geheim-123456}", "execution error at (demo/templates/a.yaml:1:3)"},
		"below a key":     {`{{ fail .Values.licence.text }}`, "", "licence: {text: geheim-123456}", "(not shown)"},
		"of a URL":        {`{{ fail .Values.db.url }}`, "", "db: {url: 'postgres://u:geheim-123456@db:5432/x'}", "postgres://u:(not shown)@db:5432/x"},
		"anchor":          {configMap("{{ .Values.db.password }}"), "", `db: {password: "*geheim123456"}`, "unknown anchor (not shown)"},
		"tag":             {configMap("{{ .Values.db.password }}"), "", `db: {password: "!!int geheim123456"}`, "cannot decode"},
		"tpl":             {configMap("{{ tpl .Values.db.password . }}"), "", "db: {password: 'geheim-123456 {{ x '}", "cannot parse template"},
		"include":         {configMap("{{ include .Values.db.password . }}"), "", "db: {password: geheim-123456}", "no template"},
		"values anchor":   {configMap("b"), "", "password: *geheim123456", `parse values file "site.yaml"`},
		"values tag":      {configMap("b"), "", "other: !!int geheim123456", `parse values file "site.yaml"`},
		"schema pattern":  {configMap("b"), plain + `{"pattern":"^[0-9]+$"}}}}}`, "db: {password: geheim-123456}", "at '/db/password': '(a value not shown)' does not match pattern '^[0-9]+$'"},
		"schema format":   {configMap("b"), `{"$schema":"http://json-schema.org/draft-07/schema#","properties":{"who":{"format":"email"}}}`, "who: geheim-123456", "not valid email"},
		"schema composed": {configMap("b"), `{"allOf":[{"properties":{"who":{"pattern":"^x"}}}]}`, "who: geheim-123456", "'^x'"},
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{"templates/a.yaml": c.template}
			if c.schema != "" {
				files["values.schema.json"] = c.schema
			}
			_, err := hostile(t, files).Render(t.Context(), Options{Values: []ValuesFile{{Name: "site.yaml", Data: []byte(c.values)}}})
			if err == nil {
				t.Fatal("no error")
			}
			for _, not := range []string{"geheim", "Z2VoZWlt"} {
				if strings.Contains(err.Error(), not) {
					t.Errorf("%s", err)
				}
			}
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s, want %q", err, c.says)
			}
		})
	}
}

// TestErrorsAreBounded has a template that includes itself, a line of error each
// time, and a value that a schema would repeat.
func TestErrorsAreBounded(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"include": {"templates/a.yaml": `{{ define "b" }}{{ include "b" . }}{{ end }}{{ include "b" . }}`},
		"schema":  {"templates/a.yaml": configMap("b"), "values.schema.json": `{"properties":{"p":{"pattern":"^(a+)+$"}}}`},
		"fail":    {"templates/a.yaml": `{{ fail (repeat 100000 "é") }}`},
	} {
		_, err := hostile(t, files).Render(t.Context(), Options{Values: []ValuesFile{{Data: []byte("p: " + strings.Repeat("a", 100_000) + "b")}}})
		if err == nil || len(err.Error()) > maxError+100 || strings.ContainsRune(err.Error(), '\ufffd') {
			t.Errorf("%s: %d bytes: %.300s", name, len(err.Error()), err)
		}
	}
}

// TestMemory ends a render that fills memory. This template ends by itself later.
func TestMemory(t *testing.T) {
	c := hostile(t, map[string]string{"templates/a.yaml": `{{ range until 20000000 }}{{ end }}`})
	_, err := c.renderWithin(t.Context(), Options{}, 64<<20)
	if err == nil || !strings.Contains(err.Error(), `render chart "demo": its templates take more than 64 MiB of memory`) {
		t.Errorf("error %v", err)
	}
	if _, err := hostile(t, map[string]string{"templates/a.yaml": configMap("b")}).renderWithin(t.Context(), Options{}, 64<<20); err != nil {
		t.Error(err)
	}
}

// TestRenderAll tells what is no object of the release.
func TestRenderAll(t *testing.T) {
	c := hostile(t, map[string]string{
		"Chart.yaml":            "apiVersion: v2\nname: demo\nversion: 1.0.0\ndependencies: [{name: sub, version: 1.0.0}]\n",
		"templates/a.yaml":      configMap("b") + "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: old, annotations: {helm.sh/hook: 'pre-install, crd-install'}}\n",
		"templates/NOTES.txt":   "hello {{ .Release.Name }}",
		"charts/sub/Chart.yaml": "apiVersion: v2\nname: sub\nversion: 1.0.0\n", "charts/sub/templates/NOTES.txt": "other",
		"charts/sub/templates/a.yaml": "# {{ now | date \"2006\" }}\n",
	})
	out, err := c.RenderAll(t.Context(), Options{ReleaseName: "prod"})
	if err != nil {
		t.Fatal(err)
	}
	if len(out.Objects) != 1 || out.Notes != "hello prod" || len(out.Unknown) != 1 || out.Unknown[0] != `ConfigMap old of demo/templates/a.yaml: hook "crd-install"` {
		t.Errorf("%+v", out)
	}
	if !c.Timed() || hostile(t, map[string]string{"templates/a.yaml": configMap("known")}).Timed() {
		t.Error("the time in a template")
	}
}

// TestSchemaFetchesNothing has a schema that lies elsewhere, and bombs.
func TestSchemaFetchesNothing(t *testing.T) {
	begin := time.Now()
	for schema, ok := range map[string]bool{
		`{"$ref":"http://127.0.0.1:1/x.json"}`: true, `{"$schema":"http://127.0.0.1:1/x.json"}`: true,
		`{"$ref":"ftp://127.0.0.1:1/x.json"}`: false, `{"$ref":"file:///etc/passwd"}`: false, `{"$ref":"#"}`: false,
		`{"properties":{"p":{"pattern":"((a{0,1000}){0,1000}){0,1000}"}}}`: false,
	} {
		c := hostile(t, map[string]string{"values.schema.json": schema, "templates/a.yaml": configMap("b")})
		if _, err := c.Render(t.Context(), Options{}); (err == nil) != ok {
			t.Errorf("%s: %v", schema, err)
		}
	}
	if d := time.Since(begin); d > time.Minute {
		t.Error(d)
	}
}

// TestContainerImages are images whatever they look like.
func TestContainerImages(t *testing.T) {
	o, err := Parse(`apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  initContainers: [{name: a, image: "quay.io/demo/web:"}]
  containers: [{name: a, image: "quay.io/Demo/web:1"}, {name: b, image: "quay.io/demo/web:1 "}, {name: c, image: "${IMAGE}"}, {name: d, image: ""}]
  ephemeralContainers: [{name: a, image: "quay.io/demo/web@sha256:12"}]
  icon: {image: "no reference: a picture"}
`)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range Images(o) {
		got = append(got, r.Image)
	}
	if want := "${IMAGE}|quay.io/Demo/web:1|quay.io/demo/web:|quay.io/demo/web:1 |quay.io/demo/web@sha256:12"; strings.Join(got, "|") != want {
		t.Errorf("%q", got)
	}
}
