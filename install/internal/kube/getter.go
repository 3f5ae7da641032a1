package kube

import (
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Getter hands the cluster to libraries of kubectl's kind, such as Helm's, with
// the namespace that they work in.
func (c *Client) Getter(namespace string) genericclioptions.RESTClientGetter {
	return &getter{client: c, namespace: namespace}
}

type getter struct {
	client    *Client
	namespace string
	cached    discovery.CachedDiscoveryInterface
}

func (g *getter) ToRESTConfig() (*rest.Config, error) { return g.client.REST(), nil }

func (g *getter) ToDiscoveryClient() (discovery.CachedDiscoveryInterface, error) {
	g.client.mu.Lock()
	defer g.client.mu.Unlock()
	if g.cached == nil {
		d, err := discovery.NewDiscoveryClientForConfigAndClient(g.client.rest, g.client.http)
		if err != nil {
			return nil, err
		}
		g.cached = memory.NewMemCacheClient(d)
	}
	return g.cached, nil
}

func (g *getter) ToRESTMapper() (meta.RESTMapper, error) {
	d, err := g.ToDiscoveryClient()
	if err != nil {
		return nil, err
	}
	return restmapper.NewShortcutExpander(restmapper.NewDeferredDiscoveryRESTMapper(d), d, nil), nil
}

func (g *getter) ToRawKubeConfigLoader() clientcmd.ClientConfig {
	return clientcmd.NewDefaultClientConfig(g.client.raw, &clientcmd.ConfigOverrides{Context: clientcmdapi.Context{Namespace: g.namespace}})
}
