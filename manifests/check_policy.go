package manifests

import "net/url"

// ParsePolicy decodes policy.yaml strictly and checks it. name stands for the
// document in findings. The error is Findings: all of them at once.
func ParsePolicy(name string, data []byte) (*Policy, error) {
	p := new(Policy)
	if err := parse(name, data, MaxWritten, KindPolicy, p, p.check); err != nil {
		return nil, err
	}
	return p, nil
}

func (pol *Policy) check(d *document) {
	products := seen{}
	for i, product := range pol.Products {
		d.unique(products, product, path{"products", i})
	}
	names, roles := seen{}, map[string]int{}
	for i, s := range pol.Signers {
		p := path{"signers", i}
		d.unique(names, s.Name, p.with("name"))
		d.keyReference(s.Key, p.with("key"))
		d.fileReference(s.TrustedRoot, p.with("trustedRoot"))
		if s.Keyless != nil {
			u, err := url.Parse(s.Keyless.Issuer)
			if err != nil || u.Scheme != "https" || u.Host == "" {
				d.at(p.with("keyless", "issuer"), "want a URL that begins with https://")
			}
		}
		roles[s.Role]++
	}
	required := seen{}
	for i, r := range pol.Require {
		p := path{"require", i}
		d.unique(required, r.Role, p.with("role"))
		switch n := roles[r.Role]; {
		case r.Role == "" || len(pol.Signers) == 0:
		case n == 0:
			d.at(p.with("role"), "no signer has role %s", quoted(r.Role))
		case r.AtLeast > n:
			d.at(p.with("atLeast"), "wants %d signers of role %s, the policy has %d", r.AtLeast, quoted(r.Role), n)
		}
	}
	if pol.Images == nil {
		return
	}
	for i, s := range pol.Images.Signers {
		if _, ok := names[s]; !ok && s != "" {
			d.at(path{"images", "signers", i}, "no signer is named %s", quoted(s))
		}
	}
	if pol.Images.Signatures == "required" && len(pol.Images.Signers) == 0 {
		d.at(path{"images", "signers"}, "missing: signatures are required, of nobody")
	}
}
