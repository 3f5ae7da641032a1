package aws

import "crypto/x509"

// covers reports whether names hold a host, by the rules of certificates: a
// wildcard stands for one label.
func covers(names []string, host string) bool {
	return (&x509.Certificate{DNSNames: names}).VerifyHostname(host) == nil
}
