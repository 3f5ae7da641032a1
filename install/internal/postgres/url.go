package postgres

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const (
	// maxURL bounds a connection URL: libpq's own is below 1 KiB, a URL with
	// several hosts has a few.
	maxURL = 8 << 10
	// maxHosts bounds the hosts of one URL: each is tried in turn.
	maxHosts    = 8
	defaultPort = "5432"
)

// Values of sslmode (PostgreSQL documentation, section 34.19).
const (
	sslDisable    = "disable"
	sslAllow      = "allow"
	sslPrefer     = "prefer"
	sslRequire    = "require"
	sslVerifyCA   = "verify-ca"
	sslVerifyFull = "verify-full"
)

// clientSide lists options of a URL that are for the client, in libpq and in
// common drivers. Sent to the server they end the connection with
// "unrecognized configuration parameter".
var clientSide = []string{
	"binary_parameters", "channel_binding", "connect_timeout", "default_query_exec_mode", "description_cache_capacity",
	"disable_prepared_binary_result", "fallback_application_name", "gssdelegation", "gssencmode", "gsslib", "keepalives",
	"keepalives_count", "keepalives_idle", "keepalives_interval", "krbspn", "krbsrvname", "load_balance_hosts",
	"max_protocol_version", "min_protocol_version", "passfile", "prefer_simple_protocol", "prepareThreshold", "replication",
	"require_auth", "requirepeer", "requiressl", "service", "servicefile", "ssl_max_protocol_version", "ssl_min_protocol_version",
	"sslcertmode", "sslcompression", "sslcrl", "sslcrldir", "sslpassword", "sslsni", "statement_cache_capacity", "statement_cache_mode",
	"tcp_user_timeout",
}

// Target is where a connection URL leads. Its exported fields may be shown.
type Target struct {
	Hosts    []Host // in the order in which they are tried, at least one
	User     string
	Database string
	Mode     string // sslmode

	raw      string
	secrets  []string // the password as written and decoded
	password string
	attrs    string            // target_session_attrs
	direct   bool              // sslnegotiation=direct
	rootCert string            // sslrootcert
	cert     string            // sslcert
	key      string            // sslkey
	params   map[string]string // for the server
}

// Host is one server of a URL.
type Host struct{ Name, Port string }

// String returns host:port.
func (h Host) String() string { return net.JoinHostPort(h.Name, h.Port) }

// Parse reads a URL as libpq does (PostgreSQL documentation, section 34.1.1.2),
// without looking at the environment or at files. It refuses what libpq and
// other readers of URLs understand differently, which is a reserved character
// that is not percent-encoded. The error is an *Error of kind BadURL and shows
// nothing of the URL.
func Parse(raw string) (*Target, error) {
	t := &Target{raw: raw, Mode: sslPrefer, params: map[string]string{"application_name": "airlock"}}
	rest, err := scheme(raw)
	if err != nil {
		return nil, err
	}
	authority, path, query, err := split(rest)
	if err != nil {
		return nil, err
	}
	user, hosts := authority, ""
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		user, hosts = authority[:i], authority[i+1:]
	} else {
		user, hosts = "", authority
	}
	if err := t.login(user); err != nil {
		return nil, err
	}
	if t.Database, err = url.PathUnescape(path); err != nil {
		return nil, badURL("the name of the database has a % that no two hex digits follow: write %% as %25")
	}
	options, err := url.ParseQuery(query)
	if err != nil {
		return nil, badURL("its options cannot be read: percent-encode what is not a letter or digit")
	}
	t.options(options, &hosts)
	if t.Hosts, err = hostList(hosts); err != nil {
		return nil, err
	}
	return t, t.complete()
}

// scheme checks the ends of a URL and returns what follows the scheme.
func scheme(raw string) (string, error) {
	switch {
	case raw == "":
		return "", badURL("it is empty")
	case len(raw) > maxURL:
		return "", badURL(fmt.Sprintf("it is longer than %d bytes", maxURL))
	case strings.TrimSpace(raw) != raw:
		return "", badURL("it begins or ends with a space or a line end")
	}
	for _, s := range []string{"postgres://", "postgresql://"} {
		if rest, ok := strings.CutPrefix(raw, s); ok {
			return rest, nil
		}
	}
	return "", badURL("it does not begin with postgres://")
}

// split cuts a URL without its scheme into its parts. A reserved character in
// the password moves the limits between them, which shows as an @ in the wrong
// place.
func split(rest string) (authority, path, query string, err error) {
	const encode = "the password holds a reserved character as it is; percent-encode it: / is %2F, ? is %3F, # is %23, @ is %40, % is %25"
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, rest = rest[:i], rest[i:]
	} else {
		authority, rest = rest, ""
	}
	switch {
	case strings.Count(authority, "@") > 1, strings.ContainsAny(rest, "#@"):
		return "", "", "", badURL(encode)
	}
	path, query, _ = strings.Cut(rest, "?")
	return authority, strings.TrimPrefix(path, "/"), query, nil
}

// login reads user:password.
func (t *Target) login(s string) error {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~!$&'()*+,;=:%") != "" {
		return badURL("user or password hold a character that must be percent-encoded, such as a space, [, ], {, }, \\, ^ or a letter outside ASCII")
	}
	user, password, _ := strings.Cut(s, ":")
	var err error
	if t.User, err = url.PathUnescape(user); err == nil {
		t.password, err = url.PathUnescape(password)
	}
	if err != nil {
		return badURL("user or password have a % that no two hex digits follow: write % as %25")
	}
	t.secrets = append(t.secrets, password, t.password)
	return nil
}

// options reads what follows the question mark. hosts is replaced where an
// option names them.
func (t *Target) options(q url.Values, hosts *string) {
	host, port := "", ""
	for key, values := range q {
		v := values[len(values)-1]
		switch key {
		case "user":
			t.User = v
		case "password":
			t.password = v
			t.secrets = append(t.secrets, v)
		case "dbname":
			t.Database = v
		case "host":
			host = v
		case "port":
			port = v
		case "sslmode":
			t.Mode = v
		case "ssl":
			t.Mode = map[string]string{"true": sslRequire}[v]
		case "sslrootcert":
			t.rootCert = v
		case "sslcert":
			t.cert = v
		case "sslkey":
			t.key = v
		case "sslnegotiation":
			t.direct = v == "direct"
		case "target_session_attrs":
			t.attrs = v
		default:
			if !slices.Contains(clientSide, key) && !strings.HasPrefix(key, "pool_") {
				t.params[key] = v
			}
		}
	}
	if host != "" {
		*hosts = host
		if port != "" {
			*hosts = net.JoinHostPort(host, port)
		}
	}
}

// hostList reads host:port,host:port.
func hostList(s string) ([]Host, error) {
	parts := strings.Split(s, ",")
	if len(parts) > maxHosts {
		return nil, badURL(fmt.Sprintf("it names more than %d hosts", maxHosts))
	}
	var out []Host
	for _, part := range parts {
		h := Host{Name: part, Port: defaultPort}
		if inner, ok := strings.CutPrefix(part, "["); ok {
			name, after, closed := strings.Cut(inner, "]")
			if !closed || after != "" && after[0] != ':' {
				return nil, badURL("an IPv6 address is written as [address]:port")
			}
			h.Name = name
			if after != "" {
				h.Port = after[1:]
			}
		} else if name, port, ok := strings.Cut(part, ":"); ok {
			h.Name, h.Port = name, port
		}
		if h.Name == "" || strings.HasPrefix(h.Name, "/") || strings.HasPrefix(strings.ToLower(h.Name), "%2f") {
			return nil, badURL("it names no host; components connect over the network, so name one")
		}
		// What stands here may be the rest of a password: it is not shown.
		if strings.Trim(h.Name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:") != "" {
			return nil, badURL("what stands between @ and the database is not a host name; a reserved character in the password must be percent-encoded")
		}
		if n, err := strconv.ParseUint(h.Port, 10, 16); err != nil || n == 0 {
			return nil, badURL("the port is not a number from 1 to 65535; a reserved character in the password must be percent-encoded")
		}
		out = append(out, h)
	}
	return out, nil
}

// complete checks the whole.
func (t *Target) complete() error {
	for _, s := range []string{t.User, t.password, t.Database} {
		if strings.ContainsRune(s, 0) {
			return badURL("it holds %00, which no server takes")
		}
	}
	switch {
	case t.User == "":
		return badURL("it names no user")
	case !slices.Contains([]string{sslDisable, sslAllow, sslPrefer, sslRequire, sslVerifyCA, sslVerifyFull}, t.Mode):
		return badURL("sslmode is not one of disable, allow, prefer, require, verify-ca, verify-full")
	case t.attrs != "" && attributes[t.attrs] == nil && t.attrs != "any":
		return badURL("target_session_attrs is not one of any, read-write, read-only, primary, standby, prefer-standby")
	}
	if t.Database == "" {
		t.Database = t.User // as libpq
	}
	return nil
}

// InDatabase returns a copy of t that connects to another database of the same
// server.
func (t *Target) InDatabase(name string) *Target {
	c := *t
	c.Database = name
	return &c
}
