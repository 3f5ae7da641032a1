// Package dial is what steps that look at a live endpoint share: connecting
// within a time, the reason why that did not work in a person's words, TLS that
// records what is presented before it judges it, and endpoints as sites write
// them.
package dial

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// DefaultTimeout bounds one connection with its first exchange: a dropped packet
// gives no answer at all.
const DefaultTimeout = 5 * time.Second

// Timeout reads a step's timeout; "" is DefaultTimeout.
func Timeout(s string) (time.Duration, error) {
	if s == "" {
		return DefaultTimeout, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("timeout %q is not a duration such as 5s", s)
	}
	return d, nil
}

// Endpoint is a host and a port, and the scheme if one was given. It holds
// neither user nor password of the URL it came from.
type Endpoint struct {
	Scheme string
	Host   string
	Port   string
	Path   string // of a URL, with its query
}

// Address is host:port as net.Dial takes it.
func (e Endpoint) Address() string { return net.JoinHostPort(e.Host, e.Port) }

// Parse reads host:port or a URL. port stands in where none is given; without
// one that is an error. The error never quotes a URL: it may hold a password.
func Parse(s, port string) (Endpoint, error) {
	var e Endpoint
	if strings.Contains(s, "://") {
		u, err := url.Parse(s)
		if err != nil || u.Host == "" {
			return e, errors.New("it is not a URL such as https://host:443")
		}
		e = Endpoint{Scheme: u.Scheme, Host: u.Hostname(), Port: u.Port(), Path: u.RequestURI()}
	} else {
		host, p, err := net.SplitHostPort(s)
		if err != nil {
			host = strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")
		}
		e = Endpoint{Host: host, Port: p}
	}
	if e.Port == "" {
		e.Port = port
	}
	if n, err := strconv.ParseUint(e.Port, 10, 16); err != nil || n == 0 {
		return e, errors.New("it has no port between 1 and 65535")
	}
	if e.Host == "" || strings.ContainsAny(e.Host, " /@?#%") || len(e.Host) > 253 {
		return e, errors.New("it has no host name")
	}
	return e, nil
}

// TCP connects within wait.
func TCP(ctx context.Context, address string, wait time.Duration) (net.Conn, error) {
	d := net.Dialer{Timeout: wait}
	return d.DialContext(ctx, "tcp", address)
}

// Bound ends every read and write on conn after wait and when ctx ends. The
// caller calls the function returned once it is done with conn.
func Bound(ctx context.Context, conn net.Conn, wait time.Duration) (release func() bool, err error) {
	if err := conn.SetDeadline(time.Now().Add(wait)); err != nil {
		return nil, fmt.Errorf("set deadline: %w", err)
	}
	return context.AfterFunc(ctx, func() {
		// It fails only on a connection that is closed, which is as good.
		_ = conn.SetDeadline(time.Unix(1, 0))
	}), nil
}

// Reason says in a few words why a connection could not be made.
func Reason(err error) string {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		switch {
		case dns.IsNotFound:
			return "the name does not exist: no such host"
		case dns.IsTimeout:
			return "the name server does not answer"
		}
		return "the name cannot be resolved"
	}
	if TimedOut(err) {
		return "timeout: packets are dropped, by a firewall or a missing route"
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused: nothing listens there, or a firewall rejects"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "no route to the host"
	case errors.Is(err, syscall.ECONNRESET):
		return "the connection was reset"
	}
	return "no connection"
}

// TimedOut reports whether nothing came in time.
func TimedOut(err error) bool {
	t, ok := errors.AsType[net.Error](err)
	return ok && t.Timeout() || errors.Is(err, context.DeadlineExceeded)
}
