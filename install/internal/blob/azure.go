package blob

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	azerrors "github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/service"
)

// azure is Azure Blob Storage; its buckets are containers.
type azure struct {
	client *service.Client
	keyed  *service.SharedKeyCredential // nil: signed URLs are signed by the user's delegation
	arm    *arm
}

func openAzure(_ context.Context, c Config) (*Service, error) {
	transport, err := newTransport(c.CA, false)
	if err != nil {
		return nil, err
	}
	opts := policy.ClientOptions{Transport: plain(transport), Retry: policy.RetryOptions{MaxRetries: -1}}
	a := &azure{}
	// Asking the public cloud which authorities exist cannot work inside a gap.
	token, err := azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{ClientOptions: opts, DisableInstanceDiscovery: true})
	if err != nil {
		return nil, &ConfigError{Field: "credentials", Text: "the environment's Azure credentials cannot be used"} // its text may quote them
	}
	if c.ConnectionString != "" {
		err = a.fromConnectionString(c.ConnectionString, opts)
	} else {
		a.client, err = service.NewClient(c.AccountURL, token, &service.ClientOptions{ClientOptions: opts})
	}
	if err != nil {
		return nil, &ConfigError{Field: "account_url", Text: "neither it nor the connection string names a storage account"}
	}
	u, err := url.Parse(a.client.URL())
	if err != nil || u.Host == "" {
		return nil, &ConfigError{Field: "account_url", Text: "not a URL such as https://ACCOUNT.blob.core.windows.net"}
	}
	a.arm = &arm{token: token, opts: opts, endpoint: c.ARMEndpoint, subscription: c.Subscription, group: c.ResourceGroup, account: accountOf(u)}
	return &Service{
		Type: c.Type, Host: u.Host, Objects: a, Rules: a, Signer: a, Clock: transport.clock, Plain: plain(transport), Permission: azurePermission,
	}, nil
}

func (a *azure) fromConnectionString(s string, opts policy.ClientOptions) (err error) {
	if a.client, err = service.NewClientFromConnectionString(s, &service.ClientOptions{ClientOptions: opts}); err != nil {
		return err
	}
	parts := make(map[string]string)
	for p := range strings.SplitSeq(s, ";") {
		name, value, _ := strings.Cut(p, "=")
		parts[name] = value
	}
	if parts["AccountKey"] == "" {
		return errors.New("no account key") // a signature of its own cannot sign others
	}
	a.keyed, err = service.NewSharedKeyCredential(parts["AccountName"], parts["AccountKey"])
	return err
}

// accountOf is the account that a service's URL names: the first label of its
// host, or of a stand-in at an address the first element of the path.
func accountOf(u *url.URL) string {
	if _, err := netip.ParseAddr(u.Hostname()); err == nil {
		return strings.Trim(u.Path, "/")
	}
	label, _, _ := strings.Cut(u.Hostname(), ".")
	return label
}

func azurePermission(op string) string {
	switch op {
	case OpVersions, OpLifecycle:
		return "Reader on the storage account"
	case OpSign:
		return "Storage Blob Delegator on the storage account"
	}
	return "Storage Blob Data Contributor on the storage account (on AKS to the kubelet's identity), and with it on the container"
}

// azureError shows code and status only: the text of the library's error holds
// the whole answer and the URL.
func azureError(op, bucket string, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := fromWire(op, bucket, err); ok {
		return e
	}
	if is[*azidentity.AuthenticationFailedError](err) || strings.Contains(err.Error(), "DefaultAzureCredential") {
		return &Error{Op: op, Bucket: bucket, Reason: Unknown, Text: "no token is given for the credentials that the environment has"}
	}
	resp, ok := errors.AsType[*azcore.ResponseError](err)
	if !ok {
		return &Error{Op: op, Bucket: bucket, Text: "the library gives up"}
	}
	e := &Error{Op: op, Bucket: bucket, Text: clip(fmt.Sprintf("%d %s", resp.StatusCode, resp.ErrorCode))}
	switch azerrors.Code(resp.ErrorCode) {
	case azerrors.AuthenticationFailed:
		e.Reason = Signature
		return e
	case azerrors.InvalidAuthenticationInfo, azerrors.NoAuthenticationInformation:
		e.Reason = Unknown
		return e
	}
	switch resp.StatusCode {
	case http.StatusNotFound:
		e.Reason = Missing
	case http.StatusForbidden:
		e.Reason = Denied
	case http.StatusUnauthorized:
		e.Reason = Unknown
	case http.StatusNotImplemented:
		e.Reason = Unsupported
	}
	return e
}

func (a *azure) blob(bucket, key string) *blockblob.Client {
	return a.client.NewContainerClient(bucket).NewBlockBlobClient(key)
}

func (a *azure) Put(ctx context.Context, bucket string, o Object) (string, error) {
	meta := make(map[string]*string)
	for name, v := range o.Meta {
		meta[name] = &v
	}
	resp, err := a.blob(bucket, o.Key).UploadStream(ctx, o.Body, &blockblob.UploadStreamOptions{Metadata: meta})
	if err != nil {
		return "", azureError(OpPut, bucket, err)
	}
	if resp.VersionID == nil {
		return "", nil
	}
	return *resp.VersionID, nil
}

func (a *azure) Head(ctx context.Context, bucket, key string) (Object, error) {
	p, err := a.blob(bucket, key).GetProperties(ctx, nil)
	if err != nil {
		return Object{}, azureError(OpHead, bucket, err)
	}
	o := Object{Key: key, Meta: make(map[string]string)}
	if p.ContentLength != nil {
		o.Size = *p.ContentLength
	}
	for name, v := range p.Metadata {
		if v != nil {
			o.Meta[strings.ToLower(name)] = *v
		}
	}
	return o, nil
}

func (a *azure) Get(ctx context.Context, bucket, key string) (io.ReadCloser, error) {
	resp, err := a.blob(bucket, key).DownloadStream(content(ctx), nil)
	if err != nil {
		return nil, azureError(OpGet, bucket, err)
	}
	return resp.Body, nil
}

// Remove deletes a blob and, where the role allows it, the version that stays
// of it: Storage Blob Data Contributor may not.
func (a *azure) Remove(ctx context.Context, bucket, key, version string) error {
	b := a.blob(bucket, key)
	if _, err := b.Delete(ctx, nil); err != nil || version == "" {
		return azureError(OpDelete, bucket, err)
	}
	old, err := b.WithVersionID(version)
	if err == nil {
		_, err = old.Delete(ctx, nil)
	}
	if err := azureError(OpDelete, bucket, err); err != nil && ReasonOf(err) != Missing && ReasonOf(err) != Denied {
		return err
	}
	return nil
}

func (a *azure) List(ctx context.Context, bucket, prefix string, limit int) ([]string, error) {
	most := int32(min(limit, 5000)) //nolint:gosec // bounded
	pager := a.client.NewContainerClient(bucket).NewListBlobsFlatPager(&container.ListBlobsFlatOptions{Prefix: &prefix, MaxResults: &most})
	var keys []string
	for pager.More() && len(keys) < limit {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return nil, azureError(OpList, bucket, err)
		}
		for _, b := range page.Segment.BlobItems {
			if b.Name != nil && len(keys) < limit {
				keys = append(keys, *b.Name)
			}
		}
	}
	return keys, nil
}

// Parts sends a block. Blocks that nothing names are dropped when a list without
// them is committed; the empty blob that this makes is deleted.
func (a *azure) Parts(ctx context.Context, bucket, key string, part []byte) error {
	b := a.blob(bucket, key)
	_, sent := b.StageBlock(ctx, base64.StdEncoding.EncodeToString([]byte("airlock-probe")), streaming.NopCloser(bytes.NewReader(part)), nil)
	if sent != nil {
		return azureError(OpParts, bucket, sent)
	}
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), CleanTime)
	defer cancel()
	resp, err := b.CommitBlockList(clean, nil, nil)
	if err != nil {
		return azureError(OpParts, bucket, err)
	}
	version := ""
	if resp.VersionID != nil {
		version = *resp.VersionID
	}
	return a.Remove(clean, bucket, key, version)
}

func (a *azure) Look(ctx context.Context, bucket string) error {
	_, err := a.client.NewContainerClient(bucket).GetProperties(ctx, nil)
	return azureError(OpLook, bucket, err)
}

func (a *azure) Versioning(ctx context.Context, bucket string) (bool, error) {
	return a.arm.versioning(ctx, bucket)
}

func (a *azure) Expiry(ctx context.Context, bucket string) ([]Rule, error) {
	return a.arm.expiry(ctx, bucket)
}

// Sign makes a shared access signature: by the account's key, or by a key that
// the account delegates to the user.
func (a *azure) Sign(ctx context.Context, method, bucket, key string, valid time.Duration) (*Signed, error) {
	u, err := url.Parse(a.blob(bucket, key).URL())
	if err != nil {
		return nil, &Error{Op: OpSign, Bucket: bucket, Text: "the account makes no URL"}
	}
	start, end := time.Now().UTC().Add(-warnSkew), time.Now().UTC().Add(valid)
	values := sas.BlobSignatureValues{
		Protocol: sas.ProtocolHTTPS, StartTime: start, ExpiryTime: end, ContainerName: bucket, BlobName: key,
		Permissions: (&sas.BlobPermissions{Read: method == http.MethodGet, Create: method == http.MethodPut, Write: method == http.MethodPut}).String(),
	}
	if u.Scheme == "http" {
		values.Protocol = sas.ProtocolHTTPSandHTTP
	}
	var q sas.QueryParameters
	if a.keyed != nil {
		q, err = values.SignWithSharedKey(a.keyed)
	} else {
		from, to := start.Format(sas.TimeFormat), end.Format(sas.TimeFormat)
		var key *service.UserDelegationCredential
		if key, err = a.client.GetUserDelegationCredential(ctx, service.KeyInfo{Start: &from, Expiry: &to}, nil); err == nil {
			q, err = values.SignWithUserDelegation(key)
		}
	}
	if err != nil {
		return nil, azureError(OpSign, bucket, err)
	}
	u.RawQuery = q.Encode()
	s := &Signed{Method: method, URL: u, Signature: "sig", Header: http.Header{}}
	if method == http.MethodPut {
		s.Header.Set("X-Ms-Blob-Type", "BlockBlob")
	}
	return s, nil
}
