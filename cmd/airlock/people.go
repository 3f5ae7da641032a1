package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/manifests"
	"github.com/airlock-project/airlock/verify"
	"github.com/airlock-project/airlock/verify/sign"
)

// roleOperator is the role of the site's identity where people: does not give
// it another.
const roleOperator = "operator"

// people reads whose signatures count at a site: those listed, and the
// identity. Its public key lies beside the private one, as airlock keygen puts
// it; where it does not, only commands that open the private key know it.
func people(site *manifests.Site, dir string, opened ...*sign.Key) ([]install.Person, error) {
	var out []install.Person
	for i, p := range site.People {
		who, err := person(p.Name, p.Role, resolvePath(dir, strings.TrimPrefix(p.Key, "file:")))
		if err != nil {
			return nil, fmt.Errorf("site %s: people[%d].key: %w", site.Name, i, err)
		}
		out = append(out, who)
	}
	if site.Identity == nil {
		return out, nil
	}
	who, err := identityPerson(site, dir, opened)
	if err != nil || who == nil {
		return out, err
	}
	for _, p := range out {
		if p.Fingerprint == who.Fingerprint {
			return out, nil
		}
	}
	return append(out, *who), nil
}

func person(name, role, path string) (install.Person, error) {
	p, err := verify.KeyPolicy(path)
	if err != nil {
		return install.Person{}, err
	}
	return install.Person{Name: name, Role: role, Fingerprint: p.Signers()[0].Fingerprint, Check: p.CheckBlob}, nil
}

// identityPerson is the operator, nil where nobody knows the public key.
func identityPerson(site *manifests.Site, dir string, opened []*sign.Key) (*install.Person, error) {
	path := identityPath(site, dir)
	for _, k := range opened {
		if k.Path() == path {
			p, err := verify.PublicKeyPolicy(k.Public())
			if err != nil {
				return nil, err
			}
			return &install.Person{Name: site.Identity.Name, Role: roleOperator, Fingerprint: k.Fingerprint(), Check: p.CheckBlob}, nil
		}
	}
	who, err := person(site.Identity.Name, roleOperator, strings.TrimSuffix(path, ".key")+".pub")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("site %s: public key of identity: %w", site.Name, err)
	}
	return &who, nil
}

func identityPath(site *manifests.Site, dir string) string {
	return resolvePath(dir, strings.TrimPrefix(site.Identity.Key, "file:"))
}

// desk is what checklist commands say of their surroundings.
type deskFlags struct {
	site  string
	state string
}

// load reads the site file and finds the state directory, and says which.
func (f deskFlags) load(a *app) (*manifests.Site, install.Options, error) {
	site, err := loadSite(f.site)
	if err != nil {
		return nil, install.Options{}, err
	}
	dir := filepath.Dir(f.site)
	o := install.Options{
		Site: site, SiteDir: dir, State: stateDir(f.state, f.site, site), Actor: actor(site), Tool: buildVersion().Version,
	}
	if _, err := os.Stat(o.State); err != nil {
		return nil, o, err
	}
	a.say("state %s", o.State)
	return site, o, nil
}

// signingKeys opens the keys that flags name, or else the site's identity.
func (a *app) signingKeys(ctx context.Context, site *manifests.Site, dir string, paths []string, passwordFile string) ([]*sign.Key, error) {
	if len(paths) == 0 {
		if site.Identity == nil {
			return nil, &noIdentityError{site.Name}
		}
		paths = []string{identityPath(site, dir)}
	}
	var keys []*sign.Key
	for _, path := range paths {
		k, err := sign.LoadKey(path, func() ([]byte, error) { return a.password(ctx, path, passwordFile, false) })
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// noIdentityError says that nothing names a key to sign with.
type noIdentityError struct{ site string }

func (e *noIdentityError) Error() string {
	return fmt.Sprintf("site %s has no identity, and no key is given", e.site)
}
