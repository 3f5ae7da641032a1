package spacelift

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"slices"
)

// Join is what workers do with the token and the private key of a pool: they get
// into the pool that was made with both. The key is PEM in base64 on one line.
func (s *Server) Join(token, key string) (id string, err error) {
	text, err := base64.StdEncoding.DecodeString(key)
	if err != nil || len(token) == 0 {
		return "", errors.New("the private key is not base64 on one line")
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return "", errors.New("the private key is no PEM")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		parsed, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	}
	private, ok := parsed.(*rsa.PrivateKey)
	if err != nil || !ok {
		return "", errors.New("the private key cannot be read")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.pools, func(p *pool) bool { return p.token != "" && p.token == token })
	if i < 0 {
		return "", errors.New("the token is of no pool")
	}
	block, _ = pem.Decode([]byte(s.pools[i].csr))
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return "", err
	}
	if !private.PublicKey.Equal(csr.PublicKey) {
		return "", errors.New("the private key is not that of the pool's signing request")
	}
	return s.pools[i].id, nil
}

// Register is what the worker controller does with an API key of its own: it makes
// a pool, unless it has made it already.
func (s *Server) Register(keyID, keySecret, name, space string) (id string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if keyID != s.o.ControllerID || keySecret != s.o.ControllerSecret || keyID == "" {
		return "", errors.New("the API key may make no worker pool")
	}
	if i := slices.IndexFunc(s.pools, func(p *pool) bool { return p.name == name }); i >= 0 {
		return s.pools[i].id, nil
	}
	p := &pool{id: "pool-" + secret()[:8], name: name, space: space}
	s.pools = append(s.pools, p)
	return p.id, nil
}

// Space returns the space of a pool.
func (s *Server) Space(id string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.pools {
		if p.id == id {
			return p.space
		}
	}
	return ""
}
