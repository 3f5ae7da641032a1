// Package pg is the step pg.exec: statements for PostgreSQL that a checklist
// gives as data, each with a question that tells whether it is done.
package pg

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/postgres"
)

// Codes, beside those of postgres.Codes.
const (
	codeRefused  = "PG-30"
	codeNoEffect = "PG-31"
)

const defaultTimeout = 10 * time.Second

// Exec is pg.exec. Its zero value is ready and safe for concurrent use.
//
// A statement runs only where its question is not answered with true, and the
// question must be answered with true afterwards. :"name" in a statement or
// question stands for a variable as an identifier and :'name' for it as a
// literal, as in psql; both are quoted here. Variables are shown in plans, so no
// secret belongs there.
type Exec struct{}

// arguments are the step's with.
type arguments struct {
	URL        string            `json:"url"`
	CA         string            `json:"ca"`
	Database   string            `json:"database"` // instead of the URL's
	Timeout    string            `json:"timeout"`  // of the beginning of a session
	Variables  map[string]string `json:"variables"`
	Statements []statement       `json:"statements"`
}

type statement struct {
	Run  string `json:"run"`
	Done string `json:"done"` // a query for one boolean
}

// Codes implements install.Coder.
func (Exec) Codes() map[string][]string {
	codes := postgres.Codes()
	fields := []string{"host", "port", "user", "db", "statement", "reason"}
	codes[codeRefused], codes[codeNoEffect] = fields, fields
	return codes
}

// work is what one step does.
type work struct {
	arguments
	target *postgres.Target
	wait   time.Duration
	conn   *postgres.Conn
}

// Plan asks the questions and lists the statements that would run.
func (e Exec) Plan(ctx context.Context, in install.Input) (install.Change, error) {
	w, err := prepare(in)
	if err != nil {
		return install.Change{}, err
	}
	c := install.Change{}
	if err := w.connect(ctx); err != nil {
		if ctx.Err() != nil {
			return c, ctx.Err()
		}
		c.Summary = fmt.Sprintf("run up to %d statements; which of them are needed cannot be seen now", len(w.Statements))
		c.Details = append(c.Details, err.Error())
		for _, s := range w.Statements {
			c.Details = append(c.Details, s.Run)
		}
		return c, nil
	}
	defer w.conn.Close(ctx)
	c.Nothing = true
	for _, s := range w.Statements {
		done, err := w.ask(ctx, s)
		if err != nil {
			// What it asks about may come with a statement before it.
			if _, ok := errors.AsType[*postgres.QueryError](err); !ok {
				return install.Change{}, err
			}
		}
		if !done {
			c.Nothing = false
			c.Details = append(c.Details, s.Run)
		}
	}
	c.Summary = fmt.Sprintf("run %d of %d statements as %s in database %s at %s", len(c.Details), len(w.Statements), w.target.User, w.target.Database, w.conn.Host)
	return c, nil
}

// Apply runs what is not done.
func (e Exec) Apply(ctx context.Context, in install.Input) (install.Result, error) {
	var res install.Result
	w, err := prepare(in)
	if err == nil {
		err = w.connect(ctx)
	}
	if err == nil {
		defer w.conn.Close(ctx)
		err = w.apply(ctx, &res)
	}
	if err == nil {
		return res, nil
	}
	f, ok := postgres.Finding(err)
	if ctx.Err() != nil || !ok {
		return res, cmp.Or(ctx.Err(), err)
	}
	res.Findings = append(res.Findings, f)
	return res, nil
}

func (w *work) apply(ctx context.Context, res *install.Result) error {
	for _, s := range w.Statements {
		done, err := w.ask(ctx, s)
		if q, ok := errors.AsType[*postgres.QueryError](err); ok {
			w.report(res, codeRefused, s.Done, q.Reason)
			return nil
		}
		if err != nil {
			return err
		}
		if done {
			continue
		}
		err = w.conn.Exec(ctx, s.Run)
		if q, ok := errors.AsType[*postgres.QueryError](err); ok {
			w.report(res, codeRefused, s.Run, q.Reason)
			return nil
		}
		if err != nil {
			return err
		}
		res.Changed = true
		if done, err = w.ask(ctx, s); err != nil {
			return err
		}
		if !done {
			reason := "it ran, and " + s.Done + " is still not true"
			if n := w.conn.Notice(); n != "" {
				reason += "; the server warned: " + n
			}
			w.report(res, codeNoEffect, s.Run, reason)
			return nil
		}
	}
	return nil
}

func (w *work) report(res *install.Result, code, statement, reason string) {
	res.Findings = append(res.Findings, install.Finding{
		Code: code, Detail: fmt.Sprintf("%s, database %s: %s: %s", w.conn.Host, w.target.Database, statement, reason),
		Fields: map[string]string{
			"host": w.conn.Host.Name, "port": w.conn.Host.Port, "user": w.target.User, "db": w.target.Database, "statement": statement, "reason": reason,
		},
	})
}

// ask answers a statement's question, in a transaction that can write nothing.
// No row is no: what it asks about is not there yet.
func (w *work) ask(ctx context.Context, s statement) (bool, error) {
	var rows [][]string
	err := w.conn.Transaction(ctx, func() (err error) {
		if err = w.conn.Exec(ctx, "SET TRANSACTION READ ONLY"); err != nil {
			return err
		}
		rows, err = w.conn.Rows(ctx, s.Done)
		return err
	})
	switch {
	case err != nil || len(rows) == 0:
		return false, err
	case len(rows) != 1 || len(rows[0]) != 1:
		return false, fmt.Errorf("ask %q: want one boolean, got %d rows", s.Done, len(rows))
	}
	return rows[0][0] == "t" || rows[0][0] == "true", nil
}

// prepare reads and checks the arguments, and puts the variables in.
func prepare(in install.Input) (*work, error) {
	w := &work{arguments: arguments{Timeout: defaultTimeout.String()}}
	if err := in.Decode(&w.arguments); err != nil {
		return nil, err
	}
	var err error
	if w.wait, err = time.ParseDuration(w.Timeout); err != nil || w.wait <= 0 {
		return nil, fmt.Errorf("timeout %q is not a duration such as 10s", w.Timeout)
	}
	if len(w.Statements) == 0 {
		return nil, errors.New("want statements")
	}
	for i := range w.Statements {
		s := &w.Statements[i]
		if s.Run == "" || s.Done == "" {
			return nil, fmt.Errorf("statement %d: want run, and done as the question that tells whether it is needed", i+1)
		}
		for _, text := range []*string{&s.Run, &s.Done} {
			if *text, err = expand(*text, w.Variables); err != nil {
				return nil, fmt.Errorf("statement %d: %w", i+1, err)
			}
		}
	}
	if w.target, err = postgres.Parse(w.URL); err != nil {
		return w, err
	}
	if w.Database != "" {
		w.target = w.target.InDatabase(w.Database)
	}
	return w, nil
}

// connect begins the session.
func (w *work) connect(ctx context.Context) (err error) {
	if w.conn, err = w.target.Connect(ctx, w.CA, w.wait); err != nil {
		return err
	}
	if err = w.conn.CheckLiterals(); err != nil {
		w.conn.Close(ctx)
	}
	return err
}
