package mqtt

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/dial"
	"github.com/airlock-project/airlock/install/internal/hello"
)

// Dial is mqtt.dial. Its zero value is ready and safe for concurrent use.
type Dial struct{}

// dialArguments are the step's with.
type dialArguments struct {
	Endpoint string `json:"endpoint"` // tls://host:port, or host:port
	Address  string `json:"address"`  // to connect to instead, such as a load balancer; its port is the endpoint's if it has none
	External bool   `json:"external"` // an address is needed: the endpoint's name may not lead there yet
	Name     string `json:"name"`     // sent as server name; default: the endpoint's host
	CA       string `json:"ca"`       // PEM file: whether the chain is trusted is reported, not required
	Timeout  string `json:"timeout"`
}

// Codes implements install.Coder.
func (Dial) Codes() map[string][]string {
	return map[string][]string{
		codeUnreachable: {"endpoint", "host", "port", "reason"},
		codeSyntax:      {"endpoint", "reason"},
		codeInside:      {"endpoint", "host"},
		codePlain:       {"endpoint", "reason"},
		codeOpen:        {"endpoint"},
		codeOther:       {"endpoint", "reason"},
	}
}

// Run connects, starts TLS, and sends a CONNECT of MQTT 3.1.1 without
// credentials, which a broker must refuse. What it presents is evidence; which
// authority it should come from is not documented for every broker, so a chain
// that is not trusted is reported for information.
func (Dial) Run(ctx context.Context, in install.Input) (install.Result, error) {
	var a dialArguments
	if err := in.Decode(&a); err != nil {
		return install.Result{}, err
	}
	wait, err := dial.Timeout(a.Timeout)
	if err != nil {
		return install.Result{}, err
	}
	at, problem := a.target()
	if problem != nil {
		return install.Result{Findings: []install.Finding{*problem}}, nil
	}
	conn, err := dial.TCP(ctx, at.Address(), wait)
	if ctx.Err() != nil {
		return install.Result{}, ctx.Err()
	}
	if err != nil {
		return finding(codeUnreachable, at, dial.Reason(err)), nil
	}
	defer conn.Close()
	release, err := dial.Bound(ctx, conn, wait)
	if err != nil {
		return install.Result{}, err
	}
	defer release()
	res, err := a.talk(ctx, conn, at)
	if ctx.Err() != nil {
		return install.Result{}, ctx.Err()
	}
	return res, err
}

// target is where to connect; the name that clients use stays the endpoint's.
func (a *dialArguments) target() (dial.Endpoint, *install.Finding) {
	at, err := dial.Parse(a.Endpoint, "")
	if err != nil {
		f := badEndpoint(a.Endpoint, err)
		return at, &f
	}
	if a.Name == "" {
		a.Name = at.Host
	}
	if a.Address == "" {
		if a.External {
			return at, &install.Finding{
				Code: codeInside, Detail: at.Host + ": no address outside the cluster is given",
				Fields: map[string]string{"endpoint": at.Address(), "host": at.Host},
			}
		}
		return at, nil
	}
	if at, err = dial.Parse(a.Address, at.Port); err != nil {
		f := badEndpoint(a.Address, err)
		return at, &f
	}
	return at, nil
}

func finding(code string, at dial.Endpoint, reason string) install.Result {
	fields := map[string]string{"endpoint": at.Address(), "reason": reason}
	switch code {
	case codeUnreachable:
		fields["host"], fields["port"] = at.Host, at.Port
	case codeOpen:
		delete(fields, "reason")
	}
	return install.Result{Findings: []install.Finding{{Code: code, Detail: at.Address() + ": " + reason, Fields: fields}}}
}

// talk starts TLS on conn and says hello.
func (a dialArguments) talk(ctx context.Context, conn net.Conn, at dial.Endpoint) (install.Result, error) {
	name := a.Name
	if net.ParseIP(name) != nil {
		name = ""
	}
	secure, seen, err := dial.Handshake(ctx, conn, name, 0, 0)
	if err != nil && (!seen.Asked || len(seen.Chain) == 0) {
		return finding(codePlain, at, dial.NotTLS(err)), nil
	}
	var res install.Result
	if err == nil { // one that asks for our certificate and ends there has refused
		switch err := hello.MQTT(secure); {
		case errors.Is(err, hello.ErrOpen):
			res = finding(codeOpen, at, err.Error())
		case errors.Is(err, hello.ErrSilent):
			res = finding(codeOther, at, err.Error())
			res.Findings[0].Severity = install.SeverityWarn
		case err != nil:
			res = finding(codeOther, at, err.Error())
		}
	}
	note, err := a.trust(seen)
	if err != nil {
		return install.Result{}, err
	}
	res.Findings = append(res.Findings, note)
	res.Evidence = []install.Evidence{{Name: "chain", Media: "application/x-pem-file", Data: dial.PEM(seen.Chain)}}
	return res, nil
}

// trust says what is presented and whether the site's authorities vouch for it.
func (a dialArguments) trust(seen dial.Presented) (install.Finding, error) {
	roots, err := dial.Pool(a.CA)
	if err != nil {
		return install.Finding{}, fmt.Errorf("ca: %w", err)
	}
	text := "no certificate is presented"
	if len(seen.Chain) > 0 {
		text = fmt.Sprintf("it presents %s, issued by %s", seen.Chain[0].Subject, seen.Chain[0].Issuer)
		if faults := dial.Judge(seen.Chain, dial.Wish{Name: a.Name, Roots: roots, Now: time.Now()}); len(faults) > 0 {
			text += "; clients that check it will not trust it: " + faults[0].Reason
		}
	}
	return install.Finding{Severity: install.SeverityInfo, Detail: text}, nil
}
