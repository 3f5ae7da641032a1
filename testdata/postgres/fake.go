// Package postgres has PostgreSQL servers for tests: in process, speaking the
// wire protocol and answering as a server of any version would (Fake), and under
// the build tag all a real cluster in a temporary directory (Cluster).
package postgres

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// Fake is a server that answers what the steps ask. The zero value refuses a
// session without password; its other fields may be set before Start.
type Fake struct {
	TLS      *tls.Config // nil refuses TLS
	Password string      // "" takes any
	Database Database
	// Refuse maps the beginning of a statement to SQLSTATE and message. The empty
	// beginning refuses the session.
	Refuse map[string][2]string
	// Cut ends the connection when a statement begins so.
	Cut string
	// Hang calls Hanging when a statement begins so, and answers no more.
	Hang    string
	Hanging func()

	Port string // after Start

	mu         sync.Mutex
	startup    map[string]string
	statements []string
}

// Database is what a Fake says of itself.
type Database struct {
	Version        int // server_version_num
	Standby        bool
	ReadOnly       bool
	User, Name     string
	MaxConnections int
	Encoding       string
	Behind         time.Duration // of its clock
	System         string        // system identifier; "" keeps it secret
	NoCreate       bool          // in the database
	Schema         string        // may create in the schema: "true", "false", "" if there is none
	NoRoles        bool
	Relations      [][]string  // schema and name
	Archiver       []string    // archive_mode, last WAL, seconds since it and since the last failure
	Guards         func() bool // answers any other SELECT
}

// Healthy is a database that nothing is wrong with.
func Healthy(version int) Database {
	return Database{
		Version: version, User: "spacelift", Name: "spacelift", MaxConnections: 200, Encoding: "UTF8",
		System: "7300000000000000001", Schema: "true", Archiver: []string{"on", "000000010000000000000002", "60", ""},
	}
}

// Start serves on 127.0.0.1 until the test ends and returns the port.
func (f *Fake) Start(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[c] = true
			mu.Unlock()
			all.Go(func() {
				// A client that goes away is how sessions end.
				_ = f.serve(c)
				_ = c.Close()
			})
		}
	})
	_, f.Port, _ = net.SplitHostPort(l.Addr().String())
	return f.Port
}

// Startup is what the last client sent when its session began.
func (f *Fake) Startup() map[string]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.startup
}

// Statements are what clients ran, in order.
func (f *Fake) Statements() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.statements...)
}

func (f *Fake) serve(conn net.Conn) error {
	b := pgproto3.NewBackend(conn, conn)
	for {
		m, err := b.ReceiveStartupMessage()
		if err != nil {
			return err
		}
		switch m := m.(type) {
		case *pgproto3.SSLRequest:
			if f.TLS == nil {
				if _, err := io.WriteString(conn, "N"); err != nil {
					return err
				}
				continue
			}
			if _, err := io.WriteString(conn, "S"); err != nil {
				return err
			}
			conn = tls.Server(conn, f.TLS)
			b = pgproto3.NewBackend(conn, conn)
		case *pgproto3.StartupMessage:
			f.mu.Lock()
			f.startup = m.Parameters
			f.mu.Unlock()
			if err := f.login(b); err != nil {
				return err
			}
			return f.session(b)
		default:
			return nil
		}
	}
}

func (f *Fake) login(b *pgproto3.Backend) error {
	if f.Password != "" {
		b.Send(&pgproto3.AuthenticationCleartextPassword{})
		if err := b.SetAuthType(pgproto3.AuthTypeCleartextPassword); err != nil {
			return err
		}
		if err := b.Flush(); err != nil {
			return err
		}
		m, err := b.Receive()
		if err != nil {
			return err
		}
		if p, ok := m.(*pgproto3.PasswordMessage); !ok || p.Password != f.Password {
			b.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "28P01", Message: "password authentication failed"})
			return b.Flush()
		}
	}
	if r, ok := f.Refuse[""]; ok {
		b.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: r[0], Message: r[1]})
		return b.Flush()
	}
	b.Send(&pgproto3.AuthenticationOk{})
	for k, v := range map[string]string{"standard_conforming_strings": "on", "client_encoding": "UTF8"} {
		b.Send(&pgproto3.ParameterStatus{Name: k, Value: v})
	}
	b.Send(&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte{1, 2, 3, 4}})
	b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	return b.Flush()
}

// session answers statements of the extended protocol.
func (f *Fake) session(b *pgproto3.Backend) error {
	var sql string
	var failed bool
	for {
		m, err := b.Receive()
		if err != nil {
			return err
		}
		switch m := m.(type) {
		case *pgproto3.Parse:
			sql, failed = m.Query, false
			if f.Cut != "" && strings.HasPrefix(sql, f.Cut) {
				return nil
			}
			if f.Hang != "" && strings.HasPrefix(sql, f.Hang) {
				f.Hanging()
				for err == nil {
					_, err = b.Receive()
				}
				return err
			}
			f.mu.Lock()
			f.statements = append(f.statements, sql)
			f.mu.Unlock()
			b.Send(&pgproto3.ParseComplete{})
			for start, r := range f.Refuse {
				if start != "" && strings.HasPrefix(sql, start) {
					failed = true
					b.Send(&pgproto3.ErrorResponse{Severity: "ERROR", Code: r[0], Message: r[1]})
				}
			}
		case *pgproto3.Bind:
			if !failed {
				b.Send(&pgproto3.BindComplete{})
			}
		case *pgproto3.Describe:
			if !failed {
				b.Send(description(f.Database.answer(sql)))
			}
		case *pgproto3.Execute:
			if !failed {
				for _, row := range f.Database.answer(sql) {
					b.Send(dataRow(row))
				}
				b.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")})
			}
		case *pgproto3.Sync:
			b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
			if err := b.Flush(); err != nil {
				return err
			}
		case *pgproto3.Terminate:
			return nil
		}
	}
}

func description(rows [][]string) pgproto3.BackendMessage {
	if len(rows) == 0 {
		return &pgproto3.NoData{}
	}
	d := &pgproto3.RowDescription{}
	for range rows[0] {
		d.Fields = append(d.Fields, pgproto3.FieldDescription{Name: []byte("c"), DataTypeOID: 25, DataTypeSize: -1, TypeModifier: -1})
	}
	return d
}

func dataRow(row []string) *pgproto3.DataRow {
	d := &pgproto3.DataRow{}
	for _, v := range row {
		d.Values = append(d.Values, []byte(v))
	}
	return d
}

// answer is what the database says to a statement.
func (d *Database) answer(sql string) [][]string {
	onOff := map[bool]string{true: "on", false: "off"}
	switch {
	case strings.Contains(sql, "server_version_num"):
		now := float64(time.Now().Add(-d.Behind).UnixMicro()) / 1e6
		return [][]string{{
			fmt.Sprint(d.Version), fmt.Sprint(d.Standby), onOff[d.ReadOnly], d.User, d.Name, fmt.Sprint(d.MaxConnections), d.Encoding,
			fmt.Sprintf("%.6f", now), "postgres",
		}}
	case strings.Contains(sql, "pg_control_system"):
		return [][]string{{d.System}}
	case strings.Contains(sql, "has_database_privilege(current_database()"):
		return [][]string{{fmt.Sprint(!d.NoCreate), d.Schema, fmt.Sprint(!d.NoRoles)}}
	case strings.Contains(sql, "FROM pg_class"):
		return d.Relations
	case strings.Contains(sql, "pg_stat_archiver"):
		return [][]string{d.Archiver}
	case strings.HasPrefix(sql, "SELECT") && d.Guards != nil:
		return [][]string{{fmt.Sprint(d.Guards())}}
	}
	return nil
}

// Authority is a certificate authority of its own.
type Authority struct {
	Path string // of its certificate, PEM
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewAuthority makes one in a temporary directory.
func NewAuthority(t testing.TB, name string) *Authority {
	t.Helper()
	a := &Authority{Path: filepath.Join(t.TempDir(), "ca.pem")}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	var der []byte
	a.key, der = issue(t, template, template, nil)
	var err error
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(a.Path, encode("CERTIFICATE", der), 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

// Issue makes a server's certificate and key for host names and addresses, in
// PEM.
func (a *Authority) Issue(t testing.TB, hosts ...string) (cert, key []byte) {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: hosts[0]}, NotBefore: a.cert.NotBefore, NotAfter: a.cert.NotAfter,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	private, der := issue(t, template, a.cert, a.key)
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return encode("CERTIFICATE", der), encode("PRIVATE KEY", raw)
}

// Server is the TLS of a server with a certificate for hosts.
func (a *Authority) Server(t testing.TB, hosts ...string) *tls.Config {
	t.Helper()
	pair, err := tls.X509KeyPair(a.Issue(t, hosts...))
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}}
}

// issue makes a key and signs a certificate for it; without a signer it signs
// itself.
func issue(t testing.TB, template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if signer == nil {
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	return key, der
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
