package install

import (
	"fmt"
	"slices"
	"strings"
	"text/template/parse"

	"github.com/airlock-project/airlock/manifests"
)

// message is a compiled message of a code.
type message struct {
	cause, fix text
	doc        string
}

// text is a template that holds nothing but text and {{.field}}: a checklist
// explains, it does not compute.
type text []textPart

type textPart struct {
	literal string
	field   string
}

func compileMessage(m manifests.Message) (message, error) {
	cause, err := parseText(m.Cause)
	if err != nil {
		return message{}, fmt.Errorf("cause: %w", err)
	}
	fix, err := parseText(m.Fix)
	if err != nil {
		return message{}, fmt.Errorf("fix: %w", err)
	}
	return message{cause: cause, fix: fix, doc: m.Doc}, nil
}

// parseText uses text/template's parser, so that what people know of {{.field}}
// holds, and refuses everything else it would accept.
func parseText(s string) (text, error) {
	trees, err := parse.Parse("message", s, "", "", map[string]any{})
	if err != nil {
		return nil, err
	}
	tree := trees["message"]
	if len(trees) > 1 {
		return nil, fmt.Errorf("template %q: define is not allowed", s)
	}
	var out text
	if tree == nil || tree.Root == nil {
		return out, nil
	}
	for _, n := range tree.Root.Nodes {
		switch t := n.(type) {
		case *parse.TextNode:
			out = append(out, textPart{literal: string(t.Text)})
		case *parse.ActionNode:
			field, ok := onlyField(t)
			if !ok {
				return nil, fmt.Errorf("template %q: only {{.field}} is allowed, not %s", s, t)
			}
			out = append(out, textPart{field: field})
		default:
			return nil, fmt.Errorf("template %q: only {{.field}} is allowed, not %s", s, n)
		}
	}
	return out, nil
}

func onlyField(a *parse.ActionNode) (string, bool) {
	if len(a.Pipe.Decl) != 0 || len(a.Pipe.Cmds) != 1 || len(a.Pipe.Cmds[0].Args) != 1 {
		return "", false
	}
	f, ok := a.Pipe.Cmds[0].Args[0].(*parse.FieldNode)
	if !ok || len(f.Ident) != 1 {
		return "", false
	}
	return f.Ident[0], true
}

// missing lists the fields that t uses and allowed lacks.
func (t text) missing(allowed []string) []string {
	var out []string
	for _, p := range t {
		if p.field != "" && !slices.Contains(allowed, p.field) && !slices.Contains(out, p.field) {
			out = append(out, p.field)
		}
	}
	return out
}

func (t text) render(fields map[string]string) string {
	var b strings.Builder
	for _, p := range t {
		b.WriteString(p.literal)
		if p.field != "" {
			b.WriteString(fields[p.field])
		}
	}
	return b.String()
}
