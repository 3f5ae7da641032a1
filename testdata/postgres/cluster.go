//go:build all

package postgres

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Superuser is the role that made a Cluster, with its password.
const (
	Superuser         = "postgres"
	SuperuserPassword = "super/us?er#p@ss"
)

// Cluster is a real server on 127.0.0.1 with a certificate of its own authority
// for 127.0.0.1. Sessions need TLS, but for the role plain.
type Cluster struct {
	Port string
	CA   *Authority

	dir  string
	run  *exec.Cmd
	gone chan struct{}
}

// Start makes a cluster, which ends with the test. The settings are lines of
// postgresql.conf.
func Start(t testing.TB, settings ...string) *Cluster {
	t.Helper()
	// The directory must be open to the user that the server runs as, which a
	// test's own is not.
	dir, err := os.MkdirTemp("", "airlock-pg-") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	c := &Cluster{dir: dir, CA: NewAuthority(t, "database authority")}
	t.Cleanup(func() {
		c.Stop(t)
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	c.write(t, "password", []byte(SuperuserPassword))
	c.command(t, "initdb", "-D", c.data(), "-N", "-U", Superuser, "-A", "scram-sha-256", "--pwfile="+filepath.Join(dir, "password"), "-E", "UTF8", "--locale=C")
	cert, key := c.CA.Issue(t, "127.0.0.1", "localhost")
	c.write(t, "server.pem", cert)
	c.write(t, "server.key", key)
	c.write(t, "data/pg_hba.conf", []byte("hostssl all all 127.0.0.1/32 scram-sha-256\nhostnossl all plain 127.0.0.1/32 scram-sha-256\n"))
	conf, err := os.OpenFile(filepath.Join(c.data(), "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	lines := append([]string{
		"listen_addresses = '127.0.0.1'", "unix_socket_directories = ''", "fsync = off", "max_connections = 200", "ssl = on",
		fmt.Sprintf("ssl_cert_file = '%s/server.pem'", dir), fmt.Sprintf("ssl_key_file = '%s/server.key'", dir),
	}, settings...)
	if _, err := io.WriteString(conf, strings.Join(lines, "\n")+"\n"); err != nil {
		t.Fatal(err)
	}
	if err := conf.Close(); err != nil {
		t.Fatal(err)
	}
	c.start(t)
	return c
}

// Standby restarts the cluster as a standby without a primary: it takes no
// writes.
func (c *Cluster) Standby(t testing.TB) {
	t.Helper()
	c.Stop(t)
	c.write(t, "data/standby.signal", nil)
	c.start(t)
}

func (c *Cluster) data() string { return filepath.Join(c.dir, "data") }

// URL is the URL of a role in a database; options begin with a question mark.
func (c *Cluster) URL(role, password, database, options string) string {
	return fmt.Sprintf("postgres://%s@127.0.0.1:%s/%s%s", url.UserPassword(role, password), c.Port, url.PathEscape(database), options)
}

// Exec runs statements in a database as the superuser, each for itself.
func (c *Cluster) Exec(t testing.TB, database string, statements ...string) {
	t.Helper()
	for _, s := range statements {
		c.Query(t, database, s)
	}
}

// Query runs a statement as the superuser and returns its rows, the columns
// separated by bars.
func (c *Cluster) Query(t testing.TB, database, sql string) []string {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	conn, err := pgconn.Connect(ctx, c.URL(Superuser, SuperuserPassword, database, "?sslmode=require"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	res := conn.ExecParams(ctx, sql, nil, nil, nil, nil).Read()
	if res.Err != nil {
		t.Fatalf("%s: %v", sql, res.Err)
	}
	var out []string
	for _, row := range res.Rows {
		var columns []string
		for _, v := range row {
			columns = append(columns, string(v))
		}
		out = append(out, strings.Join(columns, "|"))
	}
	return out
}

// start runs the server and waits for the line that says it is there.
func (c *Cluster) start(t testing.TB) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, c.Port, _ = net.SplitHostPort(l.Addr().String())
	_ = l.Close()
	c.run = c.cmd(t, "postgres", "-D", c.data(), "-p", c.Port)
	said, err := c.run.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.run.Start(); err != nil {
		t.Fatal(err)
	}
	c.gone = make(chan struct{})
	ready := make(chan bool, 1)
	var log []string
	go func() {
		defer close(c.gone)
		for s := bufio.NewScanner(said); s.Scan(); {
			log = append(log, s.Text())
			if strings.Contains(s.Text(), "ready to accept") {
				ready <- true
			}
		}
	}()
	select {
	case <-ready:
	case <-c.gone:
		t.Fatalf("the server ended:\n%s", strings.Join(log, "\n"))
	case <-time.After(time.Minute):
		t.Fatal("the server does not become ready")
	}
}

// Stop ends the server as an administrator does.
func (c *Cluster) Stop(t testing.TB) {
	t.Helper()
	if c.run == nil || c.run.Process == nil {
		return
	}
	if err := c.run.Process.Signal(os.Interrupt); err != nil {
		t.Error(err)
	}
	<-c.gone
	if err := c.run.Wait(); err != nil {
		t.Errorf("postgres: %v", err)
	}
	c.run = nil
}

// command runs a program of PostgreSQL to its end.
func (c *Cluster) command(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := c.cmd(t, name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// cmd prepares a program of PostgreSQL, which refuses to run as root.
func (c *Cluster) cmd(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), program(t, name), args...)
	cmd.Env, cmd.Dir = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}, c.dir
	if os.Getuid() == 0 {
		uid, gid := unprivileged(t)
		if err := os.Chown(c.dir, uid, gid); err != nil {
			t.Fatal(err)
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	}
	return cmd
}

// write writes a file that the server owns.
func (c *Cluster) write(t testing.TB, name string, data []byte) {
	t.Helper()
	path := filepath.Join(c.dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 {
		uid, gid := unprivileged(t)
		if err := os.Chown(path, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
}

func unprivileged(t testing.TB) (uid, gid int) {
	t.Helper()
	u, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	return uid, gid
}

// program finds a program of PostgreSQL in PATH or where Debian keeps those that
// are for servers.
func program(t testing.TB, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if err != nil || len(found) == 0 {
		t.Fatalf("%s is not installed: it is in Debian's package postgresql", name)
	}
	slices.Sort(found)
	return found[len(found)-1]
}
