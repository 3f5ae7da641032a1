package kube

import (
	"errors"
	"io/fs"
	"net"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/airlock-project/airlock/bundle/regular"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

const (
	// maxConfig bounds a kubeconfig: one of a hundred clusters has some 500 kB.
	maxConfig = 1 << 20
	// maxMaterial bounds a certificate or key that a kubeconfig names.
	maxMaterial = 1 << 20
	// execExtension is the only extension that clients read.
	execExtension = "client.authentication.k8s.io/exec"
)

// Dedicated returns a kubeconfig that holds one context and nothing else, with
// the content of the certificate and key files that it names. A file of a token
// stays a file, because whoever wrote it renews it. It holds secrets. Errors are
// those of [Open].
func Dedicated(c Config) ([]byte, error) {
	raw, err := load(c)
	if err != nil {
		return nil, err
	}
	data, err := clientcmd.Write(*raw)
	if err != nil {
		return nil, &ConfigError{c.Kubeconfig, "it cannot be written again"}
	}
	return data, nil
}

// load reads a kubeconfig, keeps the one context, takes in the files that it
// names, and checks what is left.
func load(c Config) (*clientcmdapi.Config, error) {
	if c.Kubeconfig == "" {
		return nil, &ConfigError{"", "no file is given"}
	}
	path, err := filepath.Abs(c.Kubeconfig)
	if err != nil {
		return nil, &ConfigError{c.Kubeconfig, err.Error()}
	}
	data, err := regular.Read(path, maxConfig)
	if err != nil {
		return nil, &ConfigError{c.Kubeconfig, cause(err)}
	}
	raw, err := clientcmd.Load(data)
	if err != nil {
		// The parser quotes what it cannot read, and that may be a key.
		return nil, &ConfigError{c.Kubeconfig, "it is not a kubeconfig (apiVersion: v1, kind: Config)"}
	}
	if c.Context != "" {
		raw.CurrentContext = c.Context
	}
	cluster, user, err := single(raw)
	if err != nil {
		return nil, &ConfigError{c.Kubeconfig, err.Error()}
	}
	base := filepath.Dir(path)
	if err := inline(cluster, user, base); err != nil {
		return nil, &ConfigError{c.Kubeconfig, err.Error()}
	}
	if err := checkCluster(cluster); err != nil {
		return nil, &ConfigError{c.Kubeconfig, err.Error()}
	}
	if err := checkUser(user, base, c.Kubeconfig); err != nil {
		return nil, err
	}
	return raw, nil
}

// single drops everything but the current context, its cluster and its user.
func single(raw *clientcmdapi.Config) (*clientcmdapi.Cluster, *clientcmdapi.AuthInfo, error) {
	name := raw.CurrentContext
	if name == "" {
		return nil, nil, errors.New("it has no current-context; name the context to use")
	}
	context := raw.Contexts[name]
	if context == nil {
		return nil, nil, errors.New("it has no context " + clean(name))
	}
	cluster, user := raw.Clusters[context.Cluster], raw.AuthInfos[context.AuthInfo]
	switch {
	case cluster == nil || cluster.Server == "":
		return nil, nil, errors.New("its context " + clean(name) + " names no cluster with a server")
	case user == nil:
		return nil, nil, errors.New("its context " + clean(name) + " names no user that is there")
	}
	context.Extensions = nil
	raw.Contexts = map[string]*clientcmdapi.Context{name: context}
	raw.Clusters = map[string]*clientcmdapi.Cluster{context.Cluster: cluster}
	raw.AuthInfos = map[string]*clientcmdapi.AuthInfo{context.AuthInfo: user}
	raw.Extensions, user.Extensions = nil, nil
	for name := range cluster.Extensions {
		if name != execExtension {
			delete(cluster.Extensions, name)
		}
	}
	return cluster, user, nil
}

// inline takes in files. Names are relative to the kubeconfig.
func inline(cluster *clientcmdapi.Cluster, user *clientcmdapi.AuthInfo, base string) error {
	for _, f := range []struct {
		what string
		path *string
		data *[]byte
	}{
		{"certificate-authority", &cluster.CertificateAuthority, &cluster.CertificateAuthorityData},
		{"client-certificate", &user.ClientCertificate, &user.ClientCertificateData},
		{"client-key", &user.ClientKey, &user.ClientKeyData},
	} {
		if len(*f.data) > 0 || *f.path == "" {
			*f.path = ""
			continue
		}
		data, err := regular.Read(absolute(base, *f.path), maxMaterial)
		if err != nil {
			return errors.New("its " + f.what + " " + clean(*f.path) + " cannot be read: " + cause(err))
		}
		*f.path, *f.data = "", data
	}
	if user.TokenFile != "" {
		user.TokenFile = absolute(base, user.TokenFile)
	}
	return nil
}

// checkCluster refuses a connection that anybody could answer. Plain HTTP is for
// a proxy on this machine.
func checkCluster(c *clientcmdapi.Cluster) error {
	u, err := url.Parse(c.Server)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil:
		return errors.New("its server is not a URL such as https://host:6443")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return errors.New("its server " + clean(u.Host) + " is asked over plain HTTP; give it as https")
	case c.InsecureSkipTLSVerify:
		return errors.New("it has insecure-skip-tls-verify; give the cluster's authority as certificate-authority-data instead")
	}
	if c.ProxyURL == "" {
		return nil
	}
	// The library quotes what it does not take, and that may hold a password.
	switch p, err := url.Parse(c.ProxyURL); {
	case err != nil || p.Host == "" || p.Scheme != "http" && p.Scheme != "https" && p.Scheme != "socks5":
		return errors.New("its proxy-url is not a URL such as http://host:3128 (http, https or socks5)")
	}
	return nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// checkUser refuses ways to log in that no client has any more, and programs
// that are not there.
func checkUser(u *clientcmdapi.AuthInfo, base, file string) error {
	if u.AuthProvider != nil {
		return &ConfigError{file, "its user logs in with auth-provider " + clean(u.AuthProvider.Name) +
			", which Kubernetes removed in 1.26; make it anew with an exec plugin, a token or a client certificate"}
	}
	if u.Exec == nil {
		return nil
	}
	command := u.Exec.Command
	if strings.ContainsRune(command, filepath.Separator) {
		command = absolute(base, command)
		u.Exec.Command = command
	}
	if _, err := exec.LookPath(command); err != nil {
		return &PluginError{Plugin: clean(u.Exec.Command), File: file}
	}
	// A plugin that asks the operator a question would wait for ever.
	u.Exec.StdinUnavailable = true
	if u.Exec.InteractiveMode == "" {
		u.Exec.InteractiveMode = clientcmdapi.IfAvailableExecInteractiveMode
	}
	return nil
}

func absolute(base, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(base, path)
}

// cause is an error of the file system without the path, which the message has.
func cause(err error) string {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err.Error()
	}
	return plain(err)
}

// Names are those of the context and of its cluster.
func Names(c Config) ([]string, error) {
	raw, err := load(c)
	if err != nil {
		return nil, err
	}
	out := []string{clean(raw.CurrentContext)}
	for name := range raw.Clusters { // one
		if name = clean(name); name != out[0] {
			out = append(out, name)
		}
	}
	return out, nil
}

// File reads a regular file of at most limit bytes; a relative path is relative
// to dir. Steps about clusters read through it what a checklist names.
func File(dir, path string, limit int64) ([]byte, error) {
	return regular.Read(absolute(dir, path), limit)
}
