package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/tags"
)

// s3 is a service that speaks S3.
type s3 struct {
	core   *minio.Core
	region string // "" is not checked
	// locate asks where a bucket is; the other client takes its region for an
	// answer. nil without a region.
	locate *minio.Client
}

func openMinio(c Config) (*Service, error) {
	if err := checkEndpoint(c.Endpoint); err != nil {
		return nil, err
	}
	secret, err := c.secretKey()
	if err != nil {
		return nil, err
	}
	if c.AccessKey == "" || secret == "" {
		return nil, &ConfigError{Field: "access_key", Text: "the access key or its secret is not set"}
	}
	creds := credentials.NewStaticV4(c.AccessKey, secret, "")
	return newS3(c, c.Endpoint, c.UseSSL, creds, "")
}

// openAWS takes endpoint, region and credentials from where Amazon's SDKs take
// them: environment, shared files, web identity, container or instance.
func openAWS(ctx context.Context, c Config) (*Service, error) {
	var opts []func(*config.LoadOptions) error
	if c.Region != "" {
		opts = append(opts, config.WithRegion(c.Region))
	}
	conf, err := config.LoadDefaultConfig(ctx, opts...)
	if err != nil {
		return nil, fmt.Errorf("read AWS configuration: %w", err)
	}
	if conf.Region == "" {
		return nil, &ConfigError{Field: "region", Text: "not set, and the environment names none"}
	}
	endpoint := "https://s3.amazonaws.com"
	for _, e := range []string{os.Getenv("AWS_ENDPOINT_URL"), os.Getenv("AWS_ENDPOINT_URL_S3"), c.Endpoint} {
		if e != "" {
			endpoint = e
		}
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || strings.Trim(u.Path, "/") != "" {
		return nil, &ConfigError{Field: "endpoint", Text: "not a URL such as https://s3.example.internal"}
	}
	return newS3(c, u.Host, u.Scheme == "https", credentials.New(&awsCredentials{ctx: ctx, from: conf.Credentials}), conf.Region)
}

// awsCredentials hands the credentials of Amazon's SDK to minio-go.
type awsCredentials struct {
	ctx  context.Context // of the probe: minio-go gives none
	from aws.CredentialsProvider
}

func (a *awsCredentials) Retrieve() (credentials.Value, error) {
	v, err := a.from.Retrieve(a.ctx)
	if err != nil {
		return credentials.Value{}, fmt.Errorf("find AWS credentials: %w", err)
	}
	return credentials.Value{AccessKeyID: v.AccessKeyID, SecretAccessKey: v.SecretAccessKey, SessionToken: v.SessionToken, SignerType: credentials.SignatureV4}, nil
}

func (a *awsCredentials) RetrieveWithCredContext(*credentials.CredContext) (credentials.Value, error) {
	return a.Retrieve()
}

// IsExpired is true always: the SDK behind it keeps and renews.
func (a *awsCredentials) IsExpired() bool { return true }

func newS3(c Config, host string, secure bool, creds *credentials.Credentials, region string) (*Service, error) {
	transport, err := newTransport(c.CA, c.AllowInsecure)
	if err != nil {
		return nil, err
	}
	opts := minio.Options{
		Creds: creds, Secure: secure, Transport: transport, Region: region,
		MaxRetries: 1, // the checklist's retry decides
	}
	core, err := minio.NewCore(host, &opts)
	if err != nil {
		return nil, &ConfigError{Field: "endpoint", Value: host, Text: clip(err.Error())}
	}
	core.SetS3EnableDualstack(false) // a gap's private endpoint has the plain name
	s := &s3{core: core, region: region}
	if region != "" {
		opts.Region = ""
		if s.locate, err = minio.New(host, &opts); err != nil {
			return nil, &ConfigError{Field: "endpoint", Value: host, Text: clip(err.Error())}
		}
		s.locate.SetS3EnableDualstack(false)
	}
	return &Service{
		Type: c.Type, Host: host, Objects: s, Rules: s, Signer: s, Tagger: s, Maker: s,
		Clock: transport.clock, Plain: plain(transport), Permission: s3Permission,
	}, nil
}

func s3Permission(op string) string {
	return map[string]string{
		OpLook: "s3:ListBucket", OpPut: "s3:PutObject", OpHead: "s3:GetObject", OpGet: "s3:GetObject", OpList: "s3:ListBucket",
		OpDelete: "s3:DeleteObject and, with versions, s3:DeleteObjectVersion", OpParts: "s3:PutObject and s3:AbortMultipartUpload",
		OpTag: "s3:PutObjectTagging", OpVersions: "s3:GetBucketVersioning", OpLifecycle: "s3:GetLifecycleConfiguration",
		OpSign: "a valid access key", OpCreate: "s3:CreateBucket", OpConfigure: "s3:PutBucketVersioning and s3:PutLifecycleConfiguration",
	}[op]
}

// s3Error puts what a server or the way to it says into an *Error.
func s3Error(op, bucket string, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := fromWire(op, bucket, err); ok {
		return e
	}
	resp, ok := errors.AsType[minio.ErrorResponse](err)
	if !ok {
		return &Error{Op: op, Bucket: bucket, Text: clip(err.Error())}
	}
	e := &Error{Op: op, Bucket: bucket, Text: clip(fmt.Sprintf("%d %s: %s", resp.StatusCode, resp.Code, resp.Error()))}
	switch resp.Code {
	case "NoSuchBucket", "NoSuchKey", "NoSuchUpload", "NotFound":
		e.Reason = Missing
	case "PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException":
		e.Reason = Elsewhere
	case "AccessDenied", "AllAccessDisabled", "AccountProblem":
		e.Reason = Denied
	case "InvalidAccessKeyId", "XAdminUserNotFound", "InvalidToken", "ExpiredToken", "InvalidClientTokenId":
		e.Reason = Unknown
	case "SignatureDoesNotMatch":
		e.Reason = Signature
	case "RequestTimeTooSkewed":
		e.Reason = Skew
	case "NotImplemented", "MethodNotAllowed", "UnsupportedOperation", "VersioningNotConfigured":
		e.Reason = Unsupported
	default:
		switch resp.StatusCode {
		case http.StatusForbidden, http.StatusUnauthorized:
			e.Reason = Denied
		case http.StatusNotImplemented, http.StatusMethodNotAllowed:
			e.Reason = Unsupported
		case http.StatusNotFound:
			e.Reason = Missing
		}
	}
	return e
}

func (s *s3) Put(ctx context.Context, bucket string, o Object) (string, error) {
	info, err := s.core.Client.PutObject(ctx, bucket, o.Key, o.Body, o.Size, minio.PutObjectOptions{UserMetadata: o.Meta})
	return info.VersionID, s3Error(OpPut, bucket, err)
}

func (s *s3) Head(ctx context.Context, bucket, key string) (Object, error) {
	info, err := s.core.StatObject(ctx, bucket, key, minio.StatObjectOptions{})
	if err != nil {
		return Object{}, s3Error(OpHead, bucket, err)
	}
	o := Object{Key: key, Size: info.Size, Meta: make(map[string]string)}
	for name, v := range info.UserMetadata {
		o.Meta[strings.ToLower(name)] = v
	}
	return o, nil
}

func (s *s3) Get(ctx context.Context, bucket, key string) (io.ReadCloser, error) {
	body, _, _, err := s.core.GetObject(content(ctx), bucket, key, minio.GetObjectOptions{})
	if err != nil {
		return nil, s3Error(OpGet, bucket, err)
	}
	return body, nil
}

func (s *s3) Remove(ctx context.Context, bucket, key, version string) error {
	err := s.core.RemoveObject(ctx, bucket, key, minio.RemoveObjectOptions{VersionID: version})
	if err != nil {
		return s3Error(OpDelete, bucket, err)
	}
	// What else has this key: delete markers, and a version whose making was
	// answered to nobody. Who may not list versions has done what they can.
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	n := 0
	for o := range s.core.Client.ListObjects(ctx, bucket, minio.ListObjectsOptions{Prefix: key, Recursive: true, WithVersions: true, MaxKeys: maxVersions}) {
		if n++; o.Err != nil || n > maxVersions {
			break
		}
		if o.Key != key {
			continue
		}
		if err := s.core.RemoveObject(ctx, bucket, key, minio.RemoveObjectOptions{VersionID: o.VersionID}); err != nil {
			return s3Error(OpDelete, bucket, err)
		}
	}
	return nil
}

// maxVersions bounds how many versions of one object are deleted: a probe makes
// two.
const maxVersions = 20

func (s *s3) List(ctx context.Context, bucket, prefix string, limit int) ([]string, error) {
	ctx, stop := context.WithCancel(ctx) // the library lists on until it is stopped
	defer stop()
	var keys []string
	for o := range s.core.Client.ListObjects(ctx, bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true, MaxKeys: limit}) {
		if o.Err != nil {
			return nil, s3Error(OpList, bucket, o.Err)
		}
		if keys = append(keys, o.Key); len(keys) >= limit {
			break
		}
	}
	return keys, nil
}

func (s *s3) Parts(ctx context.Context, bucket, key string, part []byte) error {
	id, err := s.core.NewMultipartUpload(ctx, bucket, key, minio.PutObjectOptions{})
	if err != nil {
		return s3Error(OpParts, bucket, err)
	}
	_, err = s.core.PutObjectPart(ctx, bucket, key, id, 1, bytes.NewReader(part), int64(len(part)), minio.PutObjectPartOptions{})
	// Given up even if ctx has ended: parts of unfinished uploads cost and are
	// shown nowhere.
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), CleanTime)
	defer cancel()
	return s3Error(OpParts, bucket, errors.Join(err, s.core.AbortMultipartUpload(clean, bucket, key, id)))
}

// CleanTime is what removing a probe's traces may take after its time is over.
const CleanTime = 10 * time.Second

func (s *s3) Tag(ctx context.Context, bucket, key string, set map[string]string) error {
	t, err := tags.NewTags(set, true)
	if err != nil {
		return &Error{Op: OpTag, Bucket: bucket, Text: clip(err.Error())}
	}
	return s3Error(OpTag, bucket, s.core.PutObjectTagging(ctx, bucket, key, t, minio.PutObjectTaggingOptions{}))
}

func (s *s3) Sign(ctx context.Context, method, bucket, key string, valid time.Duration) (*Signed, error) {
	u, err := s.core.Presign(ctx, method, bucket, key, valid, nil)
	if err != nil {
		return nil, s3Error(OpSign, bucket, err)
	}
	return &Signed{Method: method, URL: u, Signature: "X-Amz-Signature"}, nil
}
