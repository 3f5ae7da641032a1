package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
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
func (a *app) provider(ctx context.Context, to string, f loginFlags, hosts *remote.Hosts, login remote.Credential) (mirror.Target, error) {
	host, _, _ := strings.Cut(to, "/")
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
	case lookalike(host) != "":
		// No request: what is mistyped may be anybody's.
		_, err := a.adapter(lookalike(host), host, to, f, hosts, target.Credential{})
		if err == nil {
			err = fmt.Errorf("host %q is no registry of a cloud", host)
		}
		return nil, &settingError{err, "check the spelling of account, region and domain; --provider oci if the name is another product's"}
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
	t, err := a.adapter(kind, host, to, f, hosts, given)
	if _, usage := errors.AsType[*usageError](err); err != nil && !usage {
		return nil, &settingError{err, "check the registry's name, --create-with and the environment of its provider"}
	}
	if err != nil {
		return nil, err
	}
	if kind == "ecr" || kind == "gar" || kind == "acr" {
		t = lenient{t, stored(hosts, to)}
	}
	return t, nil
}

// adapter makes the adapter of a kind.
func (a *app) adapter(kind, host, to string, f loginFlags, hosts *remote.Hosts, given target.Credential) (mirror.Target, error) {
	client := hosts.HTTPClient()
	set, err := parseCreation(cmp.Or(kind, "oci"), f.createWith)
	if err != nil {
		return nil, err
	}
	switch kind {
	case "ecr":
		return ecr.New(set.ecr(ecr.Options{Host: host, HTTPClient: client, ManagedElsewhere: f.noCreate}))
	case "gar":
		return gar.New(set.gar(gar.Options{Host: host, HTTPClient: client, ManagedElsewhere: f.noCreate}))
	case "acr":
		return acr.New(acr.Options{Host: host, HTTPClient: client, Trusted: f.provider == "acr", Login: given})
	case "harbor":
		o, err := set.harbor(harbor.Options{Host: host, HTTPClient: client, PlainHTTP: hosts.Scheme(host) == "http", Login: stored(hosts, to), ManagedElsewhere: f.noCreate})
		if err != nil {
			return nil, err
		}
		return harbor.New(o)
	case "", "oci":
		return oci.Target{}, nil
	}
	return nil, &usageError{fmt.Errorf("--provider %q: it is one of %s", kind, strings.Join(providers, ", "))}
}

// lookalike names the cloud whose registries a host nearly looks like.
func lookalike(host string) string {
	host, _, _ = strings.Cut(strings.ToLower(host), ":")
	switch {
	case strings.Contains(host, ".dkr.ecr"), strings.Contains(host, ".dkr-ecr"), host == "public.ecr.aws":
		return "ecr"
	case strings.HasSuffix(host, ".pkg.dev"):
		return "gar"
	case strings.Contains(host, ".azurecr."):
		return "acr"
	}
	return ""
}

// stored asks for what hosts would show the registry for content below to.
func stored(hosts *remote.Hosts, to string) func(context.Context) (target.Credential, error) {
	host, prefix, _ := strings.Cut(strings.TrimSuffix(to, "/"), "/")
	return func(ctx context.Context) (target.Credential, error) {
		c, err := hosts.AuthFor(remote.Reference{Host: host, Repository: prefix}).Credential(ctx, host)
		if err != nil || c == (remote.Credential{}) {
			return target.Credential{}, err
		}
		return target.Credential{Username: c.Username, Password: c.Password, Source: hosts.CredentialSource(host)}, nil
	}
}

// lenient is an adapter whose API needs an identity of the provider, before a
// registry that also takes a login that was given or is stored. Without the
// identity, the state of the registry is unknown and no reason to stop.
type lenient struct {
	mirror.Target
	stored func(context.Context) (target.Credential, error)
}

// Inspect implements mirror.Target.
func (t lenient) Inspect(ctx context.Context, want target.Request) (target.State, error) {
	st, err := t.Target.Inspect(ctx, want)
	p, ok := errors.AsType[*target.Problem](err)
	if !ok || !slices.Contains([]target.Code{target.NoCredentials, target.LoginRefused, target.LoginExpired, target.Unreachable}, p.Code) {
		return st, err
	}
	if _, own := t.Credential(ctx); own == nil {
		return st, err
	}
	if c, none := t.stored(ctx); none != nil || c.Username == "" {
		return st, err
	}
	return target.State{Notices: []target.Notice{{
		Code: target.StateUnread, Remedy: p.Remedy,
		Text: fmt.Sprintf("only the login for the registry is there, so its repositories and rules are not known, and none is made: %v", p.Err),
	}}}, nil
}
