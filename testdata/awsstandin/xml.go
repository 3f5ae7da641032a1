package awsstandin

import (
	"encoding/xml"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
)

// element is one XML element: text, or others.
type element struct {
	name string
	text string
	kids []element
}

func leaf(name string, v any) element             { return element{name: name, text: fmt.Sprint(v)} }
func tree(name string, kids ...element) element   { return element{name: name, kids: kids} }
func item(kids ...element) element                { return tree("item", kids...) }
func member(kids ...element) element              { return tree("member", kids...) }
func listOf(name string, items []element) element { return element{name: name, kids: items} }

func (e element) write(b *strings.Builder) {
	b.WriteString("<" + e.name + ">")
	if err := xml.EscapeText(b, []byte(e.text)); err != nil {
		panic(err) // a Builder never fails
	}
	for _, k := range e.kids {
		k.write(b)
	}
	b.WriteString("</" + e.name + ">")
}

func send(w io.Writer, e element) {
	var b strings.Builder
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?>`)
	e.write(&b)
	// The client has gone if this fails.
	_, _ = io.WriteString(w, b.String())
}

// values reads PREFIX.1, PREFIX.2 … of a form.
func values(form url.Values, prefix string) []string {
	var out []string
	for i := 1; form.Has(prefix + "." + strconv.Itoa(i)); i++ {
		out = append(out, form.Get(prefix+"."+strconv.Itoa(i)))
	}
	return out
}

// filter returns the first value of a filter.
func filter(form url.Values, name string) string {
	for i := 1; form.Has(fmt.Sprintf("Filter.%d.Name", i)); i++ {
		if form.Get(fmt.Sprintf("Filter.%d.Name", i)) == name {
			return form.Get(fmt.Sprintf("Filter.%d.Value.1", i))
		}
	}
	return ""
}
