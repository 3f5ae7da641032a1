package graphql

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/answer"
	"github.com/airlock-project/airlock/install/internal/gql"
	"github.com/airlock-project/airlock/install/internal/web"
)

// Wait is the action graphql.wait. Its zero value is ready and safe for
// concurrent use.
type Wait struct{}

// waitArgs are the step's with.
type waitArgs struct {
	gql.Config
	document
	What    string              `json:"what"`    // what is waited for, for people
	State   string              `json:"state"`   // path of the state
	History string              `json:"history"` // path of a list of {state, timestamp, note}
	Done    []string            `json:"done"`    // end states that are wanted
	Failed  []string            `json:"failed"`  // end states that are not
	On      map[string]document `json:"on"`      // state: what to send once, such as a confirmation
	Within  string              `json:"within"`
	Every   string              `json:"every"`
	Stuck   map[string]string   `json:"stuck"`    // state when time is over: code
	EndedIn map[string]string   `json:"ended_in"` // last state before a failed end: code
	Outputs map[string]string   `json:"outputs"`  // name: path
}

// Codes implements install.Coder.
func (Wait) Codes() map[string][]string {
	return gql.AllCodes(map[string][]string{
		codeLate: {"what", "state", "within"},
		codeEnd:  {"what", "state", "in", "note"},
	})
}

// Plan looks once: nothing is to be done where the end is reached.
func (Wait) Plan(ctx context.Context, in install.Input) (install.Change, error) {
	a, c, err := prepareWait(in)
	if err != nil {
		return install.Change{}, err
	}
	defer c.HTTP.CloseIdleConnections()
	state, _, err := a.look(ctx, c)
	if err != nil {
		return install.Change{}, err
	}
	if slices.Contains(a.Done, state) {
		return install.Change{Summary: a.What + " is " + state, Nothing: true}, nil
	}
	return install.Change{Summary: fmt.Sprintf("wait until %s is done, up to %s; now it is %s", a.What, a.Within, orNone(state))}, nil
}

// Apply polls until an end state or until time is over. The state then decides
// the code. Answers that fail on the way are no end: a load balancer may move.
func (Wait) Apply(ctx context.Context, in install.Input) (install.Result, error) {
	a, c, err := prepareWait(in)
	if err != nil {
		return install.Result{}, err
	}
	defer c.HTTP.CloseIdleConnections()
	within, err := duration("within", a.Within, 0)
	if err != nil {
		return install.Result{}, err
	}
	every, err := duration("every", a.Every, 2*time.Second)
	if err != nil {
		return install.Result{}, err
	}
	return a.poll(ctx, c, within, every)
}

func prepareWait(in install.Input) (*waitArgs, *gql.Client, error) {
	a := &waitArgs{What: "it", Within: "15m"}
	if err := in.Decode(a); err != nil {
		return nil, nil, err
	}
	if a.State == "" || len(a.Done) == 0 {
		return nil, nil, errors.New("want state, a path, and done, the states to wait for")
	}
	c, err := gql.New(a.Config)
	return a, c, err
}

func (a *waitArgs) poll(ctx context.Context, c *gql.Client, within, every time.Duration) (res install.Result, err error) {
	from, state, sent := time.Now(), "", make(map[string]bool)
	for {
		var data map[string]any
		seen, got, failure := a.look(ctx, c)
		switch {
		case failure == nil:
			state, data = seen, got
		case !passing(failure):
			return explain(c, failure)
		}
		switch {
		case failure == nil && slices.Contains(a.Done, state):
			res.Outputs = make(map[string]any)
			return res, take(data, a.Outputs, res.Outputs)
		case failure == nil && slices.Contains(a.Failed, state):
			return install.Result{Findings: []install.Finding{a.ended(c, state, data)}, Changed: res.Changed}, nil
		case failure == nil && a.On[state].Query != "" && !sent[state]:
			sent[state], res.Changed = true, true
			if _, err := c.Do(ctx, a.On[state].Query, a.On[state].Variables); err != nil && !passing(err) {
				return explain(c, err)
			}
		}
		if time.Since(from) >= within {
			if failure != nil {
				return explain(c, failure)
			}
			return install.Result{Findings: []install.Finding{a.late(c, state)}, Changed: res.Changed}, nil
		}
		select {
		case <-ctx.Done():
			return res, ctx.Err()
		case <-time.After(every):
		}
	}
}

// passing reports whether a failure may pass by itself.
func passing(err error) bool {
	p, ok := errors.AsType[*gql.Problem](err)
	return ok && p.Code == gql.CodeAnswer
}

func (a *waitArgs) look(ctx context.Context, c *gql.Client) (state string, data map[string]any, err error) {
	if data, err = c.Do(ctx, a.Query, a.Variables); err != nil {
		return "", nil, err
	}
	v, _ := answer.At(data, a.State)
	state, _ = answer.Text(v)
	return quoted(c, state), data, nil
}

func (a *waitArgs) late(c *gql.Client, state string) install.Finding {
	code := a.Stuck[state]
	if code == "" {
		code = own(c, codeLate)
	}
	return install.Finding{
		Code: code, Detail: fmt.Sprintf("%s is still %s after %s", a.What, orNone(state), a.Within),
		Fields: map[string]string{"what": a.What, "state": orNone(state), "within": a.Within},
	}
}

// ended explains a failed end by the last state before it.
func (a *waitArgs) ended(c *gql.Client, state string, data map[string]any) install.Finding {
	before, note := a.before(data)
	code := a.EndedIn[before]
	if code == "" {
		code = own(c, codeEnd)
	}
	note = quoted(c, note)
	detail := fmt.Sprintf("%s ended %s in %s", a.What, state, orNone(before))
	if note != "" {
		detail += ": " + note
	}
	return install.Finding{
		Code: code, Detail: detail,
		Fields: map[string]string{"what": a.What, "state": state, "in": orNone(before), "note": note},
	}
}

// before returns the youngest state of the history that is no end, and the note
// of the end. The order of the list does not matter.
func (a *waitArgs) before(data map[string]any) (state, note string) {
	v, _ := answer.At(data, a.History)
	ends, youngest := slices.Concat(a.Done, a.Failed), int64(-1)
	for _, e := range answer.Filter(v, nil) {
		field := func(name string) string {
			v, _ := answer.At(e, name)
			s, _ := answer.Text(v)
			return s
		}
		s := field("state")
		if slices.Contains(ends, s) {
			note = field("note")
			continue
		}
		at, err := strconv.ParseInt(field("timestamp"), 10, 64)
		if err != nil {
			at = 0
		}
		if at > youngest {
			state, youngest = s, at
		}
	}
	return web.Quote(state), note
}

func orNone(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}
