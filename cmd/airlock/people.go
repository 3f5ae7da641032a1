package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

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
// it: whoever checks the record later has only that.
func people(site *manifests.Site, dir string, opened ...*sign.Key) ([]install.Person, error) {
	var out []install.Person
	for i, p := range site.People {
		who, err := person(p.Name, p.Role, resolvePath(dir, strings.TrimPrefix(p.Key, "file:")))
		if err != nil {
			return nil, fmt.Errorf("site %s: people[%d].key: %w", site.Name, i, err)
		}
		if p.Left != "" {
			if who.Left, err = time.Parse(time.DateOnly, p.Left); err != nil {
				return nil, fmt.Errorf("site %s: people[%d].left: %w", site.Name, i, err)
			}
		}
		out = append(out, who)
	}
	if site.Identity == nil {
		return out, nil
	}
	who, err := identityPerson(site, dir, opened)
	if err != nil {
		return nil, err
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

// identityPerson is the operator. Of a private key that was opened, the public
// one beside it must be the other half.
func identityPerson(site *manifests.Site, dir string, opened []*sign.Key) (*install.Person, error) {
	path := identityPath(site, dir)
	public := publicPath(path)
	who, err := person(site.Identity.Name, roleOperator, public)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &noPublicKeyError{site: site.Name, private: path, public: public}
	}
	if err != nil {
		return nil, fmt.Errorf("site %s: public key of identity: %w", site.Name, err)
	}
	for _, k := range opened {
		if k.Path() == path && k.Fingerprint() != who.Fingerprint {
			return nil, &noPublicKeyError{site: site.Name, private: path, public: public, other: who.Fingerprint}
		}
	}
	return &who, nil
}

// noPublicKeyError is an identity whose public key is not where those look who
// check the record, or is another key's.
type noPublicKeyError struct{ site, private, public, other string }

func (e *noPublicKeyError) Error() string {
	if e.other != "" {
		return fmt.Sprintf("site %s: %s, %s, is not the public key of %s", e.site, e.public, e.other, e.private)
	}
	return fmt.Sprintf("site %s: the public key of identity is missing: no %s beside %s", e.site, e.public, e.private)
}

func (e *noPublicKeyError) hint() string {
	return "lay it there as airlock keygen wrote it, or move a wrong one away; airlock keygen --public-of " + shellWord(e.private) + " writes it"
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
