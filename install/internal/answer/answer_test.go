package answer

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestJudge(t *testing.T) {
	d := json.NewDecoder(strings.NewReader(`{"a":{"b":[{"c":1,"d":"x"},{"c":2,"d":"y","l":["p","q"]}],"s":"some text","n":3,"t":true,"z":null,"e":[]}}`))
	d.UseNumber()
	var doc any
	if err := d.Decode(&doc); err != nil {
		t.Fatal(err)
	}
	one, two := 1.0, 2.0
	for name, c := range map[string]struct {
		check Check
		ok    bool
		got   string
	}{
		"there":           {Check{Path: "a.s"}, true, "some text"},
		"index":           {Check{Path: "a.b.1.d", Equals: "y"}, true, "y"},
		"index outside":   {Check{Path: "a.b.2.d"}, false, "nothing"},
		"null":            {Check{Path: "a.z"}, false, "nothing"},
		"through a text":  {Check{Path: "a.s.x"}, false, "nothing"},
		"number":          {Check{Path: "a.n", Equals: int64(3)}, true, "3"},
		"other number":    {Check{Path: "a.n", Equals: int64(4)}, false, "3"},
		"bool":            {Check{Path: "a.t", Equals: true}, true, "true"},
		"in":              {Check{Path: "a.s", In: []any{"x", "some text"}}, true, "some text"},
		"not in":          {Check{Path: "a.s", In: []any{"x"}}, false, "some text"},
		"part":            {Check{Path: "a.s", Has: "text"}, true, "some text"},
		"element":         {Check{Path: "a.b.1.l", Has: "q"}, true, "p, q"},
		"no element":      {Check{Path: "a.b.1.l", Has: "r"}, false, "p, q"},
		"count":           {Check{Path: "a.b", Min: &two, Max: &two}, true, "2"},
		"too many":        {Check{Path: "a.b", Max: &one}, false, "2"},
		"none":            {Check{Path: "a.e", Min: &one}, false, "0"},
		"where":           {Check{Path: "a.b", Where: map[string]any{"d": "x"}, Min: &one, Max: &one}, true, "1"},
		"where any":       {Check{Path: "a.b", Where: map[string]any{"d": []any{"x", "y"}}, Min: &two}, true, "2"},
		"where in a list": {Check{Path: "a.b", Where: map[string]any{"l": "p"}, Max: &one}, true, "1"},
		"where nothing":   {Check{Path: "a.b", Where: map[string]any{"f": "p"}, Min: &one}, false, "0"},
		"text with min":   {Check{Path: "a.s", Min: &one}, false, "some text"},
		"an object":       {Check{Path: "a", Equals: "x"}, false, "an object"},
	} {
		got, want, ok := c.check.Judge(doc)
		if ok != c.ok || got != c.got || want == "" {
			t.Errorf("%s: %v, got %q, want %q", name, ok, got, want)
		}
	}
}

func TestBounded(t *testing.T) {
	got, _, _ := Check{Equals: "x"}.Judge(strings.Repeat("a", 5000) + "\x1b[2J\n")
	if len(got) > 300 || strings.ContainsAny(got, "\x1b\n") {
		t.Errorf("%d bytes: %q", len(got), got)
	}
}
