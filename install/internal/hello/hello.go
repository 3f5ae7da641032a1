// Package hello holds the first words of protocols: enough to know that the
// right service answers, without logging in.
package hello

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/airlock-project/airlock/install/internal/dial"
)

// What can be wrong with an answer.
var (
	// ErrSilent: the connection stands and nothing comes back in time.
	ErrSilent = errors.New("the connection stands, and no answer comes")
	// ErrOpen: a client without credentials is let in.
	ErrOpen = errors.New("it accepts a client without credentials")
)

// maxAnswer bounds what is read of an answer.
const maxAnswer = 64 << 10

// connect is a CONNECT of MQTT 3.1.1 (section 3.1): clean session, keep-alive of
// 10 s, an empty client identifier, no user name and no password.
var connect = []byte{0x10, 12, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 10, 0, 0}

// MQTT connects without credentials. A refusal and a connection that is closed
// are what is wanted: nil. The caller bounds the time on conn.
func MQTT(conn io.ReadWriter) error {
	if _, err := conn.Write(connect); err != nil {
		return nil //nolint:nilerr // closed
	}
	var b [4]byte
	n, err := io.ReadFull(conn, b[:])
	switch {
	case n == 0 && dial.TimedOut(err):
		return ErrSilent
	case n == 0:
		return nil //nolint:nilerr // closed
	}
	// CONNACK (section 3.2): type 2, two more bytes, flags, return code.
	if n < len(b) || binary.BigEndian.Uint16(b[:2]) != 0x2002 || b[2] > 1 {
		return errors.New("what answers does not speak MQTT")
	}
	if b[3] == 0 {
		return ErrOpen
	}
	return nil
}

// HTTP asks for path and wants any answer of HTTP at all; it returns its status
// code.
func HTTP(ctx context.Context, conn io.ReadWriter, host, path string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+path, nil)
	if err != nil {
		return 0, fmt.Errorf("path %q: %w", path, err)
	}
	req.Close = true
	if err := req.Write(conn); err != nil {
		return 0, fmt.Errorf("send request: %w", err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, maxAnswer)), req)
	if err != nil {
		if dial.TimedOut(err) {
			return 0, ErrSilent
		}
		return 0, errors.New("what answers does not speak HTTP")
	}
	// Only the status counts; the connection is closed by the caller.
	_ = resp.Body.Close()
	return resp.StatusCode, nil
}

// sslRequest asks a PostgreSQL server for TLS (protocol 3.0, "SSLRequest").
var sslRequest = []byte{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f}

// Postgres asks for TLS and reports whether it may start now.
func Postgres(conn net.Conn) (startTLS bool, err error) {
	if _, err := conn.Write(sslRequest); err != nil {
		return false, fmt.Errorf("send SSLRequest: %w", err)
	}
	var b [1]byte
	if _, err := io.ReadFull(conn, b[:]); err != nil {
		if dial.TimedOut(err) {
			return false, ErrSilent
		}
		return false, errors.New("it closes the connection at the first message of PostgreSQL")
	}
	switch b[0] {
	case 'S':
		return true, nil
	case 'N', 'E': // no TLS, or a server that is busy: it is PostgreSQL
		return false, nil
	}
	return false, errors.New("what answers does not speak PostgreSQL")
}
