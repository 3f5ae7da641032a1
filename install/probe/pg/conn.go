// Package pg holds the probes about PostgreSQL: pg.conn (can a product work
// with the database that a URL names) and pg.backup (could the database be
// brought back).
package pg

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/postgres"
)

// Codes of pg.conn, beside those of postgres.Codes.
const (
	codeVersion  = "PG-02"
	codeUntested = "PG-03"
	codeCreate   = "PG-04"
	codeRole     = "PG-05"
	codeForeign  = "PG-06"
	codeStandby  = "PG-07"
	codeSetting  = "PG-11"
	codeCluster  = "PG-12"
	codeRefused  = "PG-13"
)

// defaultTimeout bounds the beginning of a session with one host.
const defaultTimeout = 10 * time.Second

// Conn is pg.conn. Its zero value is ready and safe for concurrent use. It
// changes nothing that lasts: what it creates, it creates and drops in one
// transaction, so that even a crash leaves nothing.
type Conn struct {
	Now func() time.Time // the clock; nil means time.Now
}

// arguments are the step's with. What is not asked for is not looked at.
type arguments struct {
	URL     string `json:"url"`
	CA      string `json:"ca"`
	Timeout string `json:"timeout"` // of the beginning of a session
	Prefix  string `json:"prefix"`  // of the outputs

	Primary  bool   `json:"primary"`  // it must take writes
	SameAs   string `json:"same_as"`  // system identifier that it must have
	Majors   []int  `json:"majors"`   // supported
	Untested string `json:"untested"` // warn or fail, for majors above

	Privileges  bool     `json:"privileges"`
	Schema      string   `json:"schema"` // in which the role must be able to create
	DDL         bool     `json:"ddl_roundtrip"`
	CreateRole  bool     `json:"createrole"`
	Dedicated   bool     `json:"dedicated"`
	KnownTables []string `json:"known_tables"` // a schema that has them all is the product's own
	Foreign     string   `json:"foreign"`      // warn or fail, for relations of others

	MinConnections int    `json:"min_connections"`
	Encoding       string `json:"encoding"`
	MaxSkew        string `json:"max_skew"` // between the server's clock and this machine's
}

// Codes implements install.Coder.
func (Conn) Codes() map[string][]string {
	codes := postgres.Codes()
	for code, more := range map[string][]string{
		codeVersion:  {"major", "version", "supported"},
		codeUntested: {"major", "version", "supported"},
		codeCreate:   {"role", "schema", "privilege", "statement", "reason"},
		codeRole:     {"role", "statement", "reason"},
		codeForeign:  {"count", "relations"},
		codeStandby:  {"reason"},
		codeSetting:  {"setting", "value", "want"},
		codeCluster:  {"reason"},
		codeRefused:  {"statement", "reason"},
	} {
		codes[code] = append([]string{"host", "port", "user", "db"}, more...)
	}
	return codes
}

// look is one look at a server.
type look struct {
	arguments
	now   func() time.Time
	wait  time.Duration
	skew  time.Duration
	conn  *postgres.Conn
	facts facts
	found []install.Finding
}

// Run begins a session and reports everything that would stop the product.
func (p Conn) Run(ctx context.Context, in install.Input) (install.Result, error) {
	l, err := p.prepare(in)
	if err != nil {
		return install.Result{}, err
	}
	if err := l.run(ctx); err != nil {
		f, ok := postgres.Finding(err)
		if ctx.Err() != nil || !ok {
			return install.Result{}, cmp.Or(ctx.Err(), err)
		}
		l.found = append(l.found, f)
	}
	res := install.Result{Findings: l.found}
	if l.facts.Version == 0 {
		return res, nil
	}
	res.Outputs = map[string]any{
		l.Prefix + ".server_version_num": int64(l.facts.Version),
		l.Prefix + ".fingerprint":        l.facts.fingerprint(),
		l.Prefix + ".system_identifier":  l.facts.System,
	}
	data, err := json.MarshalIndent(l.facts, "", "  ")
	if err != nil {
		return res, fmt.Errorf("write what the database said: %w", err)
	}
	res.Evidence = []install.Evidence{{Name: l.Prefix + ".json", Media: "application/json", Data: data}}
	return res, nil
}

// prepare reads and checks the arguments.
func (p Conn) prepare(in install.Input) (*look, error) {
	l := &look{arguments: arguments{Timeout: defaultTimeout.String(), Prefix: "db", Untested: "warn", Foreign: "warn"}, now: p.Now}
	if l.now == nil {
		l.now = time.Now
	}
	if err := in.Decode(&l.arguments); err != nil {
		return nil, err
	}
	var err error
	if l.wait, err = duration("timeout", l.Timeout); err != nil {
		return nil, err
	}
	if l.MaxSkew != "" {
		if l.skew, err = duration("max_skew", l.MaxSkew); err != nil {
			return nil, err
		}
	}
	for name, v := range map[string]string{"untested": l.Untested, "foreign": l.Foreign} {
		if v != string(install.SeverityWarn) && v != string(install.SeverityFail) {
			return nil, fmt.Errorf("%s is %q, want warn or fail", name, v)
		}
	}
	return l, nil
}

// duration reads a duration greater than zero.
func duration(name, s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%s %q is not a duration such as 10s", name, s)
	}
	return d, nil
}

func (l *look) run(ctx context.Context) error {
	target, err := postgres.Parse(l.URL)
	if err != nil {
		return err
	}
	if l.conn, err = target.Connect(ctx, l.CA, l.wait); err != nil {
		return err
	}
	defer l.conn.Close(ctx)
	if err := l.learn(ctx); err != nil {
		return err
	}
	l.version()
	writable := l.role()
	l.settings()
	if l.Dedicated {
		if err := l.dedicated(ctx); err != nil {
			return err
		}
	}
	if !writable { // what follows writes
		return nil
	}
	return l.privileges(ctx)
}

// add reports a finding, with the fields that all have.
func (l *look) add(code string, severity install.Severity, detail string, fields map[string]string) {
	all := map[string]string{"host": l.conn.Host.Name, "port": l.conn.Host.Port, "user": l.facts.User, "db": l.facts.Database}
	maps.Copy(all, fields)
	for k, v := range all {
		all[k] = postgres.Line(v)
	}
	detail = postgres.Line(fmt.Sprintf("%s, database %s: %s", l.conn.Host, l.facts.Database, detail))
	l.found = append(l.found, install.Finding{Code: code, Severity: severity, Fields: all, Detail: detail})
}
