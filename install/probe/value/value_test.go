package value

import (
	"testing"

	"github.com/airlock-project/airlock/install"
	"github.com/google/go-cmp/cmp"
)

func TestGive(t *testing.T) {
	want := map[string]any{"urls.server": "https://h", "names": []any{"a", "b"}}
	res, err := Probe{}.Run(t.Context(), install.Input{With: map[string]any{"values": want}})
	if err != nil || len(res.Findings) > 0 {
		t.Fatalf("%+v, %v", res, err)
	}
	if d := cmp.Diff(want, res.Outputs); d != "" {
		t.Error(d)
	}
	for _, with := range []map[string]any{{}, {"values": map[string]any{}}, {"value": want}} {
		if _, err := (Probe{}).Run(t.Context(), install.Input{With: with}); err == nil {
			t.Errorf("%v is accepted", with)
		}
	}
}
