package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/airlock-project/airlock/bundle/regular"
)

// Types of service.
const (
	TypeMinio = "minio" // an S3-compatible server with explicit keys
	TypeAWS   = "aws"
	TypeGCP   = "gcp"
	TypeAzure = "azure"
)

// Config says which service and with which credentials. The fields of other
// types than Type are ignored.
type Config struct {
	Type string `json:"type"`
	CA   string `json:"ca"` // PEM file of the authorities trusted; "" is those of this machine
	// Endpoint: minio: host:port. aws: a URL, default AWS_ENDPOINT_URL_S3, else
	// Amazon's. gcp: a URL, default STORAGE_EMULATOR_HOST, else Google's.
	Endpoint string `json:"endpoint"`
	Region   string `json:"region"` // aws

	// minio.
	UseSSL        bool   `json:"use_ssl"`
	AllowInsecure bool   `json:"allow_insecure"` // the certificate is not checked
	AccessKey     string `json:"access_key"`
	SecretKey     string `json:"secret_key"`
	SecretKeyFile string `json:"secret_key_file"` // instead of SecretKey
	// What makes buckets may need more rights than the application has.
	AdminAccessKey string `json:"admin_access_key"`
	AdminSecretKey string `json:"admin_secret_key"`

	// azure. Without a connection string, DefaultAzureCredential.
	AccountURL       string `json:"account_url"`
	ConnectionString string `json:"connection_string"`
	// Where Azure Resource Manager answers for the account; without them its
	// management policy cannot be read.
	Subscription  string `json:"subscription"`
	ResourceGroup string `json:"resource_group"`
	ARMEndpoint   string `json:"arm_endpoint"`
}

// maxKey bounds a file that holds a key.
const maxKey = 64 << 10

// Open prepares a service; a mistake in the configuration is a *ConfigError.
// It may ask for credentials, but not the service itself.
func Open(ctx context.Context, c Config) (*Service, error) {
	switch c.Type {
	case TypeMinio:
		return openMinio(c)
	case TypeAWS:
		return openAWS(ctx, c)
	case TypeGCP:
		return openGCS(ctx, c)
	case TypeAzure:
		return openAzure(ctx, c)
	case "":
		return nil, &ConfigError{Field: "type", Text: "not set"}
	}
	return nil, &ConfigError{Field: "type", Value: c.Type, Text: "want minio, aws, gcp or azure"}
}

// Admin is c with the credentials that make buckets, where they are given.
func (c Config) Admin() Config {
	if c.AdminAccessKey != "" {
		c.AccessKey, c.SecretKey, c.SecretKeyFile = c.AdminAccessKey, c.AdminSecretKey, ""
	}
	return c
}

// checkEndpoint refuses what is not host:port or host.
func checkEndpoint(endpoint string) error {
	bad := func(text string) error { return &ConfigError{Field: "endpoint", Value: endpoint, Text: text} }
	if endpoint == "" {
		return bad("not set: want host:port")
	}
	if scheme, _, ok := strings.Cut(endpoint, "://"); ok {
		return &ConfigError{Field: "endpoint", Value: stripUser(endpoint), Text: schemeText + scheme + "://"}
	}
	host := endpoint
	if h, _, err := net.SplitHostPort(endpoint); err == nil {
		host = h
	}
	if host == "" || strings.ContainsAny(endpoint, "/@?# \t\r\n") {
		return &ConfigError{Field: "endpoint", Text: "not host:port"} // what is there instead may be a password
	}
	return nil
}

const schemeText = "it has a scheme; drop "

// HasScheme reports whether err says that an endpoint was given as a URL.
func HasScheme(err error) bool {
	e, ok := errors.AsType[*ConfigError](err)
	return ok && e.Field == "endpoint" && strings.HasPrefix(e.Text, schemeText)
}

// stripUser drops user:password@ of something like a URL.
func stripUser(s string) string {
	scheme, rest, _ := strings.Cut(s, "://")
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		rest = rest[i+1:]
	}
	return scheme + "://" + rest
}

// secretKey is the secret key, from where it is given.
func (c Config) secretKey() (string, error) {
	if c.SecretKeyFile == "" {
		return c.SecretKey, nil
	}
	f, err := regular.Open(c.SecretKeyFile)
	if err != nil {
		return "", fmt.Errorf("read secret key: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxKey))
	if err != nil {
		return "", fmt.Errorf("read secret key: %w", err)
	}
	return strings.TrimRight(string(data), "\r\n"), nil
}
