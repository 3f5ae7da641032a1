package terraform

import (
	"fmt"
	"path"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/json"
)

// isConfig reports whether a file is read as configuration by Terraform or
// OpenTofu.
func isConfig(name string) bool {
	base := path.Base(name)
	if strings.HasPrefix(base, ".") || strings.HasPrefix(base, "#") || strings.HasSuffix(base, "~") {
		return false
	}
	for _, ext := range []string{".tf", ".tf.json", ".tofu", ".tofu.json"} {
		if strings.HasSuffix(base, ext) {
			return true
		}
	}
	return false
}

// checkSources reads the modules reachable from the root and checks that every
// source they name is packed.
func (t *tree) checkSources() error {
	byDir := map[string][]string{}
	for _, name := range t.names() {
		if isConfig(name) {
			byDir[path.Dir(name)] = append(byDir[path.Dir(name)], name)
		}
	}
	if len(byDir["."]) == 0 {
		return fmt.Errorf("no .tf file in the module's root directory")
	}
	queue, seen := []string{"."}, map[string]bool{".": true}
	for len(queue) > 0 {
		dir := queue[0]
		queue = queue[1:]
		for _, name := range byDir[dir] {
			calls, err := parseCalls(name, t.files[name].data)
			if err != nil {
				return err
			}
			for _, c := range calls {
				next, err := c.resolve(dir)
				if err != nil {
					return err
				}
				if len(byDir[next]) == 0 {
					return &SourceError{c.Position, fmt.Sprintf("module %q has source %q, where no .tf file is", c.name, c.source)}
				}
				if !seen[next] {
					seen[next] = true
					queue = append(queue, next)
				}
			}
		}
	}
	return nil
}

// call is one module block.
type call struct {
	Position
	name   string
	source string
}

// resolve returns the directory that a call names, relative to the package.
// Terraform takes only a source that starts with ./ or ../ for a path ("Module
// Sources", Local Paths).
func (c call) resolve(dir string) (string, error) {
	if !strings.HasPrefix(c.source, "./") && !strings.HasPrefix(c.source, "../") && c.source != "." && c.source != ".." {
		return "", &RemoteError{Position: c.Position, Module: c.name}
	}
	next := path.Join(dir, c.source)
	if next == ".." || strings.HasPrefix(next, "../") {
		return "", &EscapeError{Position: c.Position, Module: c.name, Source: c.source}
	}
	return next, nil
}

// parseCalls returns the module blocks of a configuration file.
func parseCalls(name string, data []byte) ([]call, error) {
	if len(data) > maxConfig {
		return nil, &SourceError{Position{name, 1}, fmt.Sprintf("configuration has more than %d bytes", maxConfig)}
	}
	if err := checkNesting(name, data); err != nil {
		return nil, err
	}
	var f *hcl.File
	var diags hcl.Diagnostics
	if strings.HasSuffix(name, ".json") {
		f, diags = json.Parse(data, name)
	} else {
		f, diags = hclsyntax.ParseConfig(data, name, hcl.InitialPos)
	}
	if diags.HasErrors() {
		return nil, diagnosed(name, diags)
	}
	content, _, diags := f.Body.PartialContent(&hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{{Type: "module", LabelNames: []string{"name"}}}})
	if diags.HasErrors() {
		return nil, diagnosed(name, diags)
	}
	var calls []call
	for _, b := range content.Blocks {
		c, err := parseCall(name, b)
		if err != nil {
			return nil, err
		}
		calls = append(calls, c)
	}
	return calls, nil
}

// parseCall reads the source of a module block, which must be a plain string:
// what a variable would make of it is known only inside the gap.
func parseCall(name string, b *hcl.Block) (call, error) {
	body, _, diags := b.Body.PartialContent(&hcl.BodySchema{Attributes: []hcl.AttributeSchema{{Name: "source"}}})
	if diags.HasErrors() {
		return call{}, diagnosed(name, diags)
	}
	attr, ok := body.Attributes["source"]
	if !ok {
		return call{}, &SourceError{Position{name, b.DefRange.Start.Line}, fmt.Sprintf("module %q has no source", b.Labels[0])}
	}
	var source string
	v, diags := attr.Expr.Value(nil)
	if !diags.HasErrors() && v.IsWhollyKnown() && !v.IsNull() && v.Type().FriendlyName() == "string" {
		source = v.AsString()
	}
	if source == "" {
		return call{}, &SourceError{Position{name, attr.Range.Start.Line}, fmt.Sprintf("module %q has a source that is no plain string", b.Labels[0])}
	}
	return call{Position: Position{name, attr.Range.Start.Line}, name: b.Labels[0], source: source}, nil
}

// diagnosed turns the first error of a parser into one with file and line.
func diagnosed(name string, diags hcl.Diagnostics) error {
	for _, d := range diags {
		if d.Severity == hcl.DiagError {
			line := 1
			if d.Subject != nil {
				line = d.Subject.Start.Line
			}
			return &SourceError{Position{name, line}, strings.TrimSuffix(d.Summary+": "+d.Detail, ".")}
		}
	}
	return nil
}
