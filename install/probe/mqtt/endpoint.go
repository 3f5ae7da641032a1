// Package mqtt holds two probes. mqtt.endpoint checks how a site names its
// broker; mqtt.dial asks the broker itself.
package mqtt

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/airlock-project/airlock/install"
)

// Codes.
const (
	codeUnreachable = "NET-01"
	codeType        = "MQTT-01"
	codeSyntax      = "MQTT-02"
	codeInside      = "MQTT-03"
	codePlain       = "MQTT-04"
	codeOpen        = "MQTT-05"
	codeRefused     = "MQTT-06"
	codeOther       = "MQTT-07"
)

// Forms of an endpoint.
const (
	formTLS  = "tls"  // tls://host:port
	formHost = "host" // a bare host name
)

// Endpoint is mqtt.endpoint. Its zero value is ready and safe for concurrent use.
type Endpoint struct{}

// endpointArguments are the step's with. What a type is called and what its
// endpoint looks like is the checklist's knowledge.
type endpointArguments struct {
	Type     string            `json:"type"`
	Types    map[string]string `json:"types"`   // type: form of its endpoint, tls or host
	Meant    map[string]string `json:"meant"`   // a value people write: the type they mean
	Refused  map[string]string `json:"refused"` // type: why not here; "" is no reason
	Endpoint string            `json:"endpoint"`
	Reserved map[string]string `json:"reserved"` // port: what it is reserved for
	External bool              `json:"external"` // clients come from outside
	Inside   []string          `json:"inside"`   // ends of names that only resolve inside
}

// Codes implements install.Coder.
func (Endpoint) Codes() map[string][]string {
	return map[string][]string{
		codeType:    {"value", "want"},
		codeSyntax:  {"endpoint", "reason"},
		codeInside:  {"endpoint", "host"},
		codeRefused: {"value", "reason"},
	}
}

// Offline implements install.Offline.
func (Endpoint) Offline() {}

// Run checks the type and the form of the endpoint; it connects nowhere.
func (Endpoint) Run(_ context.Context, in install.Input) (install.Result, error) {
	var a endpointArguments
	if err := in.Decode(&a); err != nil {
		return install.Result{}, err
	}
	if len(a.Types) == 0 {
		return install.Result{}, errors.New("want types, the types there are with the form of their endpoints")
	}
	form, ok := a.Types[a.Type]
	if !ok {
		return install.Result{Findings: []install.Finding{a.unknown()}}, nil
	}
	var found []install.Finding
	if reason := a.Refused[a.Type]; reason != "" {
		found = append(found, install.Finding{
			Code: codeRefused, Detail: fmt.Sprintf("%s: %s", a.Type, reason), Fields: map[string]string{"value": a.Type, "reason": reason},
		})
	}
	host, err := a.host(form)
	if err != nil {
		return install.Result{Findings: append(found, badEndpoint(a.Endpoint, err))}, nil
	}
	if a.External && slices.ContainsFunc(a.Inside, func(end string) bool { return end != "" && strings.HasSuffix(host, end) }) {
		found = append(found, install.Finding{
			Code: codeInside, Detail: fmt.Sprintf("%s resolves inside the cluster only", host), Fields: map[string]string{"endpoint": a.Endpoint, "host": host},
		})
	}
	return install.Result{Findings: found}, nil
}

func badEndpoint(endpoint string, err error) install.Finding {
	shown := endpoint
	if strings.Contains(shown, "@") { // it may hold a password
		shown = "(withheld: it holds an @)"
	}
	return install.Finding{Code: codeSyntax, Detail: fmt.Sprintf("%q: %s", shown, err), Fields: map[string]string{"endpoint": shown, "reason": err.Error()}}
}

func (a endpointArguments) unknown() install.Finding {
	want := a.Meant[a.Type]
	if want == "" {
		want = strings.Join(slices.Sorted(maps.Keys(a.Types)), " or ")
	}
	return install.Finding{
		Code: codeType, Detail: fmt.Sprintf("%q is not a type of broker; want %s", a.Type, want),
		Fields: map[string]string{"value": a.Type, "want": want},
	}
}

// host checks the endpoint and returns its host.
func (a endpointArguments) host(form string) (string, error) {
	switch form {
	case formTLS:
		host, port, err := splitTLS(a.Endpoint)
		if err != nil {
			return "", err
		}
		if what, taken := a.Reserved[port]; taken {
			return "", fmt.Errorf("port %s is reserved for %s", port, what)
		}
		return host, nil
	case formHost:
		if err := install.CheckHostname(a.Endpoint); err != nil {
			return "", err
		}
		return a.Endpoint, nil
	}
	return "", fmt.Errorf("types: form %q is not tls or host", form)
}

// splitTLS reads tls://host:port and accepts nothing else: that is how servers
// take it.
func splitTLS(s string) (host, port string, err error) {
	rest, ok := strings.CutPrefix(s, "tls://")
	switch {
	case s == "":
		return "", "", errors.New("no endpoint is given; want tls://host:port")
	case !ok:
		return "", "", errors.New("it does not begin with tls://")
	}
	host, port, ok = strings.Cut(rest, ":")
	if !ok || port == "" {
		return "", "", errors.New("it has no port; want tls://host:port")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", "", errors.New("its port is not a number between 1 and 65535")
	}
	if err := install.CheckHostname(host); err != nil {
		return "", "", err
	}
	return host, port, nil
}
