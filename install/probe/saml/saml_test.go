package saml

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/testdata/spacelift"
)

var now = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)

func cert(t *testing.T, from, until time.Time) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "idp"}, NotBefore: from, NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(der)
}

func metadataXML(cert, binding string) string {
	return fmt.Sprintf(`<?xml version="1.0"?>
<md:EntityDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata" xmlns:ds="http://www.w3.org/2000/09/xmldsig#" entityID="https://idp.example">
 <md:IDPSSODescriptor protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol">
  <md:KeyDescriptor use="signing"><ds:KeyInfo><ds:X509Data><ds:X509Certificate>
   %s
  </ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>
  <md:SingleSignOnService Binding="urn:oasis:names:tc:SAML:2.0:bindings:%s" Location="https://idp.example/sso"/>
 </md:IDPSSODescriptor>
</md:EntityDescriptor>`, cert, binding)
}

func TestMetadata(t *testing.T) {
	good := cert(t, now.AddDate(-1, 0, 0), now.AddDate(1, 0, 0))
	for name, c := range map[string]struct {
		xml  string
		more map[string]any
		want []string
		says string
	}{
		"good":      {xml: metadataXML(good, "HTTP-POST")},
		"entity":    {metadataXML(good, "HTTP-Redirect"), map[string]any{"entity": "https://other.example"}, []string{"SAML-04"}, "https://idp.example"},
		"expired":   {metadataXML(cert(t, now.AddDate(-2, 0, 0), now.AddDate(0, 0, -1)), "HTTP-POST"), nil, []string{"SAML-02"}, "has expired"},
		"soon":      {metadataXML(cert(t, now.AddDate(-2, 0, 0), now.AddDate(0, 0, 9)), "HTTP-POST"), nil, []string{"SAML-02 warn"}, "9 days"},
		"not yet":   {metadataXML(cert(t, now.AddDate(0, 0, 1), now.AddDate(1, 0, 0)), "HTTP-POST"), nil, []string{"SAML-02"}, "not valid yet"},
		"binding":   {metadataXML(good, "SOAP"), map[string]any{"codes": map[string]any{"SAML-03": "SSO-06"}}, []string{"SSO-06"}, "SOAP"},
		"no cert":   {metadataXML("", "HTTP-POST"), nil, []string{"SAML-01"}, "cannot be read"},
		"bad cert":  {metadataXML("!!", "HTTP-POST"), nil, []string{"SAML-01"}, "not base64"},
		"html":      {"<html><body>login</body></html>", nil, []string{"SAML-01"}, "not SAML metadata"},
		"not XML":   {"hello <", nil, []string{"SAML-01"}, "not XML"},
		"doctype":   {`<!DOCTYPE x [<!ENTITY a "b">]>` + metadataXML(good, "HTTP-POST"), nil, []string{"SAML-01"}, "document type"},
		"deep":      {strings.Repeat("<a>", 100) + strings.Repeat("</a>", 100), nil, []string{"SAML-01"}, "nested"},
		"no idp":    {`<EntityDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata" entityID="x"/>`, nil, []string{"SAML-01"}, "IDPSSODescriptor"},
		"too large": {strings.Repeat(" ", maxMetadata+1), nil, []string{"SAML-01"}, "larger"},
	} {
		path := filepath.Join(t.TempDir(), "metadata.xml")
		if err := os.WriteFile(path, []byte(c.xml), 0o600); err != nil {
			t.Fatal(err)
		}
		with := map[string]any{"file": path}
		maps.Copy(with, c.more)
		res, err := Probe{Now: func() time.Time { return now }}.Run(t.Context(), install.Input{With: with})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got []string
		for _, f := range res.Findings {
			got = append(got, strings.TrimSpace(f.Code+" "+string(f.Severity)))
			if !strings.Contains(f.Detail, c.says) || f.Fields["source"] != path {
				t.Errorf("%s: %+v does not say %q", name, f, c.says)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestFetch(t *testing.T) {
	text := metadataXML(cert(t, now.AddDate(-1, 0, 0), now.AddDate(1, 0, 0)), "HTTP-POST")
	mux := http.NewServeMux()
	mux.HandleFunc("/metadata", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) })
	url, ca, _ := spacelift.TLS(t, mux)
	p := Probe{Now: func() time.Time { return now }}
	for name, c := range map[string]struct {
		with map[string]any
		says string
	}{
		"good":       {map[string]any{"url": url + "/metadata", "ca": ca}, ""},
		"missing":    {map[string]any{"url": url + "/other", "ca": ca}, "404"},
		"unknown CA": {map[string]any{"url": url + "/metadata"}, "certificate"},
	} {
		res, err := p.Run(t.Context(), install.Input{With: c.with})
		if err != nil || len(res.Findings) != min(len(c.says), 1) || c.says != "" && !strings.Contains(res.Findings[0].Detail, c.says) {
			t.Errorf("%s: %+v, %v", name, res, err)
		}
	}
	for _, with := range []map[string]any{{}, {"file": "a", "url": "https://b"}, {"files": "x"}} {
		if _, err := p.Run(t.Context(), install.Input{With: with}); err == nil {
			t.Errorf("%v is accepted", with)
		}
	}
}
