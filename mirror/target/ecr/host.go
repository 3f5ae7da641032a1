package ecr

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// registryHost is what the name of a private registry says.
type registryHost struct {
	name      string // lower case, without port
	account   string // 12 digits; empty for an endpoint's own name without account
	region    string
	partition string
	fips      bool
	dualStack bool
}

// Names of private registries, from the credential helper of Amazon ECR
// (ecr-login/api/client.go) and, for interface endpoints that have no private
// DNS, from the VPC guide ("vpce-…"), before which a registry's account may
// stand. Anchored at both ends: a token goes to no other host.
const (
	labelECR    = `\.dkr[.-]ecr(-fips)?\.([a-z]{2,6}(?:-[a-z]+)+-[0-9]{1,2})\.`
	hostAccount = `^([0-9]{12})` + labelECR + `(amazonaws\.com(?:\.cn)?|amazonaws\.eu|on\.aws|on\.amazonwebservices\.com\.cn|c2s\.ic\.gov|sc2s\.sgov\.gov|cloud\.adc-e\.uk|csp\.hci\.ic\.gov)$`
	hostVPCE    = `^(?:([0-9]{12})\.)?vpce-[0-9a-z]+(?:-[0-9a-z]+)*` + labelECR + `vpce\.(amazonaws\.com(?:\.cn)?|amazonaws\.eu|c2s\.ic\.gov|sc2s\.sgov\.gov|cloud\.adc-e\.uk|csp\.hci\.ic\.gov)$`
	publicHost  = "public.ecr.aws"
	maxHostName = 253
)

var hostNames = []*regexp.Regexp{regexp.MustCompile(hostAccount), regexp.MustCompile(hostVPCE)}

// errPublic says why the public gallery is no target.
var errPublic = errors.New("public.ecr.aws is a public gallery, not a push target here: name a private registry as ACCOUNT.dkr.ecr.REGION.amazonaws.com")

// Match reports whether host, with or without port 443, names a registry of
// Amazon ECR. It is true for the public gallery too, which New then refuses
// with a reason.
func Match(host string) bool {
	name := bareHost(host)
	if name == publicHost {
		return true
	}
	_, err := parseHost(name)
	return err == nil
}

func bareHost(host string) string {
	return strings.ToLower(strings.TrimSuffix(host, ":443"))
}

func parseHost(name string) (registryHost, error) {
	if name == publicHost {
		return registryHost{}, errPublic
	}
	if len(name) > maxHostName {
		return registryHost{}, fmt.Errorf("host name has %d bytes, %d are allowed", len(name), maxHostName)
	}
	for _, pattern := range hostNames {
		m := pattern.FindStringSubmatch(name)
		if m == nil {
			continue
		}
		h := registryHost{
			name: name, account: m[1], fips: m[2] != "", region: m[3],
			partition: partition(m[3]), dualStack: strings.HasPrefix(m[4], "on."),
		}
		if suffixes := partitionSuffixes(h.partition); !strings.Contains(suffixes, " "+m[4]+" ") {
			return registryHost{}, fmt.Errorf("host %q: region %q is in partition %s, whose registries end in one of:%s", name, h.region, h.partition, suffixes)
		}
		return h, nil
	}
	return registryHost{}, fmt.Errorf("host %q is no private registry of Amazon ECR: it has to read ACCOUNT.dkr.ecr.REGION.amazonaws.com or the like", name)
}

// partition tells a region's partition by its prefix, as the SDK's partitions do.
func partition(region string) string {
	for _, p := range []struct{ prefix, name string }{
		{"cn-", "aws-cn"},
		{"us-gov-", "aws-us-gov"},
		{"us-iso-", "aws-iso"},
		{"us-isob-", "aws-iso-b"},
		{"eu-isoe-", "aws-iso-e"},
		{"us-isof-", "aws-iso-f"},
		{"eusc-", "aws-eusc"},
	} {
		if strings.HasPrefix(region, p.prefix) {
			return p.name
		}
	}
	return "aws"
}

// partitionSuffixes lists the endings of a partition's registries, each between
// spaces.
func partitionSuffixes(partition string) string {
	switch partition {
	case "aws-cn":
		return " amazonaws.com.cn on.amazonwebservices.com.cn "
	case "aws-iso":
		return " c2s.ic.gov "
	case "aws-iso-b":
		return " sc2s.sgov.gov "
	case "aws-iso-e":
		return " cloud.adc-e.uk "
	case "aws-iso-f":
		return " csp.hci.ic.gov "
	case "aws-eusc":
		return " amazonaws.eu "
	}
	return " amazonaws.com on.aws "
}
