package kube

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	cluster "github.com/airlock-project/airlock/install/internal/kube"
	corev1 "k8s.io/api/core/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// maxValue bounds one value; a Secret holds 1 MiB in all.
const maxValue = 1 << 20

// read takes in what the step gives. Values that are no text are findings.
func (w *keeping) read(site string) error {
	w.data = make(map[string][]byte)
	for _, set := range []map[string]any{w.Data, w.Extra} {
		if err := w.texts(set); err != nil {
			return err
		}
	}
	for _, set := range []struct {
		files  map[string]string
		encode bool
	}{{w.Files, false}, {w.Base64Files, true}} {
		for _, key := range slices.Sorted(maps.Keys(set.files)) {
			if set.files[key] == "" {
				continue // as a value that is not there
			}
			data, err := cluster.File(site, set.files[key], maxValue)
			if err != nil {
				return fmt.Errorf("read %s of %s: %w", key, w.what(), err)
			}
			if set.encode {
				data = []byte(base64.StdEncoding.EncodeToString(data))
			}
			if err := w.add(key, data); err != nil {
				return err
			}
		}
	}
	if err := w.login(); err != nil {
		return err
	}
	return w.takeOver()
}

// texts takes in values that are text, or not there.
func (w *keeping) texts(set map[string]any) error {
	for _, key := range slices.Sorted(maps.Keys(set)) {
		switch v := set[key].(type) {
		case string:
			if err := w.add(key, []byte(v)); err != nil {
				return err
			}
		case nil:
		default:
			w.report(codeNotText, key, typeOf(v), fmt.Sprintf("%s of %s is %s, not text", key, w.what(), typeOf(v)))
		}
	}
	return nil
}

// takeOver adds what the base holds and the step does not give. Errors quote
// nothing of it.
func (w *keeping) takeOver() error {
	if w.Base == "" {
		return nil
	}
	docs := utilyaml.NewYAMLReader(bufio.NewReader(strings.NewReader(w.Base)))
	for n := 1; ; n++ {
		doc, err := docs.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		var s corev1.Secret
		if err == nil {
			err = yaml.UnmarshalStrict(doc, &s)
		}
		if err != nil {
			return fmt.Errorf("base of %s: document %d is not a Secret in YAML", w.what(), n)
		}
		if s.Kind != "Secret" || s.Name != w.Name {
			continue
		}
		for _, key := range slices.Sorted(maps.Keys(s.Data)) {
			if err := w.fill(key, s.Data[key]); err != nil {
				return err
			}
		}
		for _, key := range slices.Sorted(maps.Keys(s.StringData)) {
			if err := w.fill(key, []byte(s.StringData[key])); err != nil {
				return err
			}
		}
	}
}

func (w *keeping) fill(key string, value []byte) error {
	if _, given := w.data[key]; given || slices.Contains(w.Remove, key) {
		return nil
	}
	return w.add(key, value)
}

// login is what a container runtime logs in to a registry with.
func (w *keeping) login() error {
	if w.Registry == "" && w.Username == "" && w.Password == "" {
		return nil
	}
	if w.Registry == "" || w.Username == "" || w.Password == "" {
		return errors.New("a login has registry, username and password")
	}
	host, _, _ := strings.Cut(w.Registry, "/")
	raw, err := json.Marshal(map[string]any{"auths": map[string]any{host: map[string]string{
		"username": w.Username, "password": w.Password, "auth": base64.StdEncoding.EncodeToString([]byte(w.Username + ":" + w.Password)),
	}}})
	if err != nil {
		return fmt.Errorf("make the login of %s: %w", w.what(), err)
	}
	if w.Type == "" {
		w.Type = string(corev1.SecretTypeDockerConfigJson)
	}
	return w.add(corev1.DockerConfigJsonKey, raw)
}

func (w *keeping) add(key string, value []byte) error {
	if key == "" || len(key) > 253 || strings.Trim(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") != "" {
		return fmt.Errorf("key %q is not made of letters, digits, dots, - and _", key)
	}
	if _, twice := w.data[key]; twice {
		return fmt.Errorf("key %s is given twice", key)
	}
	if slices.Contains(w.Remove, key) {
		return fmt.Errorf("key %s is given and is to be removed", key)
	}
	w.data[key] = value
	return nil
}

func typeOf(v any) string {
	switch v.(type) {
	case bool:
		return "a bool"
	case []any:
		return "a list"
	case map[string]any:
		return "a map"
	}
	return "a number"
}

// check finds what is wrong with the whole set.
func (w *keeping) check() {
	for _, key := range slices.Sorted(maps.Keys(w.data)) {
		value := w.data[key]
		if bytes.HasSuffix(value, []byte("\n")) || bytes.HasSuffix(value, []byte("\r")) {
			// PEM ends with one, and whoever reads it expects that.
			if !bytes.HasPrefix(value, []byte("-----BEGIN ")) {
				w.report(codeLineEnd, key, "text", fmt.Sprintf("%s of %s ends with a line end", key, w.what()))
			}
		}
		for _, prefix := range w.Prefixes {
			if strings.HasPrefix(key, prefix) && !slices.Contains(w.Known, key) {
				w.report(codeTypo, key, "text", fmt.Sprintf("%s has the unknown key %s; those with %s are %s", w.what(), key, prefix, like(w.Known, prefix)))
				break
			}
		}
	}
	w.complete()
}

func like(known []string, prefix string) string {
	var out []string
	for _, k := range known {
		if strings.HasPrefix(k, prefix) {
			out = append(out, k)
		}
	}
	if len(out) == 0 {
		return "none"
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// complete wants every required key, in what the step gives or, when it merges,
// in what is there.
func (w *keeping) complete() {
	if w.Merge && w.before == nil {
		w.report(codeMissing, orElse(strings.Join(slices.Sorted(maps.Keys(w.data)), ", "), "every key"), "", "there is no "+w.what()+" to change")
		return
	}
	for _, r := range w.Required {
		for _, key := range r.Keys {
			if len(w.data[key]) > 0 || w.Merge && len(w.before.Data[key]) > 0 && !slices.Contains(w.Remove, key) {
				continue
			}
			w.report(codeMissing, key, orElse(r.Type, "the installation"), fmt.Sprintf("%s lacks %s", w.what(), key))
		}
	}
}

func base64Of(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// report keeps a finding; it names keys and holds no value.
func (w *keeping) report(code, key, kind, detail string) {
	have := slices.Collect(maps.Keys(w.data))
	if w.Merge && w.before != nil {
		have = slices.AppendSeq(have, maps.Keys(w.before.Data))
	}
	slices.Sort(have)
	w.findings = append(w.findings, w.Report(code, detail, map[string]string{
		"namespace": w.Namespace, "secret": w.Name, "key": key, "type": kind, "missing": key,
		"have": orElse(strings.Join(slices.Compact(have), ", "), "nothing"),
	}))
}
