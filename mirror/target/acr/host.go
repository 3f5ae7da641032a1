package acr

import (
	"fmt"
	"regexp"
	"strings"
)

// registryHost is what the name of a registry says.
type registryHost struct {
	name   string // lower case; with port only where the user vouches for it
	suffix string // "azurecr.io" and its like; empty for a name of another shape
}

// Names of Azure Container Registry: NAME or, with a name reuse label,
// NAME-LABEL, and regional login servers NAME.REGION.geo. Anchored at both ends:
// a token goes to no other host.
var (
	loginServer  = regexp.MustCompile(`^[a-z0-9]{5,50}(?:-[a-z0-9]{1,32})?(?:\.[a-z0-9]{1,40}\.geo)?\.(azurecr\.(?:io|us|cn|de))$`)
	dataEndpoint = regexp.MustCompile(`^([a-z0-9]{5,50}(?:-[a-z0-9]{1,32})?)\.[a-z0-9]{1,40}\.data\.(azurecr\.(?:io|us|cn|de))$`)
	plainHost    = regexp.MustCompile(`^[a-z0-9](?:[a-z0-9.-]{0,250}[a-z0-9])?(?::[0-9]{1,5})?$`)
)

// Match reports whether host, with or without port 443, names an Azure
// Container Registry in one of Azure's clouds. It is true for data endpoints
// too, which New then refuses with a reason.
func Match(host string) bool {
	name := bareHost(host)
	return loginServer.MatchString(name) || dataEndpoint.MatchString(name)
}

func bareHost(host string) string {
	return strings.ToLower(strings.TrimSuffix(host, ":443"))
}

func parseHost(name string, trusted bool) (registryHost, error) {
	if m := dataEndpoint.FindStringSubmatch(name); m != nil {
		return registryHost{}, fmt.Errorf("%s is a data endpoint, from which content is pulled only: push to %s.%s", name, m[1], m[2])
	}
	if m := loginServer.FindStringSubmatch(name); m != nil {
		return registryHost{name: name, suffix: m[1]}, nil
	}
	if trusted && plainHost.MatchString(name) {
		return registryHost{name: name}, nil
	}
	return registryHost{}, fmt.Errorf("host %q is no Azure Container Registry: it has to read NAME.azurecr.io or the like", name)
}

// authority is where Entra ID is for a registry's cloud.
func (h registryHost) authority() string {
	switch h.suffix {
	case "azurecr.us":
		return "https://login.microsoftonline.us/"
	case "azurecr.cn":
		return "https://login.chinacloudapi.cn/"
	case "azurecr.de":
		return "https://login.microsoftonline.de/"
	}
	return "https://login.microsoftonline.com/"
}

// registry is the name by which the Azure command line knows the registry.
func (h registryHost) registry() string {
	name, _, _ := strings.Cut(h.name, ".")
	name, _, _ = strings.Cut(name, "-")
	return name
}
