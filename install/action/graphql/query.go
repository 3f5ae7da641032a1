package graphql

import (
	"context"
	"fmt"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/answer"
	"github.com/airlock-project/airlock/install/internal/gql"
)

// Query is the probe graphql.query. Its zero value is ready and safe for
// concurrent use.
type Query struct{}

// queryArgs are the step's with.
type queryArgs struct {
	gql.Config
	document
	Expect  []answer.Check    `json:"expect"`
	Outputs map[string]string `json:"outputs"` // name: path
	Answers bool              `json:"answers"` // a refusal in GraphQL's form is an answer too
	Steady  *steady           `json:"steady"`
}

// steady asks again for a time: what holds once may not stay.
type steady struct {
	For   string `json:"for"`
	Every string `json:"every"`
	Code  string `json:"code"` // for what held at first and then does not
}

// Codes implements install.Coder.
func (Query) Codes() map[string][]string {
	return gql.AllCodes(map[string][]string{codeWant: {"url", "path", "want", "got"}})
}

// Run asks and compares the answer with what is expected of it.
func (Query) Run(ctx context.Context, in install.Input) (install.Result, error) {
	var a queryArgs
	if err := in.Decode(&a); err != nil {
		return install.Result{}, err
	}
	c, err := gql.New(a.Config)
	if err != nil {
		return install.Result{}, err
	}
	defer c.HTTP.CloseIdleConnections()
	res, err := a.once(ctx, c)
	if err != nil || len(res.Findings) > 0 || a.Steady == nil {
		return res, err
	}
	return a.watch(ctx, c, res)
}

// once asks one time.
func (a *queryArgs) once(ctx context.Context, c *gql.Client) (install.Result, error) {
	data, err := c.Do(ctx, a.Query, a.Variables)
	if f, ok := c.Finding(err); ok {
		if a.Answers && (f.Code == gql.CodeRefused || f.Fields["status"] == "401" || f.Fields["status"] == "403") {
			return install.Result{}, nil
		}
		return install.Result{Findings: []install.Finding{f}}, nil
	}
	if err != nil {
		return install.Result{}, err
	}
	var res install.Result
	for _, check := range a.Expect {
		got, want, ok := check.Judge(data)
		if ok {
			continue
		}
		code := check.Code
		if code == "" {
			code = own(c, codeWant)
		}
		got = quoted(c, got)
		res.Findings = append(res.Findings, install.Finding{
			Code: code, Detail: fmt.Sprintf("%s is %s, want %s", check.Path, got, want),
			Fields: map[string]string{"url": c.URL, "path": check.Path, "want": want, "got": got},
		})
	}
	if len(res.Findings) > 0 || len(a.Outputs) == 0 {
		return res, nil
	}
	res.Outputs = make(map[string]any)
	return res, take(data, a.Outputs, res.Outputs)
}

// watch repeats the question until the time is over or the answer changes.
func (a *queryArgs) watch(ctx context.Context, c *gql.Client, first install.Result) (install.Result, error) {
	total, err := duration("steady.for", a.Steady.For, time.Minute)
	if err != nil {
		return install.Result{}, err
	}
	every, err := duration("steady.every", a.Steady.Every, 10*time.Second)
	if err != nil {
		return install.Result{}, err
	}
	from, last := time.Now(), first
	for time.Since(from) < total {
		select {
		case <-ctx.Done():
			return install.Result{}, ctx.Err()
		case <-time.After(every):
		}
		now, err := a.once(ctx, c)
		if err != nil {
			return now, err
		}
		if len(now.Findings) > 0 {
			return a.unsteady(now, time.Since(from)), nil
		}
		last = now
	}
	return last, nil
}

func (a *queryArgs) unsteady(now install.Result, after time.Duration) install.Result {
	for i := range now.Findings {
		f := &now.Findings[i]
		f.Detail = fmt.Sprintf("it held, and after %s %s", after.Round(time.Second), f.Detail)
		if a.Steady.Code != "" && f.Fields["path"] != "" {
			f.Code = a.Steady.Code
		}
	}
	return now
}
