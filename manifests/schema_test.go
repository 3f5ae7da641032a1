package manifests

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/invopop/jsonschema"
	validator "github.com/santhosh-tekuri/jsonschema/v6"
)

var update = flag.Bool("update", false, "write the golden files of this package anew")

// documents are the documents with a schema, as values of their types.
func documents() map[string]any {
	return map[string]any{
		KindBundle: new(Definition), KindLock: new(Lock), KindSite: new(Site),
		KindPolicy: new(Policy), KindChecklist: new(Checklist),
	}
}

// TestSchemas keeps the committed schemas equal to what the types say.
func TestSchemas(t *testing.T) {
	for _, kind := range SchemaKinds() {
		want := generateSchema(t, kind, documents()[kind])
		file := filepath.Join("schema", SchemaFile(kind))
		if *update {
			if err := os.WriteFile(file, want, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		got, err := Schema(strings.ToLower(kind))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s differs from the types, run go generate ./manifests (-want +got):\n%s", file, diff)
		}
	}
	if _, err := Schema("nothing"); err == nil {
		t.Error("Schema of an unknown kind succeeded")
	}
}

func generateSchema(t *testing.T, kind string, v any) []byte {
	t.Helper()
	r := &jsonschema.Reflector{Anonymous: true, Mapper: mapSchema}
	if err := r.AddGoComments("github.com/airlock-project/airlock/manifests", "./", jsonschema.WithFullComment()); err != nil {
		t.Fatal(err)
	}
	s := r.Reflect(v)
	s.Title = "Airlock " + kind
	for _, def := range s.Definitions {
		describe(def)
	}
	root := s.Definitions[reflect.TypeOf(v).Elem().Name()]
	for key, value := range map[string]string{"apiVersion": APIVersion, "kind": kind} {
		p, ok := root.Properties.Get(key)
		if !ok {
			t.Fatalf("schema of %s has no %s", kind, key)
		}
		p.Const = value
	}
	if kind == KindSite {
		p, _ := root.Properties.Get("inputs")
		p.AdditionalProperties = inputSchema()
		p.PropertyNames = &jsonschema.Schema{Pattern: inputPattern}
	}
	out, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(out, '\n')
}

// describe adds the rule that the decoder applies to every required string and
// every string of a list: it is not empty.
func describe(def *jsonschema.Schema) {
	if def.Properties == nil {
		return
	}
	one := uint64(1)
	for p := def.Properties.Oldest(); p != nil; p = p.Next() {
		s := p.Value
		s.Description = strings.Join(strings.Fields(s.Description), " ")
		for _, name := range def.Required {
			if name == p.Key && s.Type == "string" && s.Enum == nil {
				s.MinLength = &one
			}
		}
		if s.Type == "array" && s.Items != nil && s.Items.Type == "string" && s.Items.Enum == nil {
			s.Items.MinLength = &one
		}
	}
	def.Description = strings.Join(strings.Fields(def.Description), " ")
}

// inputSchema is anything but nothing: which type an input has, and what a chart's
// values or a list of flows hold, the checklist says.
func inputSchema() *jsonschema.Schema {
	return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{{Type: "string"}, {Type: "number"}, {Type: "boolean"}, {Type: "array"}, {Type: "object"}}}
}

// mapSchema gives the schemas of the types that decode themselves.
func mapSchema(t reflect.Type) *jsonschema.Schema {
	one := uint64(1)
	switch t {
	case reflect.TypeFor[Platforms]():
		return &jsonschema.Schema{OneOf: []*jsonschema.Schema{
			{Const: "all", Description: "whole indexes"},
			{Type: "array", MinItems: &one, Items: &jsonschema.Schema{Type: "string", Pattern: platformPattern}},
		}}
	case reflect.TypeFor[FromPreset]():
		props := jsonschema.NewProperties()
		props.Set("path", &jsonschema.Schema{Type: "string", MinLength: &one, Description: "a file, relative to the document"})
		return &jsonschema.Schema{OneOf: []*jsonschema.Schema{
			{Type: "string", Pattern: `^preset:[a-z0-9][a-z0-9._-]*$`, Description: "a document of a preset"},
			{Type: "object", Properties: props, Required: []string{"path"}, AdditionalProperties: jsonschema.FalseSchema},
		}}
	}
	return nil
}

// validate checks a YAML document with an independent JSON Schema validator.
func validate(t *testing.T, kind string, data []byte) error {
	t.Helper()
	raw, err := Schema(kind)
	if err != nil {
		t.Fatal(err)
	}
	schema, err := validator.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	c := validator.NewCompiler()
	if err := c.AddResource("schema.json", schema); err != nil {
		t.Fatal(err)
	}
	compiled, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	asJSON, err := yaml.YAMLToJSON(data)
	if err != nil {
		t.Fatalf("YAML of %s: %v", kind, err)
	}
	v, err := validator.UnmarshalJSON(bytes.NewReader(asJSON))
	if err != nil {
		t.Fatal(err)
	}
	return compiled.Validate(v)
}

// parseKind calls the parser of a kind.
func parseKind(kind string, data []byte) error {
	var err error
	switch kind {
	case KindBundle:
		_, err = ParseDefinition("doc", data)
	case KindLock:
		_, err = ParseLock("doc", data)
	case KindSite:
		_, err = ParseSite("doc", data)
	case KindPolicy:
		_, err = ParsePolicy("doc", data)
	case KindChecklist:
		_, err = ParseChecklist("doc", data)
	default:
		err = errors.New("no parser for " + kind)
	}
	return err
}

// examples are the documents of testdata that have a schema.
func examples() map[string]string {
	return map[string]string{
		KindBundle: "airlock.yaml", KindLock: "airlock.lock", KindSite: "site.yaml",
		KindPolicy: "policy.yaml", KindChecklist: "checklist.yaml",
	}
}

func TestExamplesFitDecoderAndSchema(t *testing.T) {
	for kind, file := range examples() {
		t.Run(kind, func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join("testdata", file))
			if err != nil {
				t.Fatal(err)
			}
			if err := parseKind(kind, data); err != nil {
				t.Errorf("decoder: %v", err)
			}
			if err := validate(t, kind, data); err != nil {
				t.Errorf("schema: %v", err)
			}
		})
	}
}

// TestSchemaAgreesWithDecoder changes one thing in each good example; decoder
// and schema must both refuse it.
func TestSchemaAgreesWithDecoder(t *testing.T) {
	for _, tt := range []struct{ name, kind, old, new string }{
		{"unknown key", KindBundle, "product:", "prodcut: x\nproduct:"},
		{"nested unknown key", KindBundle, "{path: docs/, name: docs}", "{path: docs/, name: docs, mode: 1}"},
		{"wrong kind", KindBundle, "kind: Bundle", "kind: Policy"},
		{"wrong version", KindBundle, "airlock/v1", "airlock/v2"},
		{"number for string", KindBundle, "version: v3.0.0", "version: 3.0"},
		{"string for number", KindBundle, "release: 12", "release: twelve"},
		{"fraction for number", KindBundle, "release: 12", "release: 1.5"},
		{"release too small", KindBundle, "release: 12", "release: 0"},
		{"missing key", KindBundle, "product: spacelift-self-hosted\n", ""},
		{"bad name", KindBundle, "name: vendor", "name: Vendor"},
		{"null", KindBundle, "product: spacelift-self-hosted", "product: null"},
		{"platforms word", KindBundle, "platforms: all", "platforms: some"},
		{"platforms shape", KindBundle, "platforms: [linux/amd64]", "platforms: [linux]"},
		{"platforms empty", KindBundle, "platforms: [linux/amd64]", "platforms: []"},
		{"all inside a list", KindBundle, "platforms: [linux/amd64]", "platforms: [all]"},
		{"preset without prefix", KindBundle, "checklist: preset:spacelift-self-hosted", "checklist: spacelift-self-hosted"},
		{"preset empty", KindBundle, "checklist: preset:spacelift-self-hosted", "checklist: {}"},
		{"preset unknown key", KindBundle, "checklist: preset:spacelift-self-hosted", "checklist: {file: x}"},
		{"ref and path", KindBundle, "{path: exported/tool.tar, as: \"tool:1.2\"}", "{ref: x, path: t.tar, as: \"tool:1.2\"}"},
		{"neither ref nor path", KindBundle, "{path: exported/tool.tar, as: \"tool:1.2\"}", "{platforms: all}"},
		{"path without as", KindBundle, "{path: exported/tool.tar, as: \"tool:1.2\"}", "{path: exported/tool.tar}"},
		{"short fingerprint", KindBundle, "380BD7699053035B71D027B173EBA0CF3B3F4A46", "3B3F4A46"},
		{"bad date", KindBundle, "2027-06-30", "30.6.2027"},
		{"empty list item", KindBundle, "[values/spacelift.yaml]", "[\"\"]"},
		{"list for mapping", KindBundle, "providers: {platforms: [linux_amd64]}", "providers: [linux_amd64]"},
		{"digest", KindLock, "definition: sha256:0", "definition: sha512:0"},
		{"negative size", KindLock, "size: 1024", "size: -1"},
		{"huge size", KindLock, "size: 1024", "size: 99999999999999"},
		{"site platform", KindSite, "platform: onprem", "platform: premises"},
		{"input without a value", KindSite, "tls.mode: byo", "tls.mode: null"},
		{"input name", KindSite, "tls.mode: byo", "TLS: byo"},
		{"bool for string", KindSite, "context: site-a", "context: true"},
		{"signer key and keyless", KindPolicy, "key: file:vendor.pub", "key: file:vendor.pub, keyless: {issuer: \"https://x\", subject: y}"},
		{"no signer", KindPolicy, "role: vendor,   atLeast: 1", "role: vendor,   atLeast: 0"},
		{"signatures", KindPolicy, "verify-if-present", "maybe"},
		{"item kind", KindChecklist, "kind: check", "kind: chek"},
		{"item id", KindChecklist, "id: configure-networking", "id: configure_networking"},
		{"severity", KindChecklist, "severity: fail", "severity: fatal"},
		{"message without fix", KindChecklist, "MQTT-01: {cause: \"cannot reach {{.endpoint}}: {{.reason}}\", fix:", "MQTT-01: {cause: x, doc:"},
		{"duration", KindChecklist, "freshness: 24h", "freshness: 1 day"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			good, err := os.ReadFile(filepath.Join("testdata", examples()[tt.kind]))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Contains(good, []byte(tt.old)) {
				t.Fatalf("example has no %q", tt.old)
			}
			bad := bytes.Replace(good, []byte(tt.old), []byte(tt.new), 1)
			if err := parseKind(tt.kind, bad); err == nil {
				t.Error("decoder accepts it")
			} else if _, ok := errors.AsType[Findings](err); !ok {
				t.Errorf("decoder's error is %T, want Findings", err)
			}
			if err := validate(t, tt.kind, bad); err == nil {
				t.Error("schema accepts it")
			}
		})
	}
}
