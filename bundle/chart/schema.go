package chart

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	helmchart "helm.sh/helm/v3/pkg/chart"
)

// SchemaError says that values break a chart's values.schema.json.
type SchemaError struct {
	Chart string // the chart whose schema it is, subcharts by their full path
	Err   error  // what is wrong, one line per finding
}

func (e *SchemaError) Error() string {
	return fmt.Sprintf("values break the schema of chart %q: %s", e.Chart, strings.TrimSpace(e.Err.Error()))
}

// Unwrap returns the findings.
func (e *SchemaError) Unwrap() error { return e.Err }

var errLocalSchema = errors.New("a schema may not read local files")

const schemaURL = "file:///values.schema.json"

// validateValues checks values against the schemas of a chart and of its
// enabled subcharts. Helm's own check is not used because it fetches what a
// schema refers to from the network and from local files.
func validateValues(c *helmchart.Chart, values map[string]any) error {
	if c.Schema != nil {
		if err := validateSchema(c.Schema, values); err != nil {
			return &SchemaError{Chart: c.ChartFullPath(), Err: err}
		}
	}
	for _, sub := range c.Dependencies() {
		v, ok := values[sub.Name()]
		if !ok || v == nil {
			continue
		}
		m, ok := v.(map[string]any)
		if !ok {
			return &SchemaError{Chart: sub.ChartFullPath(), Err: fmt.Errorf("values are %T, not a map", v)}
		}
		if err := validateValues(sub, m); err != nil {
			return err
		}
	}
	return nil
}

func validateSchema(schema []byte, values map[string]any) (err error) {
	// The validator panics on value types outside JSON.
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("check values: %v", r)
		}
	}()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		return fmt.Errorf("parse values.schema.json: %w", err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.UseLoader(jsonschema.SchemeURLLoader{
		"file":  noFiles{},
		"http":  anything{},
		"https": anything{},
		"urn":   anything{},
	})
	if err := compiler.AddResource(schemaURL, doc); err != nil {
		return fmt.Errorf("parse values.schema.json: %w", err)
	}
	compiled, err := compiler.Compile(schemaURL)
	if err != nil {
		return fmt.Errorf("parse values.schema.json: %w", err)
	}
	if values == nil {
		values = map[string]any{}
	}
	if err := compiled.Validate(values); err != nil {
		if e, ok := errors.AsType[*jsonschema.ValidationError](err); ok {
			unvalued(e)
		}
		_, detail, _ := strings.Cut(err.Error(), "\n")
		return fmt.Errorf("%s", strings.TrimSpace(detail))
	}
	return nil
}

// unvalued takes the values out of findings that repeat them: they may be secret.
func unvalued(e *jsonschema.ValidationError) {
	switch k := e.ErrorKind.(type) {
	case *kind.Pattern:
		k.Got = "(a value not shown)"
	case *kind.Format:
		k.Got, k.Err = "(not shown)", errors.New("it has another form")
	}
	for _, cause := range e.Causes {
		unvalued(cause)
	}
}

// anything stands in for a schema that lies elsewhere: it accepts every value,
// because nothing is fetched to check values.
type anything struct{}

func (anything) Load(string) (any, error) { return true, nil }

type noFiles struct{}

func (noFiles) Load(url string) (any, error) { return nil, fmt.Errorf("%s: %w", url, errLocalSchema) }
