// Package saml is the probe saml.metadata: can the metadata of an identity
// provider be used for single sign-on (SAML 2.0 metadata, section 2.4.3).
package saml

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/airlock-project/airlock/bundle/regular"
	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/web"
)

// Codes. The checklist may give its own, with codes:.
const (
	codeUnusable = "SAML-01"
	codeExpires  = "SAML-02"
	codeBinding  = "SAML-03"
	codeEntity   = "SAML-04"
)

const (
	// maxMetadata bounds a document: a federation's aggregate is not one
	// provider's metadata.
	maxMetadata = 4 << 20
	maxDepth    = 64
	defaultWarn = 30 // days
	timeout     = 30 * time.Second
	bindingBase = "urn:oasis:names:tc:SAML:2.0:bindings:"
)

// Probe is saml.metadata. Now is the clock; nil means time.Now.
type Probe struct {
	Now func() time.Time
}

// arguments are the step's with.
type arguments struct {
	File     string            `json:"file"` // or
	URL      string            `json:"url"`
	CA       string            `json:"ca"`
	Entity   string            `json:"entity"`   // the entity ID it has to have
	Bindings []string          `json:"bindings"` // one of these; default HTTP-Redirect, HTTP-POST
	WarnDays int               `json:"warn_days"`
	Codes    map[string]string `json:"codes"`
}

// metadata is what of a document counts.
type metadata struct {
	XMLName  xml.Name `xml:"urn:oasis:names:tc:SAML:2.0:metadata EntityDescriptor"`
	EntityID string   `xml:"entityID,attr"`
	IDP      []struct {
		Keys []struct {
			Use  string   `xml:"use,attr"`
			Cert []string `xml:"http://www.w3.org/2000/09/xmldsig# KeyInfo>X509Data>X509Certificate"`
		} `xml:"KeyDescriptor"`
		SSO []struct {
			Binding  string `xml:"Binding,attr"`
			Location string `xml:"Location,attr"`
		} `xml:"SingleSignOnService"`
	} `xml:"IDPSSODescriptor"`
}

// Codes implements install.Coder.
func (Probe) Codes() map[string][]string {
	return map[string][]string{
		codeUnusable: {"source", "reason"}, codeExpires: {"source", "subject", "date", "reason"},
		codeBinding: {"source", "want", "got"}, codeEntity: {"source", "want", "got"},
	}
}

// check is one look at a document.
type check struct {
	arguments
	source string
	now    time.Time
	found  []install.Finding
}

// Run reads the metadata and reports everything that would stop a login.
func (p Probe) Run(ctx context.Context, in install.Input) (install.Result, error) {
	c := &check{arguments: arguments{WarnDays: defaultWarn, Bindings: []string{"HTTP-Redirect", "HTTP-POST"}}, now: time.Now()}
	if p.Now != nil {
		c.now = p.Now()
	}
	if err := in.Decode(&c.arguments); err != nil {
		return install.Result{}, err
	}
	if c.source = c.File + c.URL; c.File != "" == (c.URL != "") {
		return install.Result{}, errors.New("want file or url")
	}
	raw, err := c.read(ctx)
	if ctx.Err() != nil {
		return install.Result{}, ctx.Err()
	}
	if err == nil {
		err = c.judge(raw)
	}
	if err != nil {
		c.add(codeUnusable, "", map[string]string{"reason": web.Quote(err.Error())})
	}
	return install.Result{Findings: c.found}, nil
}

func (c *check) add(code string, severity install.Severity, fields map[string]string) {
	fields["source"] = c.source
	detail := fields["reason"]
	if detail == "" {
		detail = fmt.Sprintf("%s, want %s", fields["got"], fields["want"])
	}
	if own := c.Codes[code]; own != "" {
		code = own
	}
	c.found = append(c.found, install.Finding{Code: code, Severity: severity, Detail: c.source + ": " + detail, Fields: fields})
}

func (c *check) read(ctx context.Context) ([]byte, error) {
	if c.URL == "" {
		f, err := regular.Open(c.File)
		if err != nil {
			if pe, ok := errors.AsType[*os.PathError](err); ok {
				err = pe.Err
			}
			return nil, err
		}
		defer f.Close()
		return bounded(f)
	}
	if err := web.Address(c.URL, false); err != nil {
		return nil, err
	}
	client, err := web.Trusting(c.CA, false)
	if err != nil {
		return nil, err
	}
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL, nil)
	if err != nil {
		return nil, errors.New("want a url with http or https")
	}
	resp, err := client.Do(req)
	if err != nil {
		reason, _ := web.Why(err)
		return nil, errors.New(reason)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the identity provider answers %d", resp.StatusCode)
	}
	return bounded(resp.Body)
}

func bounded(r io.Reader) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxMetadata+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxMetadata {
		return nil, fmt.Errorf("it is larger than %d bytes", maxMetadata)
	}
	return raw, nil
}

// judge compares the document with what a service provider needs of it.
func (c *check) judge(raw []byte) error {
	if err := plain(raw); err != nil {
		return err
	}
	var m metadata
	if err := xml.Unmarshal(raw, &m); err != nil {
		return fmt.Errorf("it is not SAML metadata of one entity: %w", err)
	}
	if len(m.IDP) == 0 {
		return errors.New("it describes no identity provider (IDPSSODescriptor)")
	}
	if c.Entity != "" && m.EntityID != c.Entity {
		c.add(codeEntity, "", map[string]string{"want": c.Entity, "got": web.Quote(m.EntityID)})
	}
	signing := 0
	var offered []string
	for _, idp := range m.IDP {
		for _, sso := range idp.SSO {
			offered = append(offered, strings.TrimPrefix(sso.Binding, bindingBase))
		}
		for _, k := range idp.Keys {
			if k.Use != "" && k.Use != "signing" {
				continue
			}
			for _, text := range k.Cert {
				if err := c.certificate(text); err != nil {
					return err
				}
				signing++
			}
		}
	}
	if signing == 0 {
		return errors.New("it has no signing certificate")
	}
	if !slices.ContainsFunc(offered, func(b string) bool { return slices.Contains(c.Bindings, b) }) {
		c.add(codeBinding, "", map[string]string{"want": strings.Join(c.Bindings, " or "), "got": web.Quote(strings.Join(offered, ", "))})
	}
	return nil
}

// plain refuses what metadata has no use for and attackers have: document type
// declarations and deep nesting.
func plain(raw []byte) error {
	d, depth := xml.NewDecoder(bytes.NewReader(raw)), 0
	for {
		tok, err := d.RawToken()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("it is not XML: %w", err)
		}
		switch tok.(type) {
		case xml.Directive:
			return errors.New("it has a document type declaration, which is refused")
		case xml.StartElement:
			depth++
		case xml.EndElement:
			depth--
		}
		if depth > maxDepth {
			return fmt.Errorf("it is nested more than %d deep", maxDepth)
		}
	}
}

func (c *check) certificate(text string) error {
	der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil {
		return errors.New("its signing certificate is not base64")
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return errors.New("its signing certificate cannot be read")
	}
	severity, reason, date := install.Severity(""), "", cert.NotAfter
	left := cert.NotAfter.Sub(c.now)
	switch {
	case c.now.Before(cert.NotBefore):
		reason, date = "is not valid yet", cert.NotBefore
	case left <= 0:
		reason = "has expired"
	case left < time.Duration(c.WarnDays)*24*time.Hour:
		severity, reason = install.SeverityWarn, fmt.Sprintf("expires in %d days", int(left.Hours()/24))
	default:
		return nil
	}
	c.add(codeExpires, severity, map[string]string{
		"subject": web.Quote(cert.Subject.String()), "date": date.UTC().Format(time.DateOnly), "reason": reason,
	})
	return nil
}
