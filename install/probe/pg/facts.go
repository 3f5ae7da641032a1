package pg

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/postgres"
)

// queryFacts asks for everything that every user may know.
const queryFacts = `SELECT current_setting('server_version_num'), pg_is_in_recovery()::text, current_setting('default_transaction_read_only'),
 current_user::text, current_database()::text, current_setting('max_connections'), current_setting('server_encoding'),
 extract(epoch FROM clock_timestamp())::text, (SELECT pg_get_userbyid(datdba)::text FROM pg_database WHERE datname = current_database())`

// maxName bounds what a server calls anything: PostgreSQL's own limit is 63
// bytes, and builds with a larger one stay far below this.
const maxName = 1024

// querySystem asks for what some services keep to themselves.
const querySystem = `SELECT system_identifier::text FROM pg_control_system()`

// facts are what a server says of itself. They are kept as evidence.
type facts struct {
	Host           string  `json:"host"`
	User           string  `json:"user"`
	Database       string  `json:"database"`
	Owner          string  `json:"owner"`
	Version        int     `json:"server_version_num"`
	Standby        bool    `json:"standby"`
	ReadOnly       bool    `json:"default_transaction_read_only"`
	MaxConnections int     `json:"max_connections"`
	Encoding       string  `json:"server_encoding"`
	System         string  `json:"system_identifier"` // "" if it is not readable
	TLS            string  `json:"tls"`               // "" without
	SkewSeconds    float64 `json:"clock_skew_seconds"`
	rtt            time.Duration
}

func (f *facts) major() int { return f.Version / 10000 }

// fingerprint names a database so that another can be told from it.
func (f *facts) fingerprint() string {
	s := f.Host + "/" + f.Database
	if f.System != "" {
		s += "#" + f.System
	}
	return s
}

// learn asks the server.
func (l *look) learn(ctx context.Context) error {
	start := l.now()
	row, err := l.conn.Row(ctx, 9, queryFacts)
	if err != nil {
		return queryFailed("what the server is", err)
	}
	end := l.now()
	f := &l.facts
	f.Host, f.User, f.Database, f.Owner, f.Encoding = l.conn.Host.String(), row[3], row[4], row[8], row[6]
	for _, name := range row {
		if len(name) > maxName {
			return l.conn.Target.Foreign(l.conn.Host)
		}
	}
	f.Standby, f.ReadOnly = row[1] == "true", row[2] == "on"
	version, err1 := strconv.ParseUint(row[0], 10, 31)
	connections, err2 := strconv.ParseUint(row[5], 10, 31)
	epoch, err3 := strconv.ParseFloat(row[7], 64)
	if errors.Join(err1, err2, err3) != nil || version < 10000 || math.Abs(epoch) > 1e12 {
		return l.conn.Target.Foreign(l.conn.Host)
	}
	f.Version, f.MaxConnections, f.rtt = int(version), int(connections), end.Sub(start)
	middle := float64(start.UnixNano())/1e9 + f.rtt.Seconds()/2
	f.SkewSeconds = math.Round((epoch-middle)*1000) / 1000
	if l.conn.TLS != nil {
		f.TLS = tls.VersionName(l.conn.TLS.Version)
	}
	row, err = l.conn.Row(ctx, 1, querySystem)
	switch _, refused := errors.AsType[*postgres.QueryError](err); {
	case err == nil && len(row[0]) <= 20 && strings.Trim(row[0], "0123456789") == "": // 64 bits
		f.System = row[0]
	case err == nil:
		return l.conn.Target.Foreign(l.conn.Host)
	case !refused:
		return err
	}
	return nil
}

// queryFailed says which question the server refused. Other errors pass as
// they are.
func queryFailed(what string, err error) error {
	if q, ok := errors.AsType[*postgres.QueryError](err); ok {
		return fmt.Errorf("ask PostgreSQL %s: %w", what, q)
	}
	return err
}

// version compares the major version with those that are supported.
func (l *look) version() {
	if len(l.Majors) == 0 || slices.Contains(l.Majors, l.facts.major()) {
		return
	}
	list := make([]string, len(l.Majors))
	for i, m := range slices.Sorted(slices.Values(l.Majors)) {
		list[i] = strconv.Itoa(m)
	}
	fields := map[string]string{
		"major": strconv.Itoa(l.facts.major()), "version": versionText(l.facts.Version), "supported": strings.Join(list, ", "),
	}
	detail := fmt.Sprintf("it runs PostgreSQL %s, supported are %s", fields["version"], fields["supported"])
	if l.facts.major() > slices.Max(l.Majors) {
		l.add(codeUntested, install.Severity(l.Untested), detail, fields)
		return
	}
	l.add(codeVersion, install.SeverityFail, detail, fields)
}

// versionText writes server_version_num as people know it: 150018 is 15.18.
func versionText(n int) string {
	if n < 100000 {
		return fmt.Sprintf("%d.%d.%d", n/10000, n/100%100, n%100)
	}
	return fmt.Sprintf("%d.%d", n/10000, n%10000)
}

// role checks what part the server plays, and reports whether it takes writes.
func (l *look) role() bool {
	if l.SameAs != "" && l.facts.System != "" && l.facts.System != l.SameAs {
		reason := fmt.Sprintf("its system identifier is %s, that of the primary is %s", l.facts.System, l.SameAs)
		l.add(codeCluster, install.SeverityFail, reason, map[string]string{"reason": reason})
	}
	reason := ""
	switch {
	case l.facts.Standby:
		reason = "it is a standby, which takes no writes"
	case l.facts.ReadOnly:
		reason = "default_transaction_read_only is on for this role or database"
	default:
		return true
	}
	if l.Primary {
		l.add(codeStandby, install.SeverityFail, reason, map[string]string{"reason": reason})
	}
	return false
}

// settings compares what the server reports with what is wanted. What is out
// of order slows or garbles; it does not stop an installation.
func (l *look) settings() {
	off := func(setting, value, want string) {
		l.add(codeSetting, install.SeverityWarn, fmt.Sprintf("%s is %s, want %s", setting, value, want), map[string]string{"setting": setting, "value": value, "want": want})
	}
	if l.facts.MaxConnections < l.MinConnections {
		off("max_connections", strconv.Itoa(l.facts.MaxConnections), strconv.Itoa(l.MinConnections)+" or more")
	}
	if l.Encoding != "" && l.facts.Encoding != l.Encoding {
		off("server_encoding", l.facts.Encoding, l.Encoding)
	}
	if ip := net.ParseIP(l.conn.Host.Name); l.conn.TLS == nil && l.conn.Host.Name != "localhost" && (ip == nil || !ip.IsLoopback()) {
		off("ssl", "off", "on: passwords and data cross the network in the clear")
	}
	if d := math.Abs(l.facts.SkewSeconds) - l.facts.rtt.Seconds()/2; l.skew > 0 && d > l.skew.Seconds() {
		off("clock", fmt.Sprintf("%+.0f s from this machine's", l.facts.SkewSeconds), "at most "+l.skew.String())
	}
}
