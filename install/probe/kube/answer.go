package kube

import (
	"cmp"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/dial"
)

// answerTime bounds each request to an ingress controller.
const answerTime = 10 * time.Second

// answers asks the controller at an address for the host, as a client would
// whose DNS knows it. Any answer will do, of HTTP or else of HTTPS: what the host
// leads to may not be installed yet.
func (a ingressArguments) answers(ctx context.Context, address string) []install.Finding {
	var reasons []string
	for _, way := range []struct {
		scheme string
		port   uint16
	}{{"http", cmp.Or(a.Request.HTTP, 80)}, {"https", cmp.Or(a.Request.HTTPS, 443)}} {
		at := net.JoinHostPort(address, strconv.Itoa(int(way.port)))
		err := a.ask(ctx, way.scheme, at)
		if err == nil || ctx.Err() != nil {
			return nil
		}
		reasons = append(reasons, at+": "+dial.Reason(err))
	}
	reason := strings.Join(reasons, "; ")
	return []install.Finding{a.Report(codeSilent, "nothing answers for "+a.Host+" at "+address+": "+reason,
		map[string]string{"class": a.Class, "address": address, "host": a.Host, "reason": reason})}
}

// ask sends one request for the host to an address, with host and port.
func (a ingressArguments) ask(ctx context.Context, scheme, at string) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+a.Host+"/", nil)
	if err != nil {
		return err
	}
	client := &http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, at)
			},
			// A controller has a certificate of its own until the host has one, which
			// other items look at. Nothing is sent but the host.
			TLSClientConfig: &tls.Config{ServerName: a.Host, InsecureSkipVerify: true}, //nolint:gosec // see above
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	_, _ = io.CopyN(io.Discard, resp.Body, 1<<10) // what it says does not matter
	return resp.Body.Close()
}
