package blob

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/airlock-project/airlock/install"
	store "github.com/airlock-project/airlock/install/internal/blob"
)

// Bucket is blob.bucket. Its zero value is ready and safe for concurrent use.
type Bucket struct{}

type bucketArguments struct {
	Storage store.Config      `json:"storage"`
	Buckets store.Table       `json:"buckets"`
	Env     map[string]string `json:"env"`   // more of the application's environment
	Codes   map[string]string `json:"codes"` // code: the code to report instead
}

// Codes implements install.Coder.
func (Bucket) Codes() map[string][]string {
	return store.Codes(append([]string{
		store.CodeMissing, store.CodeDenied, store.CodeUnderscore, store.CodeExpires, store.CodeName, store.CodeFailed,
		store.CodeVersioning, store.CodeRetention, store.CodeAnonymous, store.CodeUnread,
	}, store.General...)...)
}

// Run looks at every bucket of the table. Its outputs are storage.buckets (name
// by purpose) and storage.bucket_env (the application's environment).
func (Bucket) Run(ctx context.Context, in install.Input) (install.Result, error) {
	var a bucketArguments
	if err := in.Decode(&a); err != nil {
		return install.Result{}, err
	}
	if err := a.Buckets.Check(); err != nil {
		return install.Result{}, err
	}
	s, findings, err := open(ctx, a.Storage)
	if err != nil {
		return install.Result{}, err
	}
	if s == nil {
		return install.Result{Findings: store.Rename(findings, a.Codes)}, nil
	}
	defer s.Close()
	findings, bad := a.Buckets.BadNames(a.Storage.Type)
	res := install.Result{Findings: findings}
	for _, p := range a.Buckets.Purposes() {
		if bad[p] {
			continue
		}
		v := visit{Service: s, row: a.Buckets[p], purpose: p}
		v.run(ctx)
		if ctx.Err() != nil {
			return res, ctx.Err()
		}
		if res.Findings = append(res.Findings, v.findings...); v.whole {
			break // every other bucket would say the same
		}
	}
	env := a.Buckets.Env()
	for name, value := range a.Env {
		env[name] = value
	}
	res.Outputs = map[string]any{"storage.buckets": a.Buckets.Names(), "storage.bucket_env": env}
	return finish(s, a.Storage, res, a.Codes), nil
}

// visit is one look at one bucket.
type visit struct {
	*store.Service
	row      store.Bucket
	purpose  string
	findings []install.Finding
	whole    bool // what was found is about the service, not about the bucket
}

func (v *visit) run(ctx context.Context) {
	if err := v.Rules.Look(ctx, v.row.Name); !v.took(err, store.OpLook) {
		return
	}
	v.object(ctx)
	if v.whole || ctx.Err() != nil {
		return
	}
	v.versioning(ctx)
	v.expiry(ctx)
}

// took keeps what an error means; true if there was none.
func (v *visit) took(err error, op string) bool {
	if err == nil {
		return true
	}
	f, whole := v.Finding(err, op, v.row.Name, v.purpose, v.row.Env)
	v.findings, v.whole = append(v.findings, f), v.whole || whole
	return false
}

func (v *visit) add(code string, severity install.Severity, detail string, fields map[string]string) {
	fields["bucket"], fields["purpose"] = v.row.Name, v.purpose
	v.findings = append(v.findings, install.Finding{Code: code, Severity: severity, Detail: detail, Fields: fields})
}

// object puts, reads, lists, tags and deletes an object, and uploads in parts.
func (v *visit) object(ctx context.Context) {
	key, data := newKey(), content()
	versions, ok := v.put(ctx, key, data)
	if ok {
		v.read(ctx, key, data)
		if v.row.Tags && v.Tagger != nil && ctx.Err() == nil {
			v.took(v.Tagger.Tag(ctx, v.row.Name, key, map[string]string{"airlock": "probe"}), store.OpTag)
		}
		v.anonymous(ctx, key)
	}
	v.took(remove(ctx, v.Service, v.row.Name, key, versions), store.OpDelete)
	if v.whole || ctx.Err() != nil {
		return
	}
	keys, err := v.Objects.List(ctx, v.row.Name, key, 2)
	if v.took(err, store.OpList) && ok && len(keys) > 0 {
		v.took(&store.Error{Op: store.OpDelete, Bucket: v.row.Name, Text: key + " is still there after it was deleted"}, store.OpDelete)
	}
	if up, can := v.Objects.(store.Uploader); can && ok {
		v.took(up.Parts(ctx, v.row.Name, key, data), store.OpParts)
	}
}

// put stores an object with metadata whose name has an underscore. Where that
// is refused it is tried without: then something on the way dropped or changed
// the header, and the signature did not fit any more. The versions made are
// returned also after a failure, as far as they are known.
func (v *visit) put(ctx context.Context, key string, data []byte) (versions []string, ok bool) {
	object := func(meta map[string]string) store.Object {
		return store.Object{Key: key, Body: bytes.NewReader(data), Size: int64(len(data)), Meta: meta}
	}
	version, err := v.Objects.Put(ctx, v.row.Name, object(map[string]string{metaName: "kept"}))
	if err == nil {
		return []string{version}, true
	}
	// An answer that got lost says nothing of the object: it is deleted.
	versions = []string{""}
	if store.ReasonOf(err) != store.Signature && store.ReasonOf(err) != store.Denied {
		v.took(err, store.OpPut)
		return versions, false
	}
	version, again := v.Objects.Put(ctx, v.row.Name, object(nil))
	if again != nil {
		v.took(err, store.OpPut)
		return nil, false
	}
	v.dropped("a request with it is refused (" + err.Error() + "), without it taken")
	return []string{version}, true
}

func (v *visit) dropped(reason string) {
	v.findings = append(v.findings, install.Finding{
		Code: store.CodeUnderscore, Detail: fmt.Sprintf("metadata %s: %s", metaName, reason),
		Fields: map[string]string{"bucket": v.row.Name, "host": v.Host, "reason": reason},
	})
}

// read compares what the service has with what it was given.
func (v *visit) read(ctx context.Context, key string, data []byte) {
	o, err := v.Objects.Head(ctx, v.row.Name, key)
	if v.took(err, store.OpHead) {
		told := len(v.findings) > 0 && v.findings[len(v.findings)-1].Code == store.CodeUnderscore
		if o.Meta[metaName] != "kept" && !told {
			v.dropped("the object does not have it")
		}
	}
	got, err := v.get(ctx, key)
	if v.took(err, store.OpGet) && !bytes.Equal(got, data) {
		v.took(&store.Error{Op: store.OpGet, Bucket: v.row.Name, Text: fmt.Sprintf("%d bytes came back that are not the %d put", len(got), len(data))}, store.OpGet)
	}
}

func (v *visit) get(ctx context.Context, key string) ([]byte, error) {
	body, err := v.Objects.Get(ctx, v.row.Name, key)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	got, err := io.ReadAll(io.LimitReader(body, probeSize+1))
	if err != nil {
		return nil, &store.Error{Op: store.OpGet, Bucket: v.row.Name, Text: "the content breaks off"}
	}
	return got, nil
}

// anonymous asks for the object, and for the list, without credentials.
func (v *visit) anonymous(ctx context.Context, key string) {
	signed, err := v.Signer.Sign(ctx, http.MethodGet, v.row.Name, key, signedFor)
	if !v.took(err, store.OpSign) {
		return
	}
	object := signed.Bare()
	list := *object
	list.Path, list.RawPath = object.Path[:len(object.Path)-len(key)], ""
	var can []string
	for _, try := range []struct{ what, url string }{
		{"reads an object", object.String()}, {"lists the bucket", list.String() + v.listQuery()},
	} {
		status, err := v.status(ctx, try.url)
		if err != nil {
			return // who signs in is answered; that others are not is no finding
		}
		if status == http.StatusOK {
			can = append(can, try.what)
		}
	}
	if len(can) > 0 {
		what := strings.Join(can, " and ")
		v.add(store.CodeAnonymous, "", "a request without credentials "+what, map[string]string{"host": signed.URL.Host, "reason": what})
	}
}

func (v *visit) listQuery() string {
	if v.Type == store.TypeAzure {
		return "?restype=container&comp=list"
	}
	return ""
}

func (v *visit) status(ctx context.Context, u string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return 0, err
	}
	resp, err := v.Plain.Do(req)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

// versioning compares with the table.
func (v *visit) versioning(ctx context.Context) {
	if v.row.Versioning == "" || v.row.Versioning == store.VersioningNone {
		return
	}
	on, err := v.Rules.Versioning(ctx, v.row.Name)
	if err != nil {
		v.unread("versioning", err)
		return
	}
	if on {
		return
	}
	severity := install.SeverityInfo
	if v.row.Versioning == store.VersioningRequired {
		severity = install.SeverityFail
	}
	v.add(store.CodeVersioning, severity, "versioning is off", map[string]string{"want": v.row.Versioning})
}

// unread says that what should be compared cannot be read. That is no proof of
// anything wrong.
func (v *visit) unread(what string, err error) {
	if store.ReasonOf(err) == store.Denied || store.ReasonOf(err) == store.Unsupported || store.ReasonOf(err) == store.Other {
		v.add(store.CodeUnread, install.SeverityWarn, err.Error(), map[string]string{"what": what, "reason": err.Error()})
		return
	}
	v.took(err, what)
}

// expiry holds the rules that delete objects against the table.
func (v *visit) expiry(ctx context.Context) {
	rules, err := v.Rules.Expiry(ctx, v.row.Name)
	if err != nil {
		v.unread("the rules that delete objects", err)
		return
	}
	for _, r := range rules {
		if r.OldOnly {
			continue
		}
		days, part := strconv.Itoa(r.Days), ""
		if r.Days == 0 {
			days = "0" // on a date
		}
		if r.Part != "" {
			part = ", " + r.Part
		}
		switch {
		case v.row.Keep:
			v.add(store.CodeExpires, "", fmt.Sprintf("rule %q deletes objects after %s days%s", r.ID, days, part),
				map[string]string{"days": days, "rule": r.ID, "reason": "it deletes objects" + part})
		case r.Days < v.row.LeastDays:
			v.add(store.CodeRetention, install.SeverityWarn, fmt.Sprintf("rule %q deletes objects after %s days%s", r.ID, days, part),
				map[string]string{"days": days, "least": strconv.Itoa(v.row.LeastDays), "rule": r.ID})
		}
	}
}
