package pg

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/testdata/postgres"
	"github.com/google/go-cmp/cmp"
)

// secret is a password with everything that is easily mangled or shown.
const secret = `p@ss/w:or?d#%21"'`

const escaped = `p%40ss%2Fw%3Aor%3Fd%23%2521%22'`

func address(port, options string) string {
	return "postgres://spacelift:" + escaped + "@127.0.0.1:" + port + "/spacelift" + options
}

// full asks for everything that the item of a product asks for.
func full(url string, more map[string]any) map[string]any {
	with := map[string]any{
		"url": url, "primary": true, "majors": []any{14, 15, 16, 17}, "untested": "warn", "privileges": true, "schema": "public",
		"ddl_roundtrip": true, "createrole": true, "dedicated": true, "known_tables": []any{"queue", "dedup"}, "foreign": "warn",
		"min_connections": 200, "encoding": "UTF8", "max_skew": "60s", "timeout": "5s",
	}
	maps.Copy(with, more)
	return with
}

// examine runs the probe and makes sure that nothing of the password is in what
// comes out.
func examine(t *testing.T, with map[string]any) install.Result {
	t.Helper()
	res, err := Conn{}.Run(t.Context(), install.Input{With: with})
	if err != nil {
		t.Fatal(err)
	}
	noSecret(t, res)
	return res
}

func noSecret(t *testing.T, res install.Result) {
	t.Helper()
	raw, err := json.Marshal(res)
	if err != nil {
		t.Fatal(err)
	}
	for _, ev := range res.Evidence {
		raw = append(raw, ev.Data...)
	}
	for _, s := range []string{secret, escaped, "ss/w:or", "ss%2Fw"} {
		if all := string(raw) + fmt.Sprintf("%+v", res); strings.Contains(all, s) {
			t.Errorf("the password shows in %s", all)
		}
	}
}

func codes(res install.Result) string {
	var out []string
	for _, f := range res.Findings {
		out = append(out, f.Code+":"+string(f.Severity))
	}
	return strings.Join(out, " ")
}

// TestMajors looks at servers of all versions.
func TestMajors(t *testing.T) {
	for version, want := range map[int]string{
		130014: "PG-02:fail", 140011: "", 150018: "", 160004: "", 170002: "", 180001: "PG-03:warn", 90624: "PG-02:fail",
	} {
		f := &postgres.Fake{Password: secret, Database: postgres.Healthy(version)}
		res := examine(t, full(address(f.Start(t), ""), nil))
		if got := codes(res); got != want {
			t.Errorf("%d: %s, want %s; %+v", version, got, want, res.Findings)
		}
		if got := res.Outputs["db.server_version_num"]; got != int64(version) {
			t.Errorf("%d: output %v", version, got)
		}
		if want != "" && res.Findings[0].Fields["major"] != fmt.Sprint(version/10000) {
			t.Errorf("%d: %+v", version, res.Findings[0].Fields)
		}
	}
	f := &postgres.Fake{Database: postgres.Healthy(180001)}
	if got := codes(examine(t, full(address(f.Start(t), ""), map[string]any{"untested": "fail"}))); got != "PG-03:fail" {
		t.Error(got)
	}
}

// TestWhatIsWrong changes one thing of a healthy server at a time.
func TestWhatIsWrong(t *testing.T) {
	other := [][]string{{"public", "queue"}, {"public", "dedup"}, {"public", "runs"}, {"crm", "customers"}}
	for name, c := range map[string]struct {
		change func(*postgres.Fake)
		with   map[string]any
		want   string
		fields map[string]string
	}{
		"standby":   {func(f *postgres.Fake) { f.Database.Standby = true }, nil, "PG-07:fail", map[string]string{"reason": "it is a standby, which takes no writes"}},
		"read-only": {func(f *postgres.Fake) { f.Database.ReadOnly = true }, nil, "PG-07:fail", nil},
		"replica":   {func(f *postgres.Fake) { f.Database.Standby = true }, map[string]any{"primary": false, "prefix": "db.read_only"}, "", nil},
		"database": {
			func(f *postgres.Fake) { f.Database.NoCreate = true }, nil, "PG-04:fail",
			map[string]string{"privilege": "CREATE on database spacelift", "statement": `GRANT CREATE ON DATABASE "spacelift" TO "spacelift"`},
		},
		"schema": {
			func(f *postgres.Fake) { f.Database.Schema, f.Database.User = "false", `o"dd` }, nil, "PG-04:fail",
			map[string]string{"schema": "public", "user": `o"dd`, "statement": `GRANT ALL ON SCHEMA "public" TO "o""dd"`},
		},
		"no schema": {func(f *postgres.Fake) { f.Database.Schema = "" }, nil, "PG-04:fail", map[string]string{"reason": "the schema does not exist"}},
		"roles":     {func(f *postgres.Fake) { f.Database.NoRoles = true }, nil, "PG-05:fail", map[string]string{"statement": `ALTER ROLE "spacelift" CREATEROLE`}},
		"disk full": {func(f *postgres.Fake) { f.Refuse = map[string][2]string{"INSERT": {"53100", "disk full"}} }, nil, "PG-13:fail", nil},
		"no commit": {func(f *postgres.Fake) { f.Refuse = map[string][2]string{"COMMIT": {"40001", "no"}} }, nil, "PG-13:fail PG-13:fail", map[string]string{"statement": "COMMIT"}},
		"role":      {func(f *postgres.Fake) { f.Refuse = map[string][2]string{"CREATE ROLE": {"42501", "denied"}} }, nil, "PG-13:fail", nil},
		"foreign":   {func(f *postgres.Fake) { f.Database.Relations = other[3:] }, nil, "PG-06:warn", map[string]string{"count": "1", "relations": "crm.customers"}},
		"product":   {func(f *postgres.Fake) { f.Database.Relations = other[:3] }, nil, "", nil},
		"both":      {func(f *postgres.Fake) { f.Database.Relations = other }, map[string]any{"foreign": "fail"}, "PG-06:fail", map[string]string{"count": "1"}},
		"small":     {func(f *postgres.Fake) { f.Database.MaxConnections = 100 }, nil, "PG-11:warn", map[string]string{"setting": "max_connections", "value": "100"}},
		"encoding":  {func(f *postgres.Fake) { f.Database.Encoding = "LATIN1" }, nil, "PG-11:warn", map[string]string{"setting": "server_encoding"}},
		"clock":     {func(f *postgres.Fake) { f.Database.Behind = time.Hour }, nil, "PG-11:warn", map[string]string{"setting": "clock", "value": "-3600 s from this machine's"}},
		"cluster":   {func(f *postgres.Fake) { f.Database.Standby = true }, map[string]any{"primary": false, "same_as": "1"}, "PG-12:fail", nil},
		"no id": {func(f *postgres.Fake) {
			f.Refuse = map[string][2]string{"SELECT system_identifier": {"42501", "denied"}}
		}, map[string]any{"same_as": "1"}, "", nil},
		"wrong":    {func(f *postgres.Fake) { f.Password = "other" }, nil, "PG-10:", map[string]string{"reason": "the password is wrong (server: password authentication failed, SQLSTATE 28P01)"}},
		"pg_hba":   {func(f *postgres.Fake) { f.Refuse = map[string][2]string{"": {"28000", "no pg_hba.conf entry"}} }, nil, "PG-10:", nil},
		"no db":    {func(f *postgres.Fake) { f.Refuse = map[string][2]string{"": {"3D000", "no such database"}} }, nil, "PG-10:", nil},
		"full":     {func(f *postgres.Fake) { f.Refuse = map[string][2]string{"": {"53300", "too many"}} }, nil, "PG-10:", nil},
		"starting": {func(f *postgres.Fake) { f.Refuse = map[string][2]string{"": {"57P03", "starting up"}} }, nil, "PG-01:", nil},
		"option": {func(f *postgres.Fake) {
			f.Refuse = map[string][2]string{"": {"42704", "unrecognized configuration parameter"}}
		}, nil, "PG-09:", nil},
		"echo":       {func(f *postgres.Fake) { f.Refuse = map[string][2]string{"": {"28P01", "bad password " + secret}} }, nil, "PG-10:", nil},
		"echo later": {func(f *postgres.Fake) { f.Refuse = map[string][2]string{"CREATE SCHEMA": {"42501", address("1", "")}} }, nil, "PG-13:fail", nil},
		"lost":       {func(f *postgres.Fake) { f.Cut = "CREATE INDEX" }, nil, "PG-01:", map[string]string{"reason": "the connection was closed from the other side"}},
		"long name":  {func(f *postgres.Fake) { f.Database.User = strings.Repeat("x", 5000) }, nil, "PG-01:", nil},
		"escapes":    {func(f *postgres.Fake) { f.Database.Relations = [][]string{{"a\x1b[2J", "b\n"}} }, nil, "PG-06:warn", map[string]string{"relations": "a [2J.b "}},
		"odd system": {func(f *postgres.Fake) { f.Database.System = "x" }, nil, "PG-01:", nil},
		"nonsense":   {func(f *postgres.Fake) { f.Database.Version = -1 }, nil, "PG-01:", map[string]string{"reason": "what listens there does not speak PostgreSQL"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := &postgres.Fake{Password: secret, Database: postgres.Healthy(150018)}
			c.change(f)
			res := examine(t, full(address(f.Start(t), ""), c.with))
			if got := codes(res); got != c.want {
				t.Fatalf("%s, want %s: %+v", got, c.want, res.Findings)
			}
			for k, v := range c.fields {
				if got := res.Findings[0].Fields[k]; got != v {
					t.Errorf("%s is %q, want %q", k, got, v)
				}
			}
			for _, f := range res.Findings {
				want := Conn{}.Codes()[f.Code]
				if got := slices.Sorted(maps.Keys(f.Fields)); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
					t.Errorf("%s has the fields %v, announced are %v", f.Code, got, want)
				}
			}
		})
	}
}

// TestNothingLasts wants every round trip whole inside a transaction, undone
// where it fails.
func TestNothingLasts(t *testing.T) {
	for name, refuse := range map[string]map[string][2]string{"good": nil, "refused": {"INSERT": {"42501", "denied"}}} {
		f := &postgres.Fake{Database: postgres.Healthy(150018), Refuse: refuse}
		examine(t, full(address(f.Start(t), ""), nil))
		open, made := false, 0
		for _, s := range f.Statements() {
			switch {
			case s == "BEGIN":
				open = true
			case s == "COMMIT" && made != 0:
				t.Errorf("%s: a transaction that made %d more than it dropped is committed", name, made)
			case s == "COMMIT", s == "ROLLBACK":
				open, made = false, 0
			case strings.HasPrefix(s, "CREATE INDEX"): // goes with its table
			case strings.HasPrefix(s, "CREATE"):
				made++
			case strings.HasPrefix(s, "DROP SCHEMA"):
				made -= 2 // and the table in it
			case strings.HasPrefix(s, "DROP"):
				made--
			}
			if (strings.HasPrefix(s, "CREATE") || strings.HasPrefix(s, "INSERT")) && !open {
				t.Errorf("%s: %s runs outside a transaction", name, s)
			}
		}
		if open {
			t.Errorf("%s: a transaction is left open: %q", name, f.Statements())
		}
	}
}

// TestClientOptionsStayHere checks what a server gets to see of a URL.
func TestClientOptionsStayHere(t *testing.T) {
	t.Setenv("PGOPTIONS", "-c nonsense=1")
	t.Setenv("PGPASSWORD", "other")
	t.Setenv("PGSSLMODE", "verify-full")
	t.Setenv("PGSSLROOTCERT", "/nonexistent")
	f := &postgres.Fake{Password: secret, Database: postgres.Healthy(150018)}
	port := f.Start(t)
	res := examine(t, full(address(port, "?statement_cache_capacity=0&pool_max_conns=4&binary_parameters=yes&statement_timeout=5000"), nil))
	if len(res.Findings) > 0 {
		t.Error(res.Findings)
	}
	want := map[string]string{"user": "spacelift", "database": "spacelift", "application_name": "airlock", "statement_timeout": "5000"}
	if diff := cmp.Diff(want, f.Startup()); diff != "" {
		t.Errorf("startup message (-want +got):\n%s", diff)
	}
}

func TestTLS(t *testing.T) {
	own, other := postgres.NewAuthority(t, "own authority"), postgres.NewAuthority(t, "other authority")
	broken := filepath.Join(t.TempDir(), "broken.pem")
	if err := os.WriteFile(broken, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	here := &postgres.Fake{TLS: own.Server(t, "127.0.0.1"), Password: secret, Database: postgres.Healthy(150018)}
	elsewhere := &postgres.Fake{TLS: own.Server(t, "db.site"), Password: secret, Database: postgres.Healthy(150018)}
	plain := &postgres.Fake{Password: secret, Database: postgres.Healthy(150018)}
	for _, f := range []*postgres.Fake{here, elsewhere, plain} {
		f.Start(t)
	}
	for name, c := range map[string]struct {
		server  *postgres.Fake
		options string
		ca      string
		want    string // reason; "" passes
	}{
		"full":                {here, "?sslmode=verify-full", own.Path, ""},
		"full, own root":      {here, "?sslmode=verify-full&sslrootcert=" + own.Path, "", ""},
		"full, wrong CA":      {here, "?sslmode=verify-full", other.Path, `signed by "CN=own authority"`},
		"full, system":        {here, "?sslmode=verify-full", "", `signed by "CN=own authority"`},
		"root from URL first": {here, "?sslmode=verify-full&sslrootcert=/nonexistent", own.Path, ""},
		"root not here":       {here, "?sslmode=verify-full&sslrootcert=/nonexistent", "", "no such file"},
		"root system":         {here, "?sslrootcert=system", "", `signed by "CN=own authority"`},
		"broken":              {here, "?sslmode=verify-ca", broken, "no certificate"},
		"full, name":          {elsewhere, "?sslmode=verify-full", own.Path, "is for [db.site], not for 127.0.0.1"},
		"ca, name":            {elsewhere, "?sslmode=verify-ca", own.Path, ""},
		"ca, wrong CA":        {elsewhere, "?sslmode=verify-ca", other.Path, "own authority"},
		"require":             {elsewhere, "?sslmode=require", "", ""},
		"require with a CA":   {elsewhere, "?sslmode=require", other.Path, "own authority"},
		"prefer":              {here, "", "", ""},
		"prefer, plain":       {plain, "", "", ""},
		"require, plain":      {plain, "?sslmode=require", "", "does not offer TLS"},
		"full, plain":         {plain, "?sslmode=verify-full", own.Path, "does not offer TLS"},
		"disable":             {here, "?sslmode=disable", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			res := examine(t, map[string]any{"url": address(c.server.Port, c.options), "ca": c.ca, "timeout": "5s"})
			if c.want == "" {
				if len(res.Findings) > 0 || len(res.Outputs) == 0 {
					t.Errorf("%+v", res)
				}
				return
			}
			if codes(res) != "PG-08:" || !strings.Contains(res.Findings[0].Fields["reason"], c.want) {
				t.Errorf("%+v, want %q", res.Findings, c.want)
			}
		})
	}
}

// listen answers every connection with what serve does, until the test ends.
func listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-ended })
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { serve(c); c.Close() }()
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// TestStrangeServers talks to what is no database.
func TestStrangeServers(t *testing.T) {
	gone := listen(t, func(net.Conn) {})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, refused, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	silent := listen(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 1)); <-t.Context().Done() })
	web := listen(t, func(c net.Conn) { fmt.Fprint(c, "HTTP/1.1 400 Bad Request\r\n\r\n"); _, _ = c.Read(make([]byte, 64)) })
	huge := listen(t, func(c net.Conn) { fmt.Fprint(c, "R\x7f\xff\xff\xff"); _, _ = c.Read(make([]byte, 64)) })
	// ParameterStatus messages without end, each of another name.
	endless := listen(t, func(c net.Conn) {
		body := strings.Repeat("x", 60000)
		for i := range 2000 {
			payload := fmt.Sprintf("%08d\x00%s\x00", i, body)
			if _, err := c.Write(append(binary.BigEndian.AppendUint32([]byte{'S'}, uint32(4+len(payload))), payload...)); err != nil {
				return
			}
		}
		t.Error("the client reads 120 MB of settings")
	})
	for name, c := range map[string]struct{ host, port, options, want, wait string }{
		"dropped":     {"127.0.0.1", dropping(t), "", "timeout", "500ms"},
		"refused":     {"127.0.0.1", refused, "", "refused", "5s"},
		"closed":      {"127.0.0.1", gone, "", "closed from the other side", "5s"},
		"no host":     {"nothing.invalid", "5432", "", "name", "20s"},
		"silent":      {"127.0.0.1", silent, "?sslmode=disable", "timeout", "200ms"},
		"silent, TLS": {"127.0.0.1", silent, "?sslmode=require", "timeout", "200ms"},
		"web":         {"127.0.0.1", web, "?sslmode=disable", "PostgreSQL", "5s"},
		"web, TLS":    {"127.0.0.1", web, "?sslmode=require", "does not speak PostgreSQL", "5s"},
		"huge":        {"127.0.0.1", huge, "?sslmode=disable", "PostgreSQL", "5s"},
		"endless":     {"127.0.0.1", endless, "?sslmode=disable", "more than a database would", "20s"},
	} {
		t.Run(name, func(t *testing.T) {
			url := "postgres://spacelift:" + escaped + "@" + c.host + ":" + c.port + "/spacelift" + c.options
			res := examine(t, map[string]any{"url": url, "timeout": c.wait})
			if codes(res) != "PG-01:" || !strings.Contains(res.Findings[0].Fields["reason"], c.want) {
				t.Errorf("%+v, want %q", res.Findings, c.want)
			}
		})
	}
}

// dropping listens on a port whose queue is full: the kernel drops what asks for
// another connection, as a firewall does.
func dropping(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port)
	for range 10 {
		c, err := net.DialTimeout("tcp", address, 200*time.Millisecond)
		if err != nil {
			_, port, _ := net.SplitHostPort(address)
			return port
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Fatal("the queue never fills")
	return ""
}

// TestServiceVariable wants the one variable that is in the way to be named.
func TestServiceVariable(t *testing.T) {
	t.Setenv("PGSERVICE", "x")
	_, err := Conn{}.Run(t.Context(), install.Input{With: map[string]any{"url": address("1", "")}})
	if err == nil || !strings.Contains(err.Error(), "PGSERVICE") || strings.Contains(err.Error(), escaped) {
		t.Error(err)
	}
}

// TestContextEnds ends the context while a server says nothing: before the
// session and in the middle of a statement.
func TestContextEnds(t *testing.T) {
	cause := errors.New("enough")
	t.Run("session", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		port := listen(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 1)); cancel(cause); <-t.Context().Done() })
		if _, err := (Conn{}).Run(ctx, install.Input{With: full(address(port, ""), nil)}); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	t.Run("statement", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		f := &postgres.Fake{Database: postgres.Healthy(150018)}
		f.Hang, f.Hanging = "CREATE TABLE", func() { cancel(cause) }
		if _, err := (Conn{}).Run(ctx, install.Input{With: full(address(f.Start(t), ""), nil)}); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// TestSecondHost finds the host that answers, and the one that is a primary.
func TestSecondHost(t *testing.T) {
	down := listen(t, func(net.Conn) {})
	standby := &postgres.Fake{Database: postgres.Healthy(150018), Refuse: map[string][2]string{"": {"57P03", "starting"}}}
	primary := &postgres.Fake{Database: postgres.Healthy(150018)}
	hosts := fmt.Sprintf("127.0.0.1:%s,127.0.0.1:%s,127.0.0.1:%s", down, standby.Start(t), primary.Start(t))
	res := examine(t, full("postgres://spacelift:"+escaped+"@"+hosts+"/spacelift", nil))
	if len(res.Findings) > 0 || !strings.Contains(res.Outputs["db.fingerprint"].(string), primary.Port) {
		t.Errorf("%+v", res)
	}
}

func TestConnArguments(t *testing.T) {
	for _, with := range []map[string]any{
		{"url": "postgres://u@h", "timeout": "soon"},
		{"url": "postgres://u@h", "timeout": "-1s"},
		{"url": "postgres://u@h", "max_skew": "x"},
		{"url": "postgres://u@h", "untested": "maybe"},
		{"url": "postgres://u@h", "foreign": "no"},
		{"urll": "x"},
		{"url": 5},
	} {
		if _, err := (Conn{}).Run(t.Context(), install.Input{With: with}); err == nil {
			t.Errorf("%v is accepted", with)
		}
	}
	res := examine(t, map[string]any{})
	if codes(res) != "PG-09:" || res.Findings[0].Fields["reason"] != "it is empty" {
		t.Errorf("%+v", res)
	}
	res = examine(t, map[string]any{"url": "postgres://spacelift:" + secret + "@h/x"})
	if codes(res) != "PG-09:" || !strings.Contains(res.Findings[0].Fields["reason"], "%2F") {
		t.Errorf("%+v", res)
	}
}
