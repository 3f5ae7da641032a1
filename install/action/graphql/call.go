package graphql

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/answer"
	"github.com/airlock-project/airlock/install/internal/gql"
	"github.com/airlock-project/airlock/install/internal/place"
)

// maxKept bounds a secret that a server hands out.
const maxKept = 1 << 20

// Call is the action graphql.call. Now is the clock; nil means time.Now.
type Call struct {
	Now func() time.Time
}

// callArgs are the step's with.
type callArgs struct {
	gql.Config
	document                   // what makes it; without a query it has to be there already
	What     string            `json:"what"` // what is made, for people
	Find     *find             `json:"find"` // nil: the call is idempotent by itself and made each time
	Outputs  map[string]string `json:"outputs"`
	Keep     map[string]kept   `json:"keep"` // output: a secret of the answer, into a file
}

// find says how to see that it is there already.
type find struct {
	document
	Path    string            `json:"path"`  // a list, or one object
	Where   map[string]any    `json:"where"` // of its elements
	Newer   *newer            `json:"newer"`
	Outputs map[string]string `json:"outputs"` // relative to the element
}

// newer takes only elements whose field, Unix seconds, is younger than a time.
type newer struct {
	Field string `json:"field"`
	Than  string `json:"than"`
}

// kept is a secret that the server gives only once.
type kept struct {
	Path string `json:"path"`
	File string `json:"file"` // in the directory of secrets
}

// Codes implements install.Coder.
func (Call) Codes() map[string][]string {
	return gql.AllCodes(map[string][]string{codeWant: {"url", "path", "want", "got"}, codeLost: {"url", "what", "file", "reason"}})
}

// Plan looks whether it is there already.
func (k Call) Plan(ctx context.Context, in install.Input) (install.Change, error) {
	a, c, err := k.prepare(in)
	if err != nil {
		return install.Change{}, err
	}
	defer c.HTTP.CloseIdleConnections()
	if a.Find == nil {
		return install.Change{Summary: "ask " + c.URL + " for " + a.What, Unseen: true}, nil
	}
	found, err := k.look(ctx, c, a)
	if err != nil {
		return install.Change{}, err
	}
	if found == nil {
		return install.Change{Summary: "make " + a.What + " at " + c.URL}, nil
	}
	if f := a.missing(c, in.Secrets); f != nil {
		return install.Change{}, errors.New(f.Detail)
	}
	return install.Change{Summary: a.What + " is at " + c.URL, Nothing: true}, nil
}

// Apply makes it unless it is there, and proves that it is.
func (k Call) Apply(ctx context.Context, in install.Input) (install.Result, error) {
	a, c, err := k.prepare(in)
	if err != nil {
		return install.Result{}, err
	}
	defer c.HTTP.CloseIdleConnections()
	if a.Find != nil {
		found, err := k.look(ctx, c, a)
		if err != nil {
			return explain(c, err)
		}
		if found != nil {
			return a.there(c, in.Secrets, found)
		}
	}
	if f := a.taken(c, in.Secrets); f != nil {
		return install.Result{Findings: []install.Finding{*f}}, nil
	}
	if a.Find != nil && a.Query == "" {
		return install.Result{Findings: []install.Finding{a.absent(c, "is not there")}}, nil
	}
	res, err := a.make(ctx, c, in.Secrets)
	if err != nil {
		r, err := explain(c, err)
		r.Changed = res.Changed
		return r, err
	}
	if a.Find == nil {
		return res, nil
	}
	found, err := k.look(ctx, c, a)
	if err == nil && found == nil {
		res.Findings = append(res.Findings, a.absent(c, "was made and is not there"))
	}
	if err != nil {
		r, err := explain(c, err)
		r.Changed = true
		return r, err
	}
	return res, nil
}

// absent reports that find finds nothing.
func (a *callArgs) absent(c *gql.Client, how string) install.Finding {
	return install.Finding{
		Code: own(c, codeWant), Detail: fmt.Sprintf("%s %s: %s has no such element", a.What, how, a.Find.Path),
		Fields: map[string]string{"url": c.URL, "path": a.Find.Path, "want": a.What, "got": "nothing"},
	}
}

func (Call) prepare(in install.Input) (*callArgs, *gql.Client, error) {
	a := &callArgs{What: "what is asked for"}
	if err := in.Decode(a); err != nil {
		return nil, nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(a.Keep)) {
		if err := place.Path(a.Keep[name].File); err != nil {
			return nil, nil, fmt.Errorf("keep.%s: %w", name, err)
		}
	}
	c, err := gql.New(a.Config)
	return a, c, err
}

// look returns the first element that find describes, nil if there is none.
func (k Call) look(ctx context.Context, c *gql.Client, a *callArgs) (any, error) {
	data, err := c.Do(ctx, a.Find.Query, a.Find.Variables)
	if err != nil {
		return nil, err
	}
	v, ok := answer.At(data, a.Find.Path)
	if !ok {
		return nil, nil
	}
	for _, e := range answer.Filter(v, a.Find.Where) {
		young, err := k.young(e, a.Find.Newer)
		if err != nil {
			return nil, err
		}
		if young {
			return e, nil
		}
	}
	return nil, nil
}

func (k Call) young(e any, n *newer) (bool, error) {
	if n == nil {
		return true, nil
	}
	limit, err := duration("find.newer.than", n.Than, 24*time.Hour)
	if err != nil {
		return false, err
	}
	v, _ := answer.At(e, n.Field)
	s, _ := answer.Text(v)
	sec, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return false, nil //nolint:nilerr // what has no time is not known to be young
	}
	now := time.Now()
	if k.Now != nil {
		now = k.Now()
	}
	return now.Sub(time.Unix(sec, 0)) < limit, nil
}

// there gives the outputs of what was found.
func (a *callArgs) there(c *gql.Client, secrets string, found any) (install.Result, error) {
	if f := a.missing(c, secrets); f != nil {
		return install.Result{Findings: []install.Finding{*f}}, nil
	}
	res := install.Result{Outputs: make(map[string]any)}
	for name, keep := range a.Keep {
		_, full, err := place.Read(secrets, keep.File, maxKept)
		if err != nil {
			return install.Result{}, fmt.Errorf("read %s: %w", keep.File, err)
		}
		res.Outputs[name] = full
	}
	return res, take(found, a.Find.Outputs, res.Outputs)
}

// missing reports a secret that is not here although what it belongs to is at
// the server, which does not give it again.
func (a *callArgs) missing(c *gql.Client, secrets string) *install.Finding {
	for _, name := range slices.Sorted(maps.Keys(a.Keep)) {
		file := a.Keep[name].File
		if _, _, err := place.Read(secrets, file, maxKept); err != nil {
			reason := err.Error()
			if errors.Is(err, fs.ErrNotExist) {
				reason = "it exists at the server, which gives its secret only once, and that secret is not here"
			}
			return a.lost(c, file, reason)
		}
	}
	return nil
}

// taken reports a secret of something that is not at the server any more: it is
// never overwritten.
func (a *callArgs) taken(c *gql.Client, secrets string) *install.Finding {
	for _, name := range slices.Sorted(maps.Keys(a.Keep)) {
		file := a.Keep[name].File
		if _, _, err := place.Read(secrets, file, maxKept); err == nil || !errors.Is(err, fs.ErrNotExist) {
			return a.lost(c, file, "a secret from before is here, and what it belonged to is not at the server")
		}
	}
	return nil
}

func (a *callArgs) lost(c *gql.Client, file, reason string) *install.Finding {
	return &install.Finding{
		Code: own(c, codeLost), Detail: fmt.Sprintf("%s: %s: %s", a.What, file, reason),
		Fields: map[string]string{"url": c.URL, "what": a.What, "file": file, "reason": reason},
	}
}

// make sends the mutation. A secret of its answer is on disk before anything
// else can fail.
func (a *callArgs) make(ctx context.Context, c *gql.Client, secrets string) (install.Result, error) {
	data, err := c.Do(ctx, a.Query, a.Variables)
	if err != nil {
		return install.Result{}, err
	}
	res := install.Result{Outputs: make(map[string]any), Changed: true}
	for _, name := range slices.Sorted(maps.Keys(a.Keep)) {
		keep := a.Keep[name]
		v, _ := answer.At(data, keep.Path)
		secret, ok := v.(string)
		if !ok || secret == "" || len(secret) > maxKept {
			return res, fmt.Errorf("output %s: the answer has no secret at %q", name, keep.Path)
		}
		full, err := place.New(secrets, keep.File, []byte(secret), 0o600)
		if err != nil {
			return res, err
		}
		res.Outputs[name] = full
	}
	return res, take(data, a.Outputs, res.Outputs)
}
