// Package kube opens Kubernetes clusters for the steps of an installation. It is
// the only place that does: a kubeconfig is checked before it is used, every
// request ends in time, every answer is bounded, and what goes wrong has a type
// and says in a person's words what it is.
package kube

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"sync"

	"github.com/airlock-project/airlock/bundle/regular"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Manager is the field manager of everything that is applied (server-side
// apply). Fields of other managers are never taken over silently.
const Manager = "airlock"

// Config says which cluster.
type Config struct {
	Kubeconfig string // a file
	Context    string // of it; "" is its current one
}

// Client speaks with one cluster. It is safe for concurrent use and needs no
// closing.
type Client struct {
	raw       clientcmdapi.Config
	rest      *rest.Config
	http      *http.Client
	dynamic   dynamic.Interface
	clientset *kubernetes.Clientset
	server    string

	mu       sync.Mutex
	mappings map[schema.GroupVersionKind]*meta.RESTMapping
}

// Open reads and checks a kubeconfig. It talks to nobody. Errors are a
// *ConfigError or a *PluginError.
func Open(ctx context.Context, c Config) (*Client, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	raw, err := load(c)
	if err != nil {
		return nil, err
	}
	for _, user := range raw.AuthInfos { // one; the library would read a pipe or a device too
		if user.TokenFile == "" {
			continue
		}
		if _, err := regular.Read(user.TokenFile, maxMaterial); err != nil {
			return nil, &ConfigError{c.Kubeconfig, "its tokenFile " + clean(user.TokenFile) + " cannot be read: " + cause(err)}
		}
	}
	cfg, err := clientcmd.NewDefaultClientConfig(*raw, &clientcmd.ConfigOverrides{}).ClientConfig()
	if err != nil {
		return nil, &ConfigError{c.Kubeconfig, plain(err)}
	}
	u, err := url.Parse(cfg.Host)
	if err != nil || u.Host == "" {
		return nil, &ConfigError{c.Kubeconfig, "its server is not a URL"}
	}
	cfg.UserAgent = "airlock"
	// The defaults, 5 and 10, make an installation of some hundred objects wait; a
	// server protects itself with priority and fairness.
	cfg.QPS, cfg.Burst = 200, 400
	// The typed client would speak protobuf, and the dynamic one cannot.
	cfg.ContentType, cfg.AcceptContentTypes = runtime.ContentTypeJSON, runtime.ContentTypeJSON
	cfg.WarningHandlerWithContext = rest.NoWarnings{}
	at := raw.Contexts[raw.CurrentContext]
	login, err := pluginOf(raw.AuthInfos[at.AuthInfo], raw.Clusters[at.Cluster])
	if err != nil {
		return nil, &ConfigError{c.Kubeconfig, plain(err)}
	}
	if cfg, err = ready(cfg, login); err != nil {
		return nil, &ConfigError{c.Kubeconfig, plain(err)}
	}
	client := &Client{raw: *raw, rest: cfg, server: u.Host, mappings: make(map[schema.GroupVersionKind]*meta.RESTMapping)}
	if client.http, err = rest.HTTPClientFor(cfg); err != nil {
		return nil, &ConfigError{c.Kubeconfig, plain(err)}
	}
	if client.dynamic, err = dynamic.NewForConfigAndClient(cfg, client.http); err != nil {
		return nil, &ConfigError{c.Kubeconfig, plain(err)}
	}
	if client.clientset, err = kubernetes.NewForConfigAndClient(cfg, client.http); err != nil {
		return nil, &ConfigError{c.Kubeconfig, plain(err)}
	}
	return client, nil
}

// REST returns a copy of the configuration that the clients use. The credentials
// are in its transport.
func (c *Client) REST() *rest.Config { return rest.CopyConfig(c.rest) }

// Dynamic is the client for objects of any kind.
func (c *Client) Dynamic() dynamic.Interface { return c.dynamic }

// Clientset is the client for Kubernetes' own kinds.
func (c *Client) Clientset() kubernetes.Interface { return c.clientset }

// Server is the API server's host and port, for messages.
func (c *Client) Server() string { return c.server }

// Mapping returns the resource of a kind. What the server does not know is asked
// again every time: a CustomResourceDefinition may just have been made. An
// unknown kind is an *UnknownKindError.
func (c *Client) Mapping(ctx context.Context, gvk schema.GroupVersionKind) (*meta.RESTMapping, error) {
	c.mu.Lock()
	m := c.mappings[gvk]
	c.mu.Unlock()
	if m != nil {
		return m, nil
	}
	list, err := c.resources(ctx, gvk.GroupVersion())
	if err != nil {
		return nil, err
	}
	for _, r := range list {
		if r.Kind != gvk.Kind || r.Name == "" || containsSlash(r.Name) {
			continue // a subresource may have the kind of its parent
		}
		m = &meta.RESTMapping{Resource: gvk.GroupVersion().WithResource(r.Name), GroupVersionKind: gvk, Scope: meta.RESTScopeRoot}
		if r.Namespaced {
			m.Scope = meta.RESTScopeNamespace
		}
		c.mu.Lock()
		c.mappings[gvk] = m
		c.mu.Unlock()
		return m, nil
	}
	return nil, &UnknownKindError{Server: c.server, Kind: gvk.Kind, Version: gvk.GroupVersion().String()}
}

// Reset forgets which kinds the server has.
func (c *Client) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.mappings)
}

// resources are those of one version of one group; none if the server has none.
func (c *Client) resources(ctx context.Context, gv schema.GroupVersion) ([]metav1.APIResource, error) {
	path := "/apis/" + gv.String()
	if gv.Group == "" {
		path = "/api/" + gv.Version
	}
	var list metav1.APIResourceList
	err := c.clientset.CoreV1().RESTClient().Get().AbsPath(path).Do(ctx).Into(&list)
	if isNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the kinds of %s: %w", gv, c.Explain(err))
	}
	return list.APIResources, nil
}
