package remote

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"oras.land/oras-go/v2/registry/remote/auth"
)

// maxAuthFile bounds an auth file; a thousand logins are about 200 KiB.
const maxAuthFile = 4 << 20

func defaultAuthFiles() []string {
	var names []string
	home, err := os.UserHomeDir()
	if dir := os.Getenv("DOCKER_CONFIG"); dir != "" {
		names = append(names, filepath.Join(dir, "config.json"))
	} else if err == nil {
		names = append(names, filepath.Join(home, ".docker", "config.json"))
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		names = append(names, filepath.Join(dir, "containers", "auth.json"))
	}
	if dir := os.Getenv("XDG_CONFIG_HOME"); dir != "" {
		names = append(names, filepath.Join(dir, "containers", "auth.json"))
	} else if err == nil {
		names = append(names, filepath.Join(home, ".config", "containers", "auth.json"))
	}
	return names
}

// authFile is what matters of a docker config.json or podman auth.json.
type authFile struct {
	name       string
	auths      map[string]Credential // by canonical "host" or "host/path"
	credHelper map[string]string
	credsStore string
}

var helperPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

func readAuthFile(name string) (*authFile, error) {
	data, err := readLimited(name, maxAuthFile)
	if err != nil {
		return nil, err
	}
	var doc struct {
		Auths       map[string]json.RawMessage `json:"auths"`
		CredHelpers map[string]string          `json:"credHelpers"`
		CredsStore  string                     `json:"credsStore"`
	}
	if len(data) > 0 {
		if err := json.Unmarshal(data, &doc); err != nil {
			// The decoder quotes what it stumbled over, and this file holds secrets.
			return nil, errors.New("not a JSON document with auths, credHelpers or credsStore")
		}
	}
	f := &authFile{name: name, auths: map[string]Credential{}, credHelper: map[string]string{}, credsStore: doc.CredsStore}
	for host, helper := range doc.CredHelpers {
		if !helperPattern.MatchString(helper) {
			return nil, fmt.Errorf("credHelpers for %q: %q is not the name of a helper", host, helper)
		}
		f.credHelper[canonicalHost(host)] = helper
	}
	if f.credsStore != "" && !helperPattern.MatchString(f.credsStore) {
		return nil, fmt.Errorf("credsStore: %q is not the name of a helper", f.credsStore)
	}
	for key, raw := range doc.Auths {
		c, err := decodeAuth(raw)
		if err != nil {
			return nil, fmt.Errorf("auths for %q: %w", key, err)
		}
		canonical := canonicalKey(key)
		// Two spellings of one host: the plain one wins, whatever the map's order.
		if _, ok := f.auths[canonical]; !ok || key == canonical {
			f.auths[canonical] = c
		}
	}
	return f, nil
}

// decodeAuth reads one login. Its errors hold nothing of the input.
func decodeAuth(raw json.RawMessage) (Credential, error) {
	var a struct {
		Auth          string `json:"auth"`
		Username      string `json:"username"`
		Password      string `json:"password"`
		IdentityToken string `json:"identitytoken"`
		RegistryToken string `json:"registrytoken"`
	}
	if err := json.Unmarshal(raw, &a); err != nil {
		return Credential{}, errors.New("not a login")
	}
	c := Credential{Username: a.Username, Password: a.Password, RefreshToken: a.IdentityToken, AccessToken: a.RegistryToken}
	if a.Auth != "" {
		plain, err := base64.StdEncoding.DecodeString(a.Auth)
		user, password, ok := strings.Cut(string(plain), ":")
		if err != nil || !ok {
			return Credential{}, errors.New("auth is not base64 of user:password")
		}
		c.Username, c.Password = user, strings.TrimRight(password, "\x00")
	}
	return c, nil
}

// helpers answers for the helper named for that very host.
func (f *authFile) helpers(host string) []place {
	if h := f.credHelper[host]; h != "" {
		return []place{{where: fmt.Sprintf("credential helper %q named in %s", h, f.name), helper: h}}
	}
	return nil
}

// store answers for the helper that keeps every login made on this machine. A
// host with a helper of its own has no login there.
func (f *authFile) store(host string) []place {
	if f.credsStore != "" && f.credHelper[host] == "" {
		return []place{{where: fmt.Sprintf("credential store %q named in %s", f.credsStore, f.name), helper: f.credsStore}}
	}
	return nil
}

func (f *authFile) static(host, repository string) []place {
	for _, key := range prefixes(host, repository) {
		if c, ok := f.auths[key]; ok && c != auth.EmptyCredential {
			return []place{{where: fmt.Sprintf("login for %s in %s", key, f.name), cred: c}}
		}
	}
	return nil
}

// prefixes lists what a login for the repository may be filed under, longest
// first, as containers-auth.json(5) says.
func prefixes(host, repository string) []string {
	var out []string
	key := host
	if repository != "" {
		key += "/" + repository
	}
	for key != host {
		out = append(out, key)
		key = key[:strings.LastIndexByte(key, '/')]
	}
	return append(out, host)
}

// canonicalKey brings a key of "auths" into the form "host" or "host/path".
// Keys with a scheme are docker's old form and mean the host.
func canonicalKey(key string) string {
	rest, ok := strings.CutPrefix(key, "https://")
	if !ok {
		rest, ok = strings.CutPrefix(key, "http://")
	}
	host, path, _ := strings.Cut(rest, "/")
	if path = strings.TrimSuffix(path, "/"); ok || path == "v1" || path == "v2" {
		path = ""
	}
	if path == "" {
		return canonicalHost(host)
	}
	return canonicalHost(host) + "/" + path
}

// canonicalHost gives Docker Hub its one name.
func canonicalHost(host string) string {
	rest, ok := strings.CutPrefix(host, "https://")
	if ok {
		host, _, _ = strings.Cut(rest, "/")
	}
	switch host = strings.ToLower(host); host {
	case "index.docker.io", "registry-1.docker.io":
		return DefaultHost
	}
	return host
}

// serverAddress is what helpers know a host as.
func serverAddress(host string) string {
	if canonicalHost(host) == DefaultHost {
		return "https://index.docker.io/v1/"
	}
	return host
}
