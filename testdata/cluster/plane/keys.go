package plane

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// life is how long certificates are good: longer than any test, shorter than
// anyone could come to rely on them.
const life = 24 * time.Hour

// authority is the cluster's CA, for its API server and for the users that it
// knows by their client certificates.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	pem  []byte
}

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	c := certificate("cluster CA")
	c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign|x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &authority{cert: cert, key: key, pem: block("CERTIFICATE", der)}, nil
}

// server issues a certificate for names and addresses.
func (a *authority) server(names ...string) (cert, key []byte, err error) {
	c := certificate("kube-apiserver")
	c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			c.IPAddresses = append(c.IPAddresses, ip)
		} else {
			c.DNSNames = append(c.DNSNames, n)
		}
	}
	return a.issue(c)
}

// client issues a certificate by which the API server knows a user and the
// groups it is in.
func (a *authority) client(user string, groups ...string) (cert, key []byte, err error) {
	c := certificate(user)
	c.Subject.Organization = groups
	c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return a.issue(c)
}

func (a *authority) issue(c *x509.Certificate) (cert, key []byte, err error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, k.Public(), a.key)
	if err != nil {
		return nil, nil, err
	}
	key, err = private(k)
	return block("CERTIFICATE", der), key, err
}

func certificate(name string) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		serial = big.NewInt(time.Now().UnixNano())
	}
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(life), KeyUsage: x509.KeyUsageDigitalSignature,
	}
}

func private(k *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(k)
	return block("EC PRIVATE KEY", der), err
}

func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// writeKeys makes the files that the components read.
func (p *Plane) writeKeys(names []string) error {
	var err error
	if p.ca, err = newAuthority(); err != nil {
		return fmt.Errorf("make cluster CA: %w", err)
	}
	cert, key, err := p.ca.server(names...)
	if err != nil {
		return fmt.Errorf("make certificate of the API server: %w", err)
	}
	sa, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make key of the service accounts: %w", err)
	}
	saKey, err := private(sa)
	if err != nil {
		return fmt.Errorf("make key of the service accounts: %w", err)
	}
	ecKey, ok := p.ca.key.(*ecdsa.PrivateKey)
	if !ok {
		return fmt.Errorf("make cluster CA: unexpected key %T", p.ca.key)
	}
	caKey, err := private(ecKey)
	if err != nil {
		return fmt.Errorf("make cluster CA: %w", err)
	}
	for name, data := range map[string][]byte{"ca.crt": p.ca.pem, "ca.key": caKey, "server.crt": cert, "server.key": key, "sa.key": saKey} {
		if err := os.WriteFile(p.file(name), data, 0o600); err != nil {
			return err
		}
	}
	p.Kubeconfig = p.file("kubeconfig")
	return p.WriteKubeconfig(p.Kubeconfig, "admin", "system:masters")
}

// WriteKubeconfig writes a kubeconfig for a user of the cluster with everything
// inline. What the user may do is up to RBAC.
func (p *Plane) WriteKubeconfig(path, user string, groups ...string) error {
	cert, key, err := p.ca.client(user, groups...)
	if err != nil {
		return fmt.Errorf("make certificate of %s: %w", user, err)
	}
	c := api.NewConfig()
	c.Clusters["test"] = &api.Cluster{Server: p.Server, CertificateAuthorityData: p.ca.pem}
	c.AuthInfos[user] = &api.AuthInfo{ClientCertificateData: cert, ClientKeyData: key}
	c.Contexts["test"] = &api.Context{Cluster: "test", AuthInfo: user}
	c.CurrentContext = "test"
	return clientcmd.WriteToFile(*c, path)
}

func (p *Plane) file(name string) string { return filepath.Join(p.o.Dir, name) }
