package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/install"
	cluster "github.com/airlock-project/airlock/install/internal/kube"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Codes of k8s.secret.
const (
	codeMissing = "SEC-01"
	codeLineEnd = "SEC-02"
	codeNotText = "SEC-03"
	codeTypo    = "SEC-05"
)

// Secret is the action k8s.secret: a Secret with exactly what a step gives, or
// with some keys of it changed. No value of it reaches a plan, a finding, an
// error or an output. Its zero value is ready and safe for concurrent use.
//
// What merge sets belongs to a field manager of its own: a later step that gives
// the whole set leaves those keys as they are.
type Secret struct{}

type secretArguments struct {
	cluster.Access
	Namespace   string            `json:"namespace"`
	Name        string            `json:"name"`
	Type        string            `json:"type"` // default Opaque
	Labels      map[string]string `json:"labels"`
	Data        map[string]any    `json:"data"`         // key: text
	Extra       map[string]any    `json:"extra"`        // the same, for keys that data does not give
	Files       map[string]string `json:"files"`        // key: path, its content as it is
	Base64Files map[string]string `json:"base64_files"` // key: path, its content in base64 on one line

	// Base are YAML documents of Secrets: what the one of this name holds and the
	// step does not give is taken over, as Terraform's modules print it.
	Base string `json:"base"`

	Registry string `json:"registry"` // host, or host/prefix: a login of the cluster there
	Username string `json:"username"`
	Password string `json:"password"`

	Required []required `json:"required"` // keys that have to be there with something in them
	Known    []string   `json:"known"`    // keys that exist
	Prefixes []string   `json:"prefixes"` // what begins with one of these has to be known

	Merge  bool     `json:"merge"`  // change these keys and keep the others
	Remove []string `json:"remove"` // keys that must not be there
	Force  bool     `json:"force"`  // take keys over from other managers
}

// required are keys, and what needs them.
type required struct {
	Keys []string `json:"keys"`
	Type string   `json:"type"`
}

// UnmarshalJSON takes a key alone too.
func (r *required) UnmarshalJSON(data []byte) error {
	var key string
	if json.Unmarshal(data, &key) == nil {
		r.Keys = []string{key}
		return nil
	}
	type plain required
	d := json.NewDecoder(strings.NewReader(string(data)))
	d.DisallowUnknownFields()
	if err := d.Decode((*plain)(r)); err != nil {
		return errors.New("required are keys, or {keys, type}")
	}
	return nil
}

// Codes implements install.Coder.
func (Secret) Codes() map[string][]string {
	fields := []string{"namespace", "secret", "key", "type", "have", "missing", "reason"}
	return cluster.General(map[string][]string{codeMissing: fields, codeLineEnd: fields, codeNotText: fields, codeTypo: fields})
}

// keeping is one run.
type keeping struct {
	secretArguments
	*cluster.Client
	data     map[string][]byte // what the step gives
	findings []install.Finding
	before   *corev1.Secret // nil if there is none
}

// begin reads and checks everything; nothing is changed while there is a
// finding.
func beginSecret(ctx context.Context, in install.Input) (*keeping, error) {
	w := &keeping{}
	if err := in.Decode(&w.secretArguments); err != nil {
		return w, err
	}
	if w.Namespace == "" || w.Name == "" {
		return w, errors.New("want namespace and name of a secret")
	}
	if err := w.read(in.Site); err != nil {
		return w, err
	}
	var err error
	if w.Client, err = w.Open(ctx); err != nil {
		return w, err
	}
	w.before, err = w.Clientset().CoreV1().Secrets(w.Namespace).Get(ctx, w.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		w.before, err = nil, nil
	}
	if err != nil {
		return w, fmt.Errorf("read %s: %w", w.what(), w.Explain(err))
	}
	w.check()
	return w, nil
}

func (w *keeping) what() string { return "secret " + w.Namespace + "/" + w.Name }

// Plan names the keys that would change.
func (Secret) Plan(ctx context.Context, in install.Input) (install.Change, error) {
	w, err := beginSecret(ctx, in)
	if err != nil {
		return install.Change{}, err
	}
	if len(w.findings) > 0 {
		c := install.Change{Summary: w.what() + " cannot be made so"}
		for _, f := range w.findings {
			c.Details = append(c.Details, f.Detail)
		}
		return c, nil
	}
	out, err := w.place(ctx, true)
	if e, ok := errors.AsType[*cluster.ConflictError](err); ok {
		return install.Change{Summary: "change " + w.what(), Details: []string{e.Error() + "; it will be refused"}}, nil
	}
	if e, ok := errors.AsType[*cluster.TerminatingError](err); ok && e.Missing {
		return install.Change{Summary: "create " + w.what() + ", once its namespace is there"}, nil
	}
	if err != nil {
		return install.Change{}, err
	}
	switch out.Change {
	case cluster.Created:
		return install.Change{Summary: "create " + w.what(), Details: keysOf(w.data)}, nil
	case cluster.Changed:
		return install.Change{Summary: "change " + w.what(), Details: out.Fields}, nil
	}
	return install.Change{Summary: w.what() + " is as it should be", Nothing: true}, nil
}

// Apply makes it so. Its output is secret.NAME.hash, where what is no letter or
// digit of NAME is _.
func (Secret) Apply(ctx context.Context, in install.Input) (install.Result, error) {
	w, err := beginSecret(ctx, in)
	if err != nil {
		return w.failed(err)
	}
	if len(w.findings) > 0 {
		return install.Result{Findings: w.findings}, nil
	}
	object := install.Object{APIVersion: "v1", Kind: "Secret", Namespace: w.Namespace, Name: w.Name}
	if err := in.Keeps(object); err != nil {
		return install.Result{}, err
	}
	out, err := w.place(ctx, false)
	if err != nil {
		return w.failed(err)
	}
	now, err := typed(out.Object)
	if err != nil {
		return install.Result{}, fmt.Errorf("read %s: %w", w.what(), err)
	}
	hash := cluster.ContentHash(now)
	if now.Annotations[cluster.AnnotationContent] != hash {
		// It was made just now: the hash is of this object and no other, and its
		// UID was not known before.
		w.before = now
		if _, err := w.place(ctx, false); err != nil {
			return w.failed(err)
		}
	}
	res := install.Result{Changed: out.Change != cluster.Unchanged, Outputs: map[string]any{OutputOf(w.Name): hash}}
	return res, keep(&res, []install.Object{object})
}

func (w *keeping) failed(err error) (install.Result, error) {
	return w.Failed(err, map[string]string{"namespace": w.Namespace})
}

// OutputOf is the name of the output that holds the hash of a Secret.
func OutputOf(name string) string {
	return "secret." + strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, name) + ".hash"
}

func typed(o *unstructured.Unstructured) (*corev1.Secret, error) {
	raw, err := o.MarshalJSON()
	if err != nil {
		return nil, err
	}
	s := &corev1.Secret{}
	if err := json.Unmarshal(raw, s); err != nil {
		return nil, errors.New("the server's answer is no Secret")
	}
	return s, nil
}

func keysOf(data map[string][]byte) []string {
	var out []string
	for k := range data {
		out = append(out, "data."+k)
	}
	slices.Sort(out)
	return out
}
