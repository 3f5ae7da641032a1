package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/mirror"
	"github.com/airlock-project/airlock/mirror/target"
	"github.com/airlock-project/airlock/mirror/target/acr"
	"github.com/airlock-project/airlock/mirror/target/ecr"
	"github.com/airlock-project/airlock/mirror/target/gar"
	"github.com/airlock-project/airlock/mirror/target/harbor"
	"github.com/airlock-project/airlock/mirror/target/oci"
)

// providers are the values of --provider.
var providers = []string{"ecr", "gar", "acr", "harbor", "oci"}

// provider picks the adapter for a registry: what the user says, else by its
// host name, else Harbor if it answers as one, else a plain OCI registry.
func (a *app) provider(ctx context.Context, host string, f loginFlags, hosts *remote.Hosts, login remote.Credential) (mirror.Target, error) {
	client := hosts.HTTPClient()
	kind := f.provider
	switch {
	case kind != "":
	case ecr.Match(host):
		kind = "ecr"
	case gar.Match(host):
		kind = "gar"
	case acr.Match(host):
		kind = "acr"
	default:
		at := host
		if hosts.Scheme(host) == "http" {
			at = "http://" + host
		}
		// A registry that cannot be asked is not known to be Harbor: what is
		// wrong shows with the first request that matters.
		if ok, err := harbor.Probe(ctx, client, at); err == nil && ok {
			kind = "harbor"
		}
	}
	given := target.Credential{Username: login.Username, Password: login.Password}
	switch kind {
	case "ecr":
		return ecr.New(ecr.Options{Host: host, HTTPClient: client, ManagedElsewhere: f.noCreate})
	case "gar":
		return gar.New(gar.Options{Host: host, HTTPClient: client, ManagedElsewhere: f.noCreate})
	case "acr":
		return acr.New(acr.Options{Host: host, HTTPClient: client, Trusted: f.provider == "acr", Login: given})
	case "harbor":
		return harbor.New(harbor.Options{Host: host, HTTPClient: client, PlainHTTP: hosts.Scheme(host) == "http", Credential: given, ManagedElsewhere: f.noCreate})
	case "", "oci":
		return oci.Target{}, nil
	}
	return nil, &usageError{fmt.Errorf("--provider %q: it is one of %s", kind, strings.Join(providers, ", "))}
}
