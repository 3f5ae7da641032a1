// Package minio is the action minio.credentials: an access key of MinIO that
// reaches some buckets and nothing else, made with the administrator's key.
package minio

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"

	"github.com/airlock-project/airlock/install"
	store "github.com/airlock-project/airlock/install/internal/blob"
)

// Codes, beside those of package blob.
const (
	codeAdmin  = "MIN-01"
	codeNoFile = "MIN-02"
	codeProof  = "MIN-03"
)

// Action is minio.credentials. Its zero value is ready and safe for concurrent
// use with different names.
//
// It makes a user, not a service account: one of an administrator who is
// removed would go with them.
type Action struct{}

type arguments struct {
	Endpoint       string            `json:"endpoint"` // host:port
	UseSSL         bool              `json:"use_ssl"`
	AllowInsecure  bool              `json:"allow_insecure"`
	CA             string            `json:"ca"`
	Region         string            `json:"region"` // of the site; "" is MinIO's default
	AdminAccessKey string            `json:"admin_access_key"`
	AdminSecretKey string            `json:"admin_secret_key"`
	Name           string            `json:"name"` // of the user, which is its access key, and of its policy
	Buckets        []string          `json:"buckets"`
	Codes          map[string]string `json:"codes"` // code: the code to report instead
}

// Codes implements install.Coder.
func (Action) Codes() map[string][]string {
	out := store.Codes(append([]string{store.CodeName}, store.General...)...)
	out[codeAdmin] = []string{"host", "op", "reason"}
	out[codeNoFile] = []string{"host", "user", "file", "reason"}
	out[codeProof] = []string{"host", "user", "bucket", "reason"}
	return out
}

var userName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{2,62}$`)

func (a arguments) config() store.Config {
	return store.Config{
		Type: store.TypeMinio, Endpoint: a.Endpoint, UseSSL: a.UseSSL, AllowInsecure: a.AllowInsecure, CA: a.CA, Region: a.Region,
		AdminAccessKey: a.AdminAccessKey, AdminSecretKey: a.AdminSecretKey,
	}
}

// work is one run.
type work struct {
	arguments
	admin *store.Admin
	keys  keyFile
}

func open(in install.Input) (*work, []install.Finding, error) {
	w := &work{}
	if err := in.Decode(&w.arguments); err != nil {
		return nil, nil, err
	}
	if !userName.MatchString(w.Name) {
		return nil, nil, fmt.Errorf("name %q is not 3 to 63 lower-case letters, digits and hyphens", w.Name)
	}
	if len(w.Buckets) == 0 {
		return nil, nil, errors.New("want buckets: a key for none is of no use")
	}
	var findings []install.Finding
	for _, b := range w.Buckets {
		if err := store.CheckName(store.TypeMinio, b); err != nil {
			findings = append(findings, install.Finding{
				Code: store.CodeName, Detail: fmt.Sprintf("bucket %q: %s", b, err),
				Fields: map[string]string{"bucket": b, "purpose": w.Name, "env": "the bucket", "reason": err.Error()},
			})
		}
	}
	if len(findings) > 0 {
		return w, findings, nil
	}
	w.keys = keyFile{dir: in.Secrets, name: "minio-" + w.Name + ".key"}
	var err error
	if w.admin, err = store.OpenAdmin(w.config()); err != nil {
		f, err := store.OpenFinding(err)
		return w, []install.Finding{f}, err
	}
	return w, nil, nil
}

// Plan says whether a key would be made.
func (Action) Plan(ctx context.Context, in install.Input) (install.Change, error) {
	w, findings, err := open(in)
	if err != nil {
		return install.Change{}, err
	}
	if len(findings) > 0 {
		return install.Change{}, errors.New(findings[0].Detail)
	}
	defer w.admin.Close()
	s, err := w.look(ctx)
	if err != nil {
		return install.Change{}, err
	}
	c := install.Change{Nothing: s.secret != "" && s.user && s.policy && s.attached, Summary: fmt.Sprintf("user %s of %s is as wanted", w.Name, w.admin.Host)}
	if !c.Nothing {
		c.Summary = fmt.Sprintf("make user %s of %s with a policy for %d buckets", w.Name, w.admin.Host, len(w.Buckets))
		c.Details = w.Buckets
	}
	return c, nil
}

// Apply makes the key, and proves that it reaches the buckets and no other. Its
// outputs are minio.access_key_id and minio.secret_key_file, a path.
func (Action) Apply(ctx context.Context, in install.Input) (install.Result, error) {
	w, findings, err := open(in)
	if err != nil {
		return install.Result{}, err
	}
	if len(findings) > 0 {
		return install.Result{Findings: store.Rename(findings, w.Codes)}, nil
	}
	defer w.admin.Close()
	res, err := w.apply(ctx)
	if ctx.Err() != nil {
		return res, ctx.Err()
	}
	if f := w.admin.RiskFinding(w.config()); f != nil {
		res.Findings = append(res.Findings, *f)
	}
	res.Findings = store.Rename(res.Findings, w.Codes)
	return res, err
}

// state is what is there already.
type state struct {
	secret                 string // "" if the file does not exist
	user, policy, attached bool
}

func (w *work) look(ctx context.Context) (s state, err error) {
	if s.secret, err = w.keys.read(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	u, err := w.admin.User(ctx, w.Name)
	if err != nil && store.ReasonOf(err) != store.Missing {
		return s, err
	}
	s.user, s.attached = err == nil, u.Policy == w.Name
	have, err := w.admin.Policy(ctx, w.Name)
	if err != nil && store.ReasonOf(err) != store.Missing {
		return s, err
	}
	s.policy = err == nil && samePolicy(have, policyFor(w.Buckets))
	return s, nil
}

func (w *work) apply(ctx context.Context) (install.Result, error) {
	var res install.Result
	s, err := w.look(ctx)
	if err != nil {
		return w.explain(err)
	}
	if s.secret == "" && s.user {
		reason := "there is no file with it"
		res.Findings = []install.Finding{{
			Code: codeNoFile, Detail: fmt.Sprintf("user %s exists, %s does not", w.Name, w.keys.path()),
			Fields: map[string]string{"host": w.admin.Host, "user": w.Name, "file": w.keys.path(), "reason": reason},
		}}
		return res, nil
	}
	if s.secret == "" {
		// Written before the user is made: a run that dies in between goes on
		// with the same secret.
		s.secret = newSecret()
		if err := w.keys.create(s.secret); err != nil {
			return res, err
		}
	}
	for _, step := range []struct {
		done bool
		do   func() error
	}{
		{s.policy, func() error { return w.admin.SetPolicy(ctx, w.Name, encodePolicy(policyFor(w.Buckets))) }},
		{s.user, func() error { return w.admin.AddUser(ctx, w.Name, s.secret) }},
		{s.attached, func() error { return w.admin.Attach(ctx, w.Name, w.Name) }},
	} {
		if step.done {
			continue
		}
		if err := step.do(); err != nil {
			return w.explain(err)
		}
		res.Changed = true
	}
	res.Outputs = map[string]any{"minio.access_key_id": w.Name, "minio.secret_key_file": w.keys.path()}
	f, err := w.prove(ctx, s.secret)
	if f != nil {
		res.Findings = append(res.Findings, *f)
	}
	return res, err
}

// explain turns what MinIO or the way to it said into a finding.
func (w *work) explain(err error) (install.Result, error) {
	e, ok := errors.AsType[*store.Error](err)
	if !ok {
		return install.Result{}, err
	}
	switch e.Reason {
	case store.Trust, store.Unreachable, store.Skew:
		f, _ := w.admin.Finding(err, e.Op, "", "", "")
		return install.Result{Findings: []install.Finding{f}}, nil
	}
	return install.Result{Findings: []install.Finding{{
		Code: codeAdmin, Detail: err.Error(), Fields: map[string]string{"host": w.admin.Host, "op": e.Op, "reason": e.Text},
	}}}, nil
}

// prove uses the new key: its buckets are there or missing, another is refused.
func (w *work) prove(ctx context.Context, secret string) (*install.Finding, error) {
	conf := w.config()
	conf.AccessKey, conf.SecretKey = w.Name, secret
	s, err := store.Open(ctx, conf)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	bad := func(bucket, reason string) *install.Finding {
		return &install.Finding{
			Code: codeProof, Detail: "with the key of " + w.Name + ": " + reason,
			Fields: map[string]string{"host": s.Host, "user": w.Name, "bucket": bucket, "reason": reason},
		}
	}
	for _, b := range w.Buckets {
		if err := s.Rules.Look(ctx, b); err != nil && store.ReasonOf(err) != store.Missing {
			return bad(b, err.Error()), nil
		}
	}
	var x [8]byte
	_, _ = rand.Read(x[:]) // never fails
	other := "airlock-probe-" + hex.EncodeToString(x[:])
	if err := s.Rules.Look(ctx, other); store.ReasonOf(err) != store.Denied {
		return bad(other, "it is not kept from a bucket that is not its own"), nil
	}
	return nil, nil
}

// newSecret is 40 letters, digits and signs, 240 bits.
func newSecret() string {
	var b [30]byte
	_, _ = rand.Read(b[:]) // never fails
	return strings.NewReplacer("+", "A", "/", "b").Replace(base64.StdEncoding.EncodeToString(b[:]))
}
