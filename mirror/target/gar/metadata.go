package gar

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/airlock-project/airlock/mirror/target"
)

const (
	metadataSource = "metadata server"
	// metadataAddress is asked by address: a name would be asked of a DNS server
	// that an enclave may not have.
	metadataAddress = "169.254.169.254"
	metadataTries   = 3
)

var metadataHost = regexp.MustCompile(`^([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?$`)

// metadataClient is for a server that is one hop away or not at all: short
// limits, no proxy, no redirects.
func metadataClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext:            (&net.Dialer{Timeout: 3 * time.Second}).DialContext,
			ResponseHeaderTimeout:  10 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
			DisableKeepAlives:      true,
		},
		Timeout:       20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// fetchMetadata gets a token of the service account that the machine, or the
// Kubernetes service account, runs as.
func (t *Target) fetchMetadata(ctx context.Context) (target.Credential, error) {
	host := metadataAddress
	given, named := t.opts.LookupEnv("GCE_METADATA_HOST")
	if named = named && given != ""; named {
		host = given
	}
	if !metadataHost.MatchString(host) {
		return target.Credential{}, fmt.Errorf("use GCE_METADATA_HOST %q: not HOST[:PORT]", cut(host))
	}
	if no, _ := t.opts.LookupEnv("NO_GCE_CHECK"); !named && no == "true" {
		return target.Credential{}, noCredentials(errors.New("the metadata server was not asked: NO_GCE_CHECK is true"))
	}
	data, err := t.metadata(ctx, host, "instance/service-accounts/default/token?"+url.Values{"scopes": {tokenScope}}.Encode())
	if err != nil {
		if ctx.Err() != nil {
			return target.Credential{}, context.Cause(ctx)
		}
		return target.Credential{}, noCredentials(err)
	}
	var token struct {
		AccessToken string `json:"access_token"`
		ExpiresIn   int64  `json:"expires_in"`
	}
	if json.Unmarshal(data, &token) != nil || token.ExpiresIn <= 0 || token.ExpiresIn > 86400 {
		return target.Credential{}, noCredentials(errors.New("the metadata server's token cannot be read"))
	}
	universe, err := t.metadataUniverse(ctx, host)
	if err != nil {
		return target.Credential{}, err
	}
	if err := t.checkUniverse(universe, metadataSource); err != nil {
		return target.Credential{}, err
	}
	return t.credential(token.AccessToken, t.opts.Now().Add(time.Duration(token.ExpiresIn)*time.Second), metadataSource)
}

// metadataUniverse asks which cloud the machine is in. Servers older than the
// question answer 404.
func (t *Target) metadataUniverse(ctx context.Context, host string) (string, error) {
	data, err := t.metadata(ctx, host, "universe/universe-domain")
	if e, ok := errors.AsType[*apiError](err); ok && e.HTTP == http.StatusNotFound {
		return universeGoogle, nil
	}
	if err != nil {
		return "", fmt.Errorf("ask the metadata server for its cloud: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}

// metadata asks again where the server is there and not ready, as GKE's is for
// some seconds after a pod has started.
func (t *Target) metadata(ctx context.Context, host, path string) ([]byte, error) {
	for try := 1; ; try++ {
		data, err := t.askMetadata(ctx, host, path)
		e, ok := errors.AsType[*apiError](err)
		if !ok || try == metadataTries || e.HTTP < 500 && e.HTTP != http.StatusTooManyRequests {
			return data, err
		}
		if err := t.pause(ctx, time.Duration(try)*time.Second); err != nil {
			return nil, err
		}
	}
}

func (t *Target) askMetadata(ctx context.Context, host, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+"/computeMetadata/v1/"+path, nil)
	if err != nil {
		return nil, fmt.Errorf("ask the metadata server: %w", err)
	}
	req.Header.Set("Metadata-Flavor", "Google")
	resp, err := t.opts.MetadataClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the metadata server %s: %w", host, errors.Unwrap(err))
	}
	defer resp.Body.Close()
	// Whoever else answers at that address is not to be believed.
	if resp.Header.Get("Metadata-Flavor") != "Google" {
		return nil, fmt.Errorf("ask the metadata server %s: what answers is none", host)
	}
	data, err := readAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("read answer of the metadata server: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, &apiError{Host: "metadata server " + host, HTTP: resp.StatusCode, Message: cut(strings.TrimSpace(string(data)))}
	}
	return data, nil
}

// noCredentials says what was looked for. To go on as nobody would only turn
// into a 403 about permissions later.
func noCredentials(err error) error {
	return &target.Problem{
		Code: target.NoCredentials,
		Remedy: "set GOOGLE_APPLICATION_CREDENTIALS to a service account key or a workload identity configuration, " +
			"run gcloud auth application-default login, or run on a machine with a service account",
		Err: fmt.Errorf("find Google credentials: no %s, no gcloud %s, and %w", adcVariable, adcFile, err),
	}
}
