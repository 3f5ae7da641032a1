package dial

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
)

func TestReason(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{&net.DNSError{IsNotFound: true}, "no such host"},
		{&net.DNSError{IsTimeout: true}, "name server does not answer"},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, "refused"},
		{&net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}, "timeout"},
		{context.DeadlineExceeded, "timeout"},
		{os.NewSyscallError("connect", syscall.EHOSTUNREACH), "no route"},
		{errors.New("odd"), "no connection"},
	} {
		if got := Reason(c.err); !strings.Contains(got, c.want) {
			t.Errorf("%v: %q, want %q", c.err, got, c.want)
		}
	}
}

func TestParse(t *testing.T) {
	for in, want := range map[string]Endpoint{
		"db.site.example:5432":                 {Host: "db.site.example", Port: "5432"},
		"git.site.example":                     {Host: "git.site.example", Port: "443"},
		"[::1]:9":                              {Host: "::1", Port: "9"},
		"::1":                                  {Host: "::1", Port: "443"},
		"https://u:hunter2@git.site.example/x": {Scheme: "https", Host: "git.site.example", Port: "443", Path: "/x"},
	} {
		if got, err := Parse(in, "443"); err != nil || got != want {
			t.Errorf("%s: %+v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", ":443", "host:0", "host:65536", "host:http", "https://", "https://u:hunter2@:1", "a b:1", "user@host:22", "postgres://u:hunter2%@h/x"} {
		if got, err := Parse(in, "443"); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %+v, %v", in, got, err)
		}
	}
	if _, err := Parse("host", ""); err == nil {
		t.Error("an endpoint without a port is accepted")
	}
}

func TestTimeout(t *testing.T) {
	for _, s := range []string{"soon", "-1s", "0s"} {
		if _, err := Timeout(s); err == nil {
			t.Errorf("%s is accepted", s)
		}
	}
}
