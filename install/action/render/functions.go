package render

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"text/template"
	"time"
)

// maxCertificates bounds a bundle: public ones have some 150.
const maxCertificates = 1000

// functions are what templates may call.
func functions() template.FuncMap {
	return template.FuncMap{
		// base64 encodes text on one line.
		"base64": func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
		"json": func(v any) (string, error) {
			raw, err := json.Marshal(v)
			return string(raw), err
		},
		// certificates cuts PEM text into its certificates and leaves out the rest.
		"certificates": func(s string) ([]string, error) { return certificates(s, false) },
		// authorities does so and accepts nothing but valid authorities.
		"authorities": func(s string) ([]string, error) { return certificates(s, true) },
	}
}

// certError says what is wrong with a bundle of certificates.
type certError struct{ reason string }

func (e *certError) Error() string { return e.reason }

func certificates(s string, ca bool) ([]string, error) {
	var out []string
	for rest := []byte(s); len(out) < maxCertificates; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, &certError{fmt.Sprintf("certificate %d cannot be read", len(out)+1)}
		}
		if err := authority(cert); err != nil && ca {
			return nil, err
		}
		out = append(out, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: block.Bytes})))
	}
	if len(out) == 0 {
		return nil, &certError{"it holds no PEM certificate"}
	}
	return out, nil
}

func authority(cert *x509.Certificate) error {
	switch {
	case !cert.IsCA || cert.KeyUsage != 0 && cert.KeyUsage&x509.KeyUsageCertSign == 0:
		return &certError{fmt.Sprintf("%s is not an authority (CA:TRUE with certificate signing)", cert.Subject)}
	case time.Now().After(cert.NotAfter):
		return &certError{fmt.Sprintf("%s has expired on %s", cert.Subject, cert.NotAfter.UTC().Format(time.DateOnly))}
	}
	return nil
}
