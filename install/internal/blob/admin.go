package blob

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/minio/minio-go/v7/pkg/signer"
	"github.com/secure-io/sio-go"
	"golang.org/x/crypto/argon2"
)

// Admin speaks the part of MinIO's administration API, version 3, that makes a
// user with a policy. MinIO's own client is under the AGPL, which this program
// is not; the API is four requests.
type Admin struct {
	*Service     // of the administrator; only its host, clock and client are used
	key, secret  string
	scheme, site string // site is the region that requests are signed for
}

// Operations of Admin.
const (
	OpUser   = "look at user"
	OpAdd    = "add user"
	OpPolicy = "add policy"
	OpAttach = "attach policy"
)

const (
	// maxAdminAnswer bounds what is read of an answer.
	maxAdminAnswer = 1 << 20
	defaultSite    = "us-east-1" // what MinIO takes where no region is set
)

// OpenAdmin prepares administration with the administrator's key of c.
func OpenAdmin(c Config) (*Admin, error) {
	if c.AdminAccessKey == "" || c.AdminSecretKey == "" {
		return nil, &ConfigError{Field: "admin_access_key", Text: "the administrator's access key or its secret is not set"}
	}
	c.Type = TypeMinio
	s, err := openMinio(c.Admin())
	if err != nil {
		return nil, err
	}
	a := &Admin{Service: s, key: c.AdminAccessKey, secret: c.AdminSecretKey, scheme: "http", site: defaultSite}
	if c.UseSSL {
		a.scheme = "https"
	}
	if c.Region != "" {
		a.site = c.Region
	}
	return a, nil
}

// User is what MinIO tells of a user.
type User struct {
	Policy string `json:"policyName"` // several with commas between
	Status string `json:"status"`
}

// User looks at a user; one that does not exist is an *Error with Missing.
func (a *Admin) User(ctx context.Context, name string) (User, error) {
	raw, err := a.do(ctx, OpUser, http.MethodGet, "user-info", url.Values{"accessKey": {name}}, nil)
	if err != nil {
		return User{}, err
	}
	var u User
	if err := json.Unmarshal(raw, &u); err != nil {
		return User{}, &Error{Op: OpUser, Text: "the answer is not one of MinIO"}
	}
	return u, nil
}

// AddUser makes a user with a secret, or gives one that exists another secret.
func (a *Admin) AddUser(ctx context.Context, name, secret string) error {
	body, err := json.Marshal(map[string]string{"secretKey": secret, "status": "enabled"})
	if err != nil {
		return err
	}
	sealed, err := seal(a.secret, body)
	if err != nil {
		return fmt.Errorf("seal request: %w", err)
	}
	_, err = a.do(ctx, OpAdd, http.MethodPut, "add-user", url.Values{"accessKey": {name}}, sealed)
	return err
}

// Policy reads a policy; one that does not exist is an *Error with Missing.
func (a *Admin) Policy(ctx context.Context, name string) ([]byte, error) {
	return a.do(ctx, OpPolicy, http.MethodGet, "info-canned-policy", url.Values{"name": {name}}, nil)
}

// SetPolicy makes or replaces a policy.
func (a *Admin) SetPolicy(ctx context.Context, name string, document []byte) error {
	_, err := a.do(ctx, OpPolicy, http.MethodPut, "add-canned-policy", url.Values{"name": {name}}, document)
	return err
}

// Attach makes a policy the only one of a user.
func (a *Admin) Attach(ctx context.Context, policy, user string) error {
	_, err := a.do(ctx, OpAttach, http.MethodPut, "set-user-or-group-policy",
		url.Values{"policyName": {policy}, "userOrGroup": {user}, "isGroup": {"false"}}, nil)
	return err
}

func (a *Admin) do(ctx context.Context, op, method, call string, q url.Values, body []byte) ([]byte, error) {
	for try := 1; ; try++ {
		raw, status, err := a.once(ctx, op, method, call, q, body)
		// MinIO listens before it knows its users.
		if err == nil || try == startTries || status != http.StatusServiceUnavailable || !bytes.Contains(raw, []byte("XMinioServerNotInitialized")) {
			return raw, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(startPause):
		}
	}
}

// A server that starts is asked so often, with such a pause.
const (
	startTries = 30
	startPause = time.Second
)

// once sends one request. The answer and its status also come with an error of
// the server's.
func (a *Admin) once(ctx context.Context, op, method, call string, q url.Values, body []byte) (raw []byte, status int, err error) {
	u := url.URL{Scheme: a.scheme, Host: a.Host, Path: "/minio/admin/v3/" + call, RawQuery: q.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, 0, &Error{Op: op, Text: "the endpoint makes no URL"}
	}
	sum := sha256.Sum256(body)
	req.Header.Set("X-Amz-Content-Sha256", hex.EncodeToString(sum[:]))
	req = signer.SignV4(*req, a.key, a.secret, "", a.site)
	resp, err := a.Plain.Do(req)
	if err != nil {
		if e, ok := fromWire(op, "", err); ok {
			return nil, 0, e
		}
		return nil, 0, &Error{Op: op, Reason: Unreachable, Text: "no answer"}
	}
	defer resp.Body.Close()
	raw, err = io.ReadAll(io.LimitReader(resp.Body, maxAdminAnswer))
	if err != nil {
		return nil, 0, &Error{Op: op, Reason: Unreachable, Text: "the answer breaks off"}
	}
	if resp.StatusCode == http.StatusOK {
		return raw, resp.StatusCode, nil
	}
	return raw, resp.StatusCode, adminError(op, resp.StatusCode, raw)
}

// adminError reads an answer that is an error: JSON from MinIO, and anything
// from something else.
func adminError(op string, status int, raw []byte) error {
	var said struct{ Code, Message string }
	e := &Error{Op: op, Text: fmt.Sprintf("answered %d", status)}
	if json.Unmarshal(raw, &said) == nil && said.Code != "" {
		e.Text = clip(fmt.Sprintf("%d %s: %s", status, said.Code, said.Message))
	}
	switch said.Code {
	case "XMinioAdminNoSuchUser", "XMinioAdminNoSuchPolicy":
		e.Reason = Missing
	case "InvalidAccessKeyId":
		e.Reason = Unknown
	case "SignatureDoesNotMatch":
		e.Reason = Signature
	case "RequestTimeTooSkewed":
		e.Reason = Skew
	case "AccessDenied":
		e.Reason = Denied
	case "":
		e.Reason = Unsupported // it is not MinIO that answers
	}
	return e
}

// The parameters of MinIO's sealed requests.
const (
	sealSalt     = 32
	sealTime     = 1
	sealMemory   = 64 << 10 // KiB
	sealThreads  = 4
	sealKey      = 32
	argon2AESGCM = 0x00
)

// seal encrypts a request's body as MinIO wants it: salt, algorithm, nonce, then
// a stream of AES-256-GCM, with a key that Argon2id makes of the signer's
// secret. The salt is random, so are nonce and result.
func seal(secret string, data []byte) ([]byte, error) {
	var out bytes.Buffer
	salt := make([]byte, sealSalt)
	_, _ = rand.Read(salt) // never fails
	stream, err := sio.AES_256_GCM.Stream(argon2.IDKey([]byte(secret), salt, sealTime, sealMemory, sealThreads, sealKey))
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, stream.NonceSize())
	_, _ = rand.Read(nonce)
	out.Write(salt)
	out.WriteByte(argon2AESGCM)
	out.Write(nonce)
	w := stream.EncryptWriter(&out, nonce, nil)
	_, err = w.Write(data)
	if err := errors.Join(err, w.Close()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
