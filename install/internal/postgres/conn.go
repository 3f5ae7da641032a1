// Package postgres is what the steps about PostgreSQL share: it reads a
// connection URL, begins a session as the URL says and explains in a few words
// why there is none. Neither the URL nor the password is part of any error.
//
// Values travel as text, each statement alone and unprepared, so that it works
// through a pooler and no answer of a server is decoded into more than bytes.
package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Conn is a session. It is for one goroutine.
type Conn struct {
	Target *Target
	Host   Host                 // the one of the target that answers
	TLS    *tls.ConnectionState // nil without TLS
	pg     *pgconn.PgConn
	notice string
}

// closing bounds how long a goodbye may take.
const closing = 5 * time.Second

// Close ends the session, also after ctx has ended; a transaction that is open
// is undone by the server.
func (c *Conn) Close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closing)
	defer cancel()
	// Nothing is pending: what closing says does not matter.
	_ = c.pg.Close(ctx)
}

// QueryError is a statement that the server refused.
type QueryError struct {
	State  string // SQLSTATE
	Reason string // the server's words, without secrets
}

func (e *QueryError) Error() string { return e.Reason }

// Parameter is a setting that the server reported when the session began.
func (c *Conn) Parameter(name string) string { return c.pg.ParameterStatus(name) }

// Rows runs one statement and returns its rows as text; NULL is "". A statement
// that the server refuses is a *QueryError, a lost connection an *Error.
func (c *Conn) Rows(ctx context.Context, sql string, args ...string) ([][]string, error) {
	values := make([][]byte, len(args))
	for i, a := range args {
		values[i] = []byte(a)
	}
	res := c.pg.ExecParams(ctx, sql, values, nil, nil, nil).Read()
	if res.Err != nil {
		return nil, c.failure(ctx, res.Err)
	}
	rows := make([][]string, len(res.Rows))
	for i, r := range res.Rows {
		rows[i] = make([]string, len(r))
		for j, v := range r {
			rows[i][j] = strings.ToValidUTF8(string(v), "?")
		}
	}
	return rows, nil
}

// Row runs a statement that has one row of so many columns.
func (c *Conn) Row(ctx context.Context, columns int, sql string, args ...string) ([]string, error) {
	rows, err := c.Rows(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	if len(rows) != 1 || len(rows[0]) != columns {
		return nil, c.Target.Foreign(c.Host)
	}
	return rows[0], nil
}

// Notice is what the server warned of last, without secrets.
func (c *Conn) Notice() string { return c.notice }

// Exec runs one statement for what it does.
func (c *Conn) Exec(ctx context.Context, sql string, args ...string) error {
	_, err := c.Rows(ctx, sql, args...)
	return err
}

func (c *Conn) failure(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && !strings.HasPrefix(pg.Code, "57P") {
		return &QueryError{State: pg.Code, Reason: c.Target.words(pg)}
	}
	return c.Target.explain(c.Host, err)
}

// Transaction runs do between BEGIN and COMMIT, and undoes it where do fails or
// ctx ends.
func (c *Conn) Transaction(ctx context.Context, do func() error) error {
	if err := c.Exec(ctx, "BEGIN"); err != nil {
		return err
	}
	err := do()
	if err == nil {
		return c.Exec(ctx, "COMMIT")
	}
	// A session that is lost needs no ROLLBACK: the server does it.
	back, cancel := context.WithTimeout(context.WithoutCancel(ctx), closing)
	defer cancel()
	_ = c.Exec(back, "ROLLBACK")
	return err
}

// Identifier quotes names as one identifier.
func Identifier(names ...string) string { return pgx.Identifier(names).Sanitize() }

// Literal quotes a text as the server reads it with standard_conforming_strings,
// which CheckLiterals makes sure of.
func Literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// CheckLiterals makes sure that the server reads literals as Literal writes
// them.
func (c *Conn) CheckLiterals() error {
	if s, e := c.Parameter("standard_conforming_strings"), c.Parameter("client_encoding"); s != "on" || e != "UTF8" {
		return fmt.Errorf("quote a literal: standard_conforming_strings is %q and client_encoding %q, want on and UTF8", s, e)
	}
	return nil
}
