package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/airlock-project/airlock/bundle/remote"
	"github.com/airlock-project/airlock/install"
	chartaction "github.com/airlock-project/airlock/install/action/chart"
	mirroraction "github.com/airlock-project/airlock/install/action/mirror"
	"github.com/airlock-project/airlock/install/probe/file"
	"github.com/airlock-project/airlock/install/probe/host"
	httpprobe "github.com/airlock-project/airlock/install/probe/http"
	registryprobe "github.com/airlock-project/airlock/install/probe/registry"
	"github.com/airlock-project/airlock/install/probe/tcp"
	"github.com/airlock-project/airlock/install/probe/vantage"
	"github.com/airlock-project/airlock/install/probe/vendor"
	"github.com/airlock-project/airlock/install/probe/x509"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/mirror"
	"github.com/airlock-project/airlock/verify"
)

// kinds registers every kind of step this version knows. Packages mirror and
// install do not know each other: a step that mirrors gets functions from here.
func (a *app) kinds(hosts *remote.Hosts, t mirror.Target, site *manifests.Site) (map[string]install.Probe, map[string]install.Action) {
	probes := map[string]install.Probe{
		"vendor.chain": vendor.Probe{},
		"file.digest":  file.Probe{},
		"host.syntax":  host.Probe{},
		"x509.files":   x509.Probe{},
		"tcp.dial":     tcp.Probe{},
		"http.get":     httpprobe.Probe{},
		"registry.manifest": registryprobe.Probe{Repository: func(ref string) (registryprobe.Repository, error) {
			return hosts.Repository(ref)
		}},
	}
	actions := map[string]install.Action{
		"chart.render": chartaction.Action{},
		"mirror": mirroraction.Action{
			Place: siteTarget(site),
			Push: func(ctx context.Context, b *verify.Bundle) (manifests.RelocationMap, error) {
				o, err := siteMirror(hosts, t, site)
				if err != nil {
					return manifests.RelocationMap{}, err
				}
				o.Listener = a.listen()
				m, _, err := mirror.Run(ctx, b, o)
				return m, err
			},
			Preview: func(ctx context.Context, b *verify.Bundle) (install.Change, error) {
				o, err := siteMirror(hosts, t, site)
				if err != nil {
					return install.Change{}, err
				}
				p, err := mirror.DryRun(ctx, b, o)
				if err != nil {
					return install.Change{}, err
				}
				return previewChange(p), nil
			},
			Where: func(ctx context.Context, b *verify.Bundle) (manifests.RelocationMap, error) {
				o, err := siteMirror(hosts, t, site)
				if err != nil {
					return manifests.RelocationMap{}, err
				}
				return mirror.Relocation(ctx, b, o)
			},
			Conflict: func(err error) (mirroraction.Conflict, bool) {
				c, ok := errors.AsType[*mirror.ConflictError](err)
				if !ok {
					return mirroraction.Conflict{}, false
				}
				return mirroraction.Conflict{Target: c.Target, Have: c.Existing.String(), Want: c.Want.String()}, true
			},
		},
	}
	for _, register := range []func(map[string]install.Probe, map[string]install.Action){
		cryptoKinds, databaseKinds, storageKinds, awsKinds, networkKinds, productKinds, clusterKinds,
	} {
		register(probes, actions)
	}
	helmKinds(probes, actions, false)
	probes["cluster.probe"] = vantage.Probe{Probes: podProbes(probes)}
	return probes, actions
}

// siteMirror says where the site wants its content.
func siteMirror(hosts *remote.Hosts, t mirror.Target, site *manifests.Site) (mirror.Options, error) {
	if site.Registry == nil {
		return mirror.Options{}, errors.New("site.yaml names no registry: add registry: {to: HOST/PREFIX}")
	}
	return mirror.Options{To: site.Registry.To, Hosts: hosts, Target: t}, nil
}

// siteTarget is where the site wants its content, "" if it does not say.
func siteTarget(site *manifests.Site) string {
	if site.Registry == nil {
		return ""
	}
	return site.Registry.To
}

// previewChange puts a plan into the words of a checklist's plan.
func previewChange(d *mirror.Document) install.Change {
	c := install.Change{Nothing: true}
	for _, n := range d.Notices {
		c.Details = append(c.Details, n.Text)
	}
	send := 0
	for _, it := range d.Items {
		if it.State != mirror.Same {
			c.Nothing = false
			send++
			c.Details = append(c.Details, fmt.Sprintf("%s %s:%s", it.State, it.Repository, it.Tag))
		}
	}
	c.Summary = fmt.Sprintf("send %d of %d items to %s, up to %s", send, len(d.Items), d.Target, megabytes(d.Totals.Bytes))
	return c
}
