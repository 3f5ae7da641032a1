package blob

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"cloud.google.com/go/compute/metadata"
	"golang.org/x/oauth2/google"
)

// iamEndpoint signs for service accounts whose key nobody holds.
const iamEndpoint = "https://iamcredentials.googleapis.com"

// gcsSigner makes signed URLs of version 4, by a service account's key or, where
// there is none, through IAM (serviceAccounts.signBlob).
type gcsSigner struct {
	base   *url.URL
	client *http.Client
	iam    string
	email  string          // "" is asked of the metadata server
	key    *rsa.PrivateKey // nil: IAM signs
}

func newGCSSigner(creds *google.Credentials, client *http.Client, base *url.URL) (gcsSigner, error) {
	s := gcsSigner{base: base, client: client, iam: iamEndpoint}
	if creds == nil || len(creds.JSON) == 0 {
		return s, nil
	}
	var file struct {
		Email string `json:"client_email"`
		Key   string `json:"private_key"`
	}
	if err := json.Unmarshal(creds.JSON, &file); err != nil || file.Key == "" {
		return s, nil //nolint:nilerr // credentials of another kind, which IAM signs for
	}
	bad := &ConfigError{Field: "credentials", Text: "the private key of the service account is not an RSA key in PEM"}
	block, _ := pem.Decode([]byte(file.Key))
	if block == nil {
		return s, bad
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return s, bad
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return s, bad
	}
	s.email, s.key = file.Email, key
	return s, nil
}

// sign makes a URL as "V4 signing process" of Google Cloud Storage has it.
func (s gcsSigner) sign(ctx context.Context, method, bucket, key string, valid time.Duration, now time.Time) (*url.URL, error) {
	email := s.email
	if email == "" {
		var err error
		if email, err = metadata.EmailWithContext(ctx, "default"); err != nil {
			return nil, errors.New("these credentials hold no key, and no metadata server names a service account that IAM could sign for")
		}
	}
	now = now.UTC()
	scope := now.Format("20060102") + "/auto/storage/goog4_request"
	u := *s.base
	u.Path = "/" + bucket + "/" + key
	u.RawQuery = strings.ReplaceAll(url.Values{
		"X-Goog-Algorithm": {"GOOG4-RSA-SHA256"}, "X-Goog-Credential": {email + "/" + scope}, "X-Goog-Date": {now.Format("20060102T150405Z")},
		"X-Goog-Expires": {strconv.Itoa(int(valid.Seconds()))}, "X-Goog-SignedHeaders": {"host"},
	}.Encode(), "+", "%20")
	canonical := strings.Join([]string{method, u.EscapedPath(), u.RawQuery, "host:" + u.Host, "", "host", "UNSIGNED-PAYLOAD"}, "\n")
	sum := sha256.Sum256([]byte(canonical))
	text := strings.Join([]string{"GOOG4-RSA-SHA256", now.Format("20060102T150405Z"), scope, hex.EncodeToString(sum[:])}, "\n")
	sig, err := s.signature(ctx, email, []byte(text))
	if err != nil {
		return nil, err
	}
	u.RawQuery += "&X-Goog-Signature=" + hex.EncodeToString(sig)
	return &u, nil
}

func (s gcsSigner) signature(ctx context.Context, email string, text []byte) ([]byte, error) {
	if s.key != nil {
		sum := sha256.Sum256(text)
		return rsa.SignPKCS1v15(rand.Reader, s.key, crypto.SHA256, sum[:])
	}
	body, err := json.Marshal(map[string]string{"payload": base64.StdEncoding.EncodeToString(text)})
	if err != nil {
		return nil, err
	}
	target := s.iam + "/v1/projects/-/serviceAccounts/" + url.PathEscape(email) + ":signBlob"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("the service account makes no URL")
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.client.Do(req)
	if err != nil {
		if e, ok := fromWire(OpSign, "", err); ok {
			return nil, &Error{Op: OpSign, Reason: Denied, Text: "IAM, which signs, does not answer: " + e.Text}
		}
		return nil, errors.New("IAM, which signs, does not answer")
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, errors.New("IAM does not sign for " + email + ": " + textOf(gcsError(OpSign, "", resp)))
	}
	var signed struct {
		SignedBlob []byte `json:"signedBlob"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxGCS)).Decode(&signed); err != nil || len(signed.SignedBlob) == 0 {
		return nil, errors.New("IAM answers without a signature")
	}
	return signed.SignedBlob, nil
}
