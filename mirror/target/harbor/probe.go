package harbor

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/airlock-project/airlock/bundle/remote"
)

// probeTimeout is short: a registry that does not say what it is in this time
// is asked for what matters, with more patience.
const probeTimeout = 10 * time.Second

// Probe reports whether host, HOST[:PORT], is a Harbor, by asking for the
// system information that Harbor shows to anyone. It sends no credential and
// keeps no cookie. A host that is spoken to without TLS is written
// "http://HOST[:PORT]". The error says that no answer came; any answer that is
// not Harbor's is a plain no.
func Probe(ctx context.Context, client *http.Client, host string) (bool, error) {
	scheme := "https://"
	if bare, plain := strings.CutPrefix(host, "http://"); plain {
		scheme, host = "http://", bare
	}
	if !hostPort.MatchString(host) {
		return false, fmt.Errorf("probe %q for Harbor: not HOST[:PORT]", host)
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+host+"/api/v2.0/systeminfo", nil)
	if err != nil {
		return false, fmt.Errorf("probe %q for Harbor: %w", host, err)
	}
	req.Header.Set("Accept", "application/json")
	resp, err := withoutCookies(client).Do(req)
	if err != nil {
		return false, fmt.Errorf("probe %s for Harbor: %w", host, remote.Explain(err, host))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return false, nil
	}
	data, err := readAll(resp.Body)
	if err != nil {
		return false, nil // whatever it is, Harbor's answer has a few hundred bytes
	}
	var info systemInfo
	return json.Unmarshal(data, &info) == nil && info.AuthMode != "", nil
}

// systemInfo is what Harbor says of itself. To anyone: how one logs in; to an
// account: whether it is read-only.
type systemInfo struct {
	AuthMode string `json:"auth_mode"`
	ReadOnly bool   `json:"read_only"`
}
