// Package host is the probe host.syntax: are the chosen host names and ports
// usable.
package host

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/airlock-project/airlock/install"
)

// Codes.
const (
	codeSyntax   = "HOST-01"
	codeMissing  = "HOST-02"
	codeReserved = "HOST-03"
	codeSame     = "HOST-04"
	codeOdd      = "HOST-05"
)

// Probe is host.syntax. Its zero value is ready and safe for concurrent use.
type Probe struct{}

// arguments are the step's with.
type arguments struct {
	Hosts    map[string]string `json:"hosts"`    // what it is for: the name
	Required []string          `json:"required"` // keys of hosts that must be there
	Ports    map[string]int64  `json:"ports"`    // what it is for: the port
	Reserved map[string]string `json:"reserved"` // port: what it is reserved for
}

// Codes implements install.Coder.
func (Probe) Codes() map[string][]string {
	return map[string][]string{
		codeSyntax:   {"name", "value", "reason"},
		codeMissing:  {"name"},
		codeReserved: {"name", "port", "reason"},
		codeSame:     {"name", "other", "value"},
		codeOdd:      {"name", "value", "reason"},
	}
}

// Offline implements install.Offline.
func (Probe) Offline() {}

// Run checks names by RFC 1123, that no two are equal, and ports.
func (Probe) Run(_ context.Context, in install.Input) (install.Result, error) {
	var a arguments
	if err := in.Decode(&a); err != nil {
		return install.Result{}, err
	}
	findings := slices.Concat(names(a), ports(a))
	if len(findings) == 0 && empty(a) {
		findings = append(findings, install.Finding{Code: codeMissing, Detail: "no host name is given", Fields: map[string]string{"name": "anything"}})
	}
	return install.Result{Findings: findings}, nil
}

// empty reports whether there was nothing to look at: neither a host name nor,
// where names are not asked for, a port.
func empty(a arguments) bool {
	for _, value := range a.Hosts {
		if value != "" {
			return false
		}
	}
	return len(a.Hosts) > 0 || len(a.Ports) == 0
}

func names(a arguments) []install.Finding {
	var out []install.Finding
	for _, key := range a.Required {
		if a.Hosts[key] == "" {
			out = append(out, install.Finding{Code: codeMissing, Detail: "no host name for " + key, Fields: map[string]string{"name": key}})
		}
	}
	seen := make(map[string]string)
	for _, key := range slices.Sorted(maps.Keys(a.Hosts)) {
		value := a.Hosts[key]
		if value == "" {
			continue
		}
		if err := install.CheckHostname(value); err != nil {
			out = append(out, install.Finding{Code: codeSyntax, Detail: err.Error(), Fields: map[string]string{"name": key, "value": value, "reason": err.Error()}})
			continue
		}
		if other, ok := seen[value]; ok {
			out = append(out, install.Finding{
				Code: codeSame, Detail: fmt.Sprintf("%s and %s are both %s", other, key, value),
				Fields: map[string]string{"name": key, "other": other, "value": value},
			})
		}
		seen[value] = key
		if why := odd(value); why != "" {
			out = append(out, install.Finding{
				Code: codeOdd, Severity: install.SeverityWarn, Detail: value + " " + why,
				Fields: map[string]string{"name": key, "value": value, "reason": why},
			})
		}
	}
	return out
}

// odd names what is legal and still breaks rules of browsers and authorities.
func odd(name string) string {
	switch {
	case !strings.Contains(name, "."):
		return "is a single label"
	case strings.HasSuffix(name, ".local"):
		return "ends in .local, which is multicast DNS"
	}
	return ""
}

func ports(a arguments) []install.Finding {
	var out []install.Finding
	for _, key := range slices.Sorted(maps.Keys(a.Ports)) {
		port := a.Ports[key]
		number := strconv.FormatInt(port, 10)
		reason, taken := a.Reserved[number]
		switch {
		case port < 1 || port > 65535:
			reason = "it is not between 1 and 65535"
		case taken:
			reason = "it is reserved for " + reason
		default:
			continue
		}
		out = append(out, install.Finding{
			Code: codeReserved, Detail: fmt.Sprintf("port %d of %s: %s", port, key, reason),
			Fields: map[string]string{"name": key, "port": number, "reason": reason},
		})
	}
	return out
}
