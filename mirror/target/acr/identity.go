package acr

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/airlock-project/airlock/bundle/remote"

	"github.com/airlock-project/airlock/mirror/target/sdk"
)

const (
	// scope is asked for in all clouds (azcontainerregistry 0.2.3).
	scope = "https://containerregistry.azure.net/.default"
	// identityTimeout bounds the way to a token. Outside Azure the instance
	// metadata address does not answer at all.
	identityTimeout = 60 * time.Second
	maxCertificate  = 1 << 20
)

// identity is whom a token is asked for.
type identity struct {
	source string // for people
	tenant string // may be empty
	cred   azcore.TokenCredential
	doer   *sdk.Doer
	login  string // where tokens come from
}

// identity picks the identity that is set up.
func (t *Target) identity() (*identity, error) {
	env := func(name string) string { v, _ := t.opts.LookupEnv(name); return v }
	id := &identity{tenant: env("AZURE_TENANT_ID"), doer: &sdk.Doer{Client: t.client, Metadata: t.metadata, MaxAnswer: maxAnswer}, login: t.authority}
	client, secret := env("AZURE_CLIENT_ID"), env("AZURE_CLIENT_SECRET")
	certificate, federated := env("AZURE_CLIENT_CERTIFICATE_PATH"), env("AZURE_FEDERATED_TOKEN_FILE")
	if (secret != "" || certificate != "" || federated != "") && (client == "" || id.tenant == "") {
		return nil, &identityError{source: "the environment", err: errors.New("AZURE_CLIENT_ID or AZURE_TENANT_ID is missing beside a secret, certificate or token file")}
	}
	// The authority follows from the registry's host or from the user, so there
	// is no need to ask the public cloud whether it is one: it may be out of reach.
	o := azcore.ClientOptions{
		Transport: id.doer, Cloud: cloud.Configuration{ActiveDirectoryAuthorityHost: t.authority},
		Retry: policy.RetryOptions{MaxRetries: -1}, // the client under it tries again
	}
	var err error
	switch {
	case secret != "":
		id.source = fmt.Sprintf("service principal %s (environment AZURE_CLIENT_SECRET)", client)
		id.cred, err = azidentity.NewClientSecretCredential(id.tenant, client, secret, &azidentity.ClientSecretCredentialOptions{ClientOptions: o, DisableInstanceDiscovery: true})
	case certificate != "":
		id.source = fmt.Sprintf("service principal %s (environment AZURE_CLIENT_CERTIFICATE_PATH)", client)
		id.cred, err = certificateCredential(id.tenant, client, certificate, env("AZURE_CLIENT_CERTIFICATE_PASSWORD"), o)
	case federated != "":
		id.source = fmt.Sprintf("workload identity %s (environment AZURE_FEDERATED_TOKEN_FILE)", client)
		id.cred, err = azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{
			ClientOptions: o, DisableInstanceDiscovery: true, ClientID: client, TenantID: id.tenant, TokenFilePath: federated,
		})
	default:
		id.source, id.login = "managed identity of this machine", "the managed identity service"
		o.Retry = policy.RetryOptions{MaxRetries: 2, RetryDelay: 500 * time.Millisecond, TryTimeout: sdk.MetadataTimeout}
		mo := &azidentity.ManagedIdentityCredentialOptions{ClientOptions: o}
		if client != "" {
			id.source = "managed identity " + client
			mo.ID = azidentity.ClientID(client)
		}
		id.cred, err = azidentity.NewManagedIdentityCredential(mo)
	}
	if err != nil {
		return nil, &identityError{source: id.source, err: err}
	}
	return id, nil
}

func certificateCredential(tenant, client, file, password string, o azcore.ClientOptions) (azcore.TokenCredential, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxCertificate+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxCertificate {
		return nil, fmt.Errorf("certificate file %q has more than %d bytes", file, maxCertificate)
	}
	certs, key, err := azidentity.ParseCertificates(raw, []byte(password))
	if err != nil {
		// Its words may quote the file, which holds a key.
		return nil, fmt.Errorf("certificate file %q holds no certificate with its key in PEM or PKCS #12, or the password is wrong", file)
	}
	return azidentity.NewClientCertificateCredential(tenant, client, certs, key, &azidentity.ClientCertificateCredentialOptions{
		ClientOptions: o, DisableInstanceDiscovery: true,
	})
}

// token asks for an access token.
func (id *identity) token(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, identityTimeout)
	defer cancel()
	tok, err := id.cred.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{scope}})
	if err == nil {
		return tok.Token, nil
	}
	e := &identityError{source: id.source, err: errors.New("the identity service gave none")}
	if cause := id.doer.Failure(); cause != nil {
		// The SDK keeps the text of a failed request only.
		e.err = remote.Explain(cause, id.login)
	} else if failed, ok := errors.AsType[*azidentity.AuthenticationFailedError](err); ok && failed.RawResponse != nil {
		e.read(failed.RawResponse)
	} else if file, ok := errors.AsType[*os.PathError](err); ok {
		e.err = file
	}
	return "", e
}
