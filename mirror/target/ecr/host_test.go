package ecr

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseHost(t *testing.T) {
	opt := cmp.AllowUnexported(registryHost{})
	for _, tt := range []struct {
		host string
		want registryHost
	}{
		{"123456789012.dkr.ecr.us-east-1.amazonaws.com", registryHost{region: "us-east-1", partition: "aws"}},
		{"123456789012.DKR.ecr.us-east-1.amazonaws.com:443", registryHost{region: "us-east-1", partition: "aws"}},
		{"123456789012.dkr.ecr-fips.us-east-2.amazonaws.com", registryHost{region: "us-east-2", partition: "aws", fips: true}},
		{"123456789012.dkr.ecr.us-gov-west-1.amazonaws.com", registryHost{region: "us-gov-west-1", partition: "aws-us-gov"}},
		{"123456789012.dkr.ecr-fips.us-gov-east-1.amazonaws.com", registryHost{region: "us-gov-east-1", partition: "aws-us-gov", fips: true}},
		{"123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", registryHost{region: "cn-north-1", partition: "aws-cn"}},
		{"123456789012.dkr-ecr.cn-northwest-1.on.amazonwebservices.com.cn", registryHost{region: "cn-northwest-1", partition: "aws-cn", dualStack: true}},
		{"123456789012.dkr.ecr.us-iso-east-1.c2s.ic.gov", registryHost{region: "us-iso-east-1", partition: "aws-iso"}},
		{"123456789012.dkr.ecr.us-isob-east-1.sc2s.sgov.gov", registryHost{region: "us-isob-east-1", partition: "aws-iso-b"}},
		{"123456789012.dkr.ecr.eu-isoe-west-1.cloud.adc-e.uk", registryHost{region: "eu-isoe-west-1", partition: "aws-iso-e"}},
		{"123456789012.dkr.ecr.us-isof-south-1.csp.hci.ic.gov", registryHost{region: "us-isof-south-1", partition: "aws-iso-f"}},
		{"123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu", registryHost{region: "eusc-de-east-1", partition: "aws-eusc"}},
		{"123456789012.dkr-ecr.eu-west-1.on.aws", registryHost{region: "eu-west-1", partition: "aws", dualStack: true}},
		{"123456789012.dkr-ecr-fips.us-gov-west-1.on.aws", registryHost{region: "us-gov-west-1", partition: "aws-us-gov", dualStack: true, fips: true}},
		{"123456789012.vpce-0a1b-c2d3.dkr.ecr.us-east-1.vpce.amazonaws.com", registryHost{region: "us-east-1", partition: "aws"}},
		{"vpce-0a1b2c-d3e4f5-us-east-1a.dkr.ecr.us-east-1.vpce.amazonaws.com", registryHost{region: "us-east-1", partition: "aws"}},
	} {
		t.Run(tt.host, func(t *testing.T) {
			got, err := parseHost(bareHost(tt.host))
			if err != nil {
				t.Fatal(err)
			}
			tt.want.name = strings.TrimSuffix(strings.ToLower(tt.host), ":443")
			if !strings.HasPrefix(tt.host, "vpce") {
				tt.want.account = "123456789012"
			}
			if diff := cmp.Diff(tt.want, got, opt); diff != "" {
				t.Error(diff)
			}
			if !Match(tt.host) {
				t.Error("Match is false")
			}
		})
	}
}

func TestMatchRefuses(t *testing.T) {
	for _, host := range []string{
		"", "localhost:5000", "example.com", "dkr.ecr.us-east-1.amazonaws.com",
		"123456789012.dkr.ecr.us-east-1.amazonaws.com.evil.example",
		"evil.example/123456789012.dkr.ecr.us-east-1.amazonaws.com",
		"x123456789012.dkr.ecr.us-east-1.amazonaws.com",
		"a.123456789012.dkr.ecr.us-east-1.amazonaws.com",
		"12345678901.dkr.ecr.us-east-1.amazonaws.com",
		"123456789012.dkr.ecr.us-east-1.amazonaws.com:5000",
		"123456789012.dkr.ecr.us-east-1.amazonaws.com.",
		"123456789012.dkr.ecr.us-east-1.amazonaws.com\n",
		"123456789012.dkr.ecr.us-east-1xamazonaws.com",
		"123456789012.dkrxecr.us-east-1.amazonaws.com",
		"123456789012.dkr.ecr.evil.amazonaws.com",
		"123456789012.dkr.ecr.us-east-1.evil.example.amazonaws.com",
		"123456789012.dkr.ecr.cn-north-1.amazonaws.com",
		"123456789012.dkr.ecr.us-east-1.amazonaws.com.cn",
		"123456789012.dkr.ecr.us-east-1.c2s.ic.gov",
		"vpce-0a1b.api.ecr.us-east-1.vpce.amazonaws.com",
		"bucket.s3.us-east-1.amazonaws.com",
	} {
		if Match(host) {
			t.Errorf("Match(%q) is true", host)
		}
		if _, err := New(Options{Host: host, HTTPClient: http.DefaultClient}); err == nil {
			t.Errorf("New takes %q", host)
		}
	}
}

func TestPublicGallery(t *testing.T) {
	if !Match("public.ecr.aws") {
		t.Error("nobody would say why the public gallery is no target")
	}
	_, err := New(Options{Host: "public.ecr.aws", HTTPClient: http.DefaultClient})
	if err == nil || !strings.Contains(err.Error(), "not a push target") {
		t.Errorf("New: %v", err)
	}
}

// FuzzMatch holds that a token goes nowhere but to Amazon's own domains.
func FuzzMatch(f *testing.F) {
	f.Add("123456789012.dkr.ecr.us-east-1.amazonaws.com")
	f.Add("123456789012.dkr.ecr.us-east-1.amazonaws.com:443")
	f.Add("123456789012.dkr.ecr.us-east-1.amazonaws.com.evil.example")
	f.Add("vpce-0a1b-c2d3.dkr.ecr.us-east-1.vpce.amazonaws.com")
	f.Add("public.ecr.aws")
	f.Fuzz(func(t *testing.T, host string) {
		if !Match(host) {
			return
		}
		for _, end := range []string{".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu", ".on.aws", ".on.amazonwebservices.com.cn", ".c2s.ic.gov", ".sc2s.sgov.gov", ".cloud.adc-e.uk", ".csp.hci.ic.gov", "public.ecr.aws"} {
			if strings.HasSuffix(bareHost(host), end) && !strings.ContainsAny(host, "/@?#\\ \n") {
				return
			}
		}
		t.Errorf("Match(%q) is true", host)
	})
}
