package install

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/install/internal/expr"
)

// maxHashed bounds a file that an input names and whose content counts. A
// larger one counts by name, size and time.
const maxHashed = 64 << 20

// inputHash says what an item's result rests on: its definition, the inputs it
// uses (of a secret the HMAC, of a path also the content), the outputs it uses,
// those of what it needs, what its kinds rest on besides, and the bundle.
func (r *run) inputHash(n *node, secrets map[string]any) (string, error) {
	in, out := make(map[string]any), make(map[string]any)
	for _, ref := range n.refs {
		root, name, _ := strings.Cut(ref, ".")
		if root == "out" {
			if r.plan.producer[name] == n {
				continue
			}
			v, err := r.outputDigest(name)
			if err != nil {
				return "", err
			}
			out[name] = v
			continue
		}
		in[name] = r.inputFact(name, secrets)
	}
	for _, d := range n.basis() {
		for name := range d.item.Outputs {
			v, err := r.outputDigest(name)
			if err != nil {
				return "", err
			}
			out[name] = v
		}
	}
	raw, err := canonical(map[string]any{
		"version": 2, "item": n.item, "in": in, "out": out, "grounds": r.grounds(n), "bundle": r.bundle.Info().Digest.String(),
	})
	if err != nil {
		return "", fmt.Errorf("hash inputs of %s: %w", n.item.ID, err)
	}
	return sumOf(raw), nil
}

// grounds asks the kinds of an item's steps what else they rest on.
func (r *run) grounds(n *node) map[string]any {
	out := make(map[string]any)
	for _, s := range slices.Concat(n.steps, n.probes) {
		var kind any = s.probe
		if s.action != nil {
			kind = s.action
		}
		if g, ok := kind.(Grounder); ok {
			out[s.name] = g.Grounds(r.input(s.def.With))
		}
	}
	return out
}

// inputFact is what of an input goes into a hash; nil if it is not set.
func (r *run) inputFact(name string, secrets map[string]any) any {
	if ref, ok := r.answers.refs[name]; ok {
		if s, ok := secrets[name].(string); ok {
			return map[string]any{"hmac": r.st.seal([]byte(s))}
		}
		return map[string]any{"reference": ref} // it is only asked whether it is set
	}
	v, ok := r.answers.plain[name]
	if !ok {
		return nil
	}
	if s, isText := v.(string); isText && r.checklist.Inputs[name].Type == typePath {
		return map[string]any{"path": s, "content": contentOf(s)}
	}
	return v
}

// contentOf describes what a path holds now. That it cannot be read is a
// description too: the step that needs it says so.
func contentOf(path string) string {
	fi, err := os.Stat(path)
	switch {
	case err != nil:
		return "unreadable"
	case !fi.Mode().IsRegular():
		return fi.Mode().Type().String()
	case fi.Size() > maxHashed:
		return fmt.Sprintf("%d %d", fi.Size(), fi.ModTime().UnixNano())
	}
	f, err := os.Open(path)
	if err != nil {
		return "unreadable"
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, io.LimitReader(f, maxHashed)); err != nil {
		return "unreadable"
	}
	return hex.EncodeToString(h.Sum(nil))
}

// outputDigest is what of an output goes into a hash; nil if it is not set. Of a
// secret it is what run.json keeps, so that the hash can be told without it.
func (r *run) outputDigest(name string) (any, error) {
	if from := r.rec[r.plan.producer[name].item.ID]; from != nil && from.State.settled() && from.Outputs[name].HMAC != "" {
		return from.Outputs[name].HMAC, nil
	}
	v, ok := r.outputs[name]
	if !ok {
		return nil, nil
	}
	raw, err := canonical(map[string]any{"value": v})
	if err != nil {
		return nil, fmt.Errorf("hash output %s: %w", name, err)
	}
	return r.st.seal(raw), nil
}

// decodeOutput reads an output back in the types expressions use.
func decodeOutput(raw []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("decode output: %w", err)
	}
	return expr.Normalize(v)
}
