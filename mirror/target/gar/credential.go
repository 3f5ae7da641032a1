package gar

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"time"

	"github.com/airlock-project/airlock/mirror/target"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
)

const (
	// tokenUser is the user name under which the registry takes access tokens.
	tokenUser  = "oauth2accesstoken"
	tokenScope = "https://www.googleapis.com/auth/cloud-platform"

	// refreshEarly is how long before its end a token is replaced: longer than a
	// blob of some GiB takes, as access is checked when an upload is closed.
	refreshEarly = 10 * time.Minute
	// refreshEarlyMetadata is shorter because the metadata server hands out the
	// token it has until four minutes before its end.
	refreshEarlyMetadata = 225 * time.Second
	// lastResort is how much of its life a token must have left to be used when
	// no new one can be had.
	lastResort = time.Minute
	// maxCredentialFile bounds a credentials file; a key file has 2.4 KiB.
	maxCredentialFile = 1 << 20
)

var serviceAccountEmail = regexp.MustCompile(`^[a-z0-9-]{1,64}@[a-z0-9.-]{1,128}$`)

// Credential returns an access token of the first Google credential found:
// GOOGLE_APPLICATION_CREDENTIALS (service account key, workload identity
// federation, impersonation), gcloud's application default credentials, the
// metadata server. Where one is found and does not work the next is not tried.
// A token is fetched again some minutes before it expires. Errors are
// *target.Problem where the cause is known.
func (t *Target) Credential(ctx context.Context) (target.Credential, error) {
	t.credMu.Lock()
	defer t.credMu.Unlock()
	early := refreshEarly
	if t.cred.Source == metadataSource || t.cred.Expires.IsZero() {
		early = refreshEarlyMetadata
	}
	left := t.cred.Expires.Sub(t.opts.Now())
	if t.cred.Password != "" && left > early {
		return t.cred, nil
	}
	fresh, err := t.fetch(ctx)
	if err != nil {
		if t.cred.Password != "" && left > lastResort && ctx.Err() == nil {
			return t.cred, nil
		}
		return target.Credential{}, err
	}
	t.cred = fresh
	return fresh, nil
}

// fetch gets a new token from the first credential there is.
func (t *Target) fetch(ctx context.Context) (target.Credential, error) {
	name, origin, err := t.credentialFile()
	if err != nil {
		return target.Credential{}, err
	}
	if name == "" {
		return t.fetchMetadata(ctx)
	}
	data, err := readFile(name)
	if err != nil {
		return target.Credential{}, &target.Problem{
			Code:   target.NoCredentials,
			Remedy: "let " + origin + " name a readable credentials file",
			Err:    fmt.Errorf("read Google credentials %q: %w", name, err),
		}
	}
	return t.fetchFile(ctx, data, origin)
}

const (
	adcVariable = "GOOGLE_APPLICATION_CREDENTIALS"
	adcFile     = "application_default_credentials.json"
)

// credentialFile names the file to use, in the order of Google's own libraries,
// or "" if there is none.
func (t *Target) credentialFile() (name, origin string, err error) {
	if name, ok := t.opts.LookupEnv(adcVariable); ok && name != "" {
		return name, adcVariable, nil
	}
	dir := ""
	if d, ok := t.opts.LookupEnv("CLOUDSDK_CONFIG"); ok && d != "" {
		dir = d
	} else if d, ok := t.opts.LookupEnv("APPDATA"); ok && d != "" && runtime.GOOS == "windows" {
		dir = filepath.Join(d, "gcloud")
	} else if d, ok := t.opts.LookupEnv("HOME"); ok && d != "" {
		dir = filepath.Join(d, ".config", "gcloud")
	}
	if dir == "" {
		return "", "", nil
	}
	name = filepath.Join(dir, adcFile)
	switch _, err := os.Stat(name); {
	case err == nil:
		return name, "gcloud " + adcFile, nil
	case errors.Is(err, fs.ErrNotExist):
		return "", "", nil
	default:
		return "", "", fmt.Errorf("look for Google credentials: %w", err)
	}
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, errors.Unwrap(err) // the caller names the file
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxCredentialFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxCredentialFile {
		return nil, errors.New("larger than 1 MiB")
	}
	return data, nil
}

// fetchFile makes a token of a credentials file. Its kind is named to the
// library, which then takes no other.
func (t *Target) fetchFile(ctx context.Context, data []byte, origin string) (target.Credential, error) {
	var head struct {
		Type     string `json:"type"`
		Email    string `json:"client_email"`
		Universe string `json:"universe_domain"`
	}
	unusable := func(remedy string, err error) (target.Credential, error) {
		return target.Credential{}, &target.Problem{Code: target.NoCredentials, Remedy: remedy, Err: err}
	}
	if json.Unmarshal(data, &head) != nil {
		// What it holds instead may be a secret: it is not shown.
		return unusable("let "+origin+" name a JSON file as Google hands out", fmt.Errorf("parse Google credentials of %s: not a JSON object", origin))
	}
	kind, source := kindOf(head.Type)
	if kind == "" {
		return unusable("use a service account key, workload identity federation or gcloud's application default credentials",
			fmt.Errorf("use Google credentials of %s: type %q is not supported", origin, cut(head.Type)))
	}
	if kind == google.ServiceAccount && serviceAccountEmail.MatchString(head.Email) {
		source += " " + head.Email
	}
	source += " (" + origin + ")"
	if err := t.checkUniverse(head.Universe, source); err != nil {
		return target.Credential{}, err
	}
	rec := &recorder{base: t.http.Transport}
	client := *t.http
	client.Transport = rec
	ctx = context.WithValue(ctx, oauth2.HTTPClient, &client)
	creds, err := google.CredentialsFromJSONWithTypeAndParams(ctx, data, kind, google.CredentialsParams{Scopes: []string{tokenScope}})
	if err != nil {
		return unusable("make the credentials file again", fmt.Errorf("use Google credentials of %s: %s", origin, cut(err.Error())))
	}
	token, err := creds.TokenSource.Token()
	if err != nil {
		return target.Credential{}, t.explainToken(ctx, rec.last(), kind, source, err)
	}
	return t.credential(token.AccessToken, token.Expiry, source)
}

// credential refuses a token that cannot be one.
func (t *Target) credential(token string, expires time.Time, source string) (target.Credential, error) {
	if token == "" || len(token) > 64<<10 {
		return target.Credential{}, fmt.Errorf("get Google access token with %s: the answer holds none", source)
	}
	return target.Credential{Username: tokenUser, Password: token, Source: source, Expires: expires}, nil
}

// kindOf returns the library's name of a credentials type, and ours.
func kindOf(name string) (google.CredentialsType, string) {
	switch kind := google.CredentialsType(name); kind {
	case google.ServiceAccount:
		return kind, "service account key"
	case google.ExternalAccount:
		return kind, "workload identity federation"
	case google.ExternalAccountAuthorizedUser:
		return kind, "workforce identity federation"
	case google.ImpersonatedServiceAccount:
		return kind, "impersonated service account"
	case google.AuthorizedUser:
		return kind, "user credentials"
	}
	return "", ""
}

// checkUniverse keeps the credentials of one cloud from being used in another.
func (t *Target) checkUniverse(universe, source string) error {
	if universe == "" {
		universe = universeGoogle
	}
	if universe == t.service.universe {
		return nil
	}
	return &target.Problem{
		Code:   target.NoCredentials,
		Remedy: fmt.Sprintf("use credentials of the cloud %s for %s", t.service.universe, t.service.host),
		Err:    fmt.Errorf("use %s for %s: it belongs to the cloud %q", source, t.service.host, cut(universe)),
	}
}
