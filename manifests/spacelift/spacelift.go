// Package spacelift is the preset for Spacelift Self-Hosted: the definition of a
// bundle for each platform it runs on, the values its charts are rendered with,
// and its checklist. It is data; nothing in the engine depends on it.
//
// Facts come from Spacelift's public documentation, charts and modules and are
// explained in the comments of what is rendered, where the person sees them
// who has to change them.
package spacelift

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"text/template"
)

// Name is what a definition calls the preset: preset:spacelift-self-hosted.
const Name = "spacelift-self-hosted"

//go:embed templates checklist
var content embed.FS

// platform is what the templates ask about the place of installation.
type platform struct {
	Name    string
	Title   string
	Version string // of the release that the template names; the user replaces it

	Kubernetes   bool // charts and the worker controller
	EC2          bool // workers outside Kubernetes need the launcher binary
	CertManager  bool
	IngressNginx bool
	IngressClass string
	values       []string // files under values/
}

// platforms are the platforms in the order of the documentation.
func platforms() []platform {
	return []platform{
		{
			Name: "eks", Title: "Amazon EKS", Kubernetes: true, EC2: true, IngressClass: "spacelift",
			values: []string{"spacelift", "workerpool-controller", "promex"},
		},
		{Name: "ecs", Title: "Amazon ECS", EC2: true},
		{
			Name: "gke", Title: "Google GKE", Kubernetes: true, CertManager: true,
			values: []string{"spacelift", "workerpool-controller", "promex", "cert-manager"},
		},
		{
			Name: "aks", Title: "Azure AKS", Kubernetes: true, CertManager: true, IngressNginx: true, IngressClass: "nginx",
			values: []string{"spacelift", "workerpool-controller", "promex", "cert-manager", "ingress-nginx"},
		},
		{
			Name: "onprem", Title: "your own Kubernetes", Kubernetes: true, CertManager: true, IngressNginx: true, IngressClass: "nginx",
			values: []string{"spacelift", "workerpool-controller", "promex", "cert-manager", "ingress-nginx"},
		},
	}
}

// Platforms returns the platforms the preset knows: eks, ecs, gke, aks, onprem.
func Platforms() []string {
	var names []string
	for _, p := range platforms() {
		names = append(names, p.Name)
	}
	return names
}

// Definition returns a commented airlock.yaml for a platform. It names files
// that Files returns and files that the operator brings.
func Definition(name string) ([]byte, error) {
	p, err := find(name)
	if err != nil {
		return nil, err
	}
	return p.render("airlock.yaml")
}

// Files returns what bundle init writes for a platform, by slash-separated
// path: airlock.yaml and the values its charts are rendered with.
func Files(name string) (map[string][]byte, error) {
	p, err := find(name)
	if err != nil {
		return nil, err
	}
	paths := []string{"airlock.yaml"}
	for _, v := range p.values {
		paths = append(paths, "values/"+v+".yaml")
	}
	files := make(map[string][]byte, len(paths))
	for _, file := range paths {
		if files[file], err = p.render(file); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// Checklist returns the preset's checklist.yaml. It is kept in pieces: head,
// inputs by topic, phases, and one file for each row or few rows, whose names
// put them into the checklist's order.
func Checklist() ([]byte, error) {
	var b bytes.Buffer
	for _, part := range []struct{ key, pattern string }{
		{"", "head.yaml"}, {"inputs:\n", "inputs/*.yaml"}, {"", "phases.yaml"}, {"items:\n", "items/*.yaml"},
	} {
		names, err := fs.Glob(content, "checklist/"+part.pattern)
		if err != nil {
			return nil, fmt.Errorf("read checklist of preset %s: %w", Name, err)
		}
		b.WriteString(part.key)
		for _, name := range names {
			data, err := content.ReadFile(name)
			if err != nil {
				return nil, fmt.Errorf("read checklist of preset %s: %w", Name, err)
			}
			b.Write(data)
		}
	}
	return b.Bytes(), nil
}

func find(name string) (platform, error) {
	all := platforms()
	i := slices.IndexFunc(all, func(p platform) bool { return p.Name == name })
	if i < 0 {
		return platform{}, fmt.Errorf("find platform %q of preset %s: want one of %s", name, Name, strings.Join(Platforms(), ", "))
	}
	all[i].Version = "v3.0.0"
	return all[i], nil
}

func (p platform) render(file string) ([]byte, error) {
	text, err := content.ReadFile("templates/" + file + ".tmpl")
	if err != nil {
		return nil, fmt.Errorf("render %s: %w", file, err)
	}
	// Chart values and messages hold braces of their own, so the templates use
	// other marks.
	t, err := template.New(file).Delims("[[", "]]").Option("missingkey=error").Parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("render %s: %w", file, err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, p); err != nil {
		return nil, fmt.Errorf("render %s: %w", file, err)
	}
	return b.Bytes(), nil
}
