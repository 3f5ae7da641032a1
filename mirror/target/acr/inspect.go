package acr

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"

	"github.com/airlock-project/airlock/mirror/target"
	"github.com/airlock-project/airlock/mirror/target/sdk"
	"golang.org/x/sync/errgroup"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

// apiCalls is how many repositories are looked at at once. The lowest tier
// takes 1,000 reads a minute.
const apiCalls = 4

// view is what the registry says of one repository that a run needs.
type view struct {
	need     target.Need
	presence target.Presence
	locked   bool     // the repository takes no writes
	fixed    []string // tags that take no writes
	unread   bool
}

// attributes are those of a repository or a tag (ACR data plane, /acr/v1).
type attributes struct {
	Changeable changeable `json:"changeableAttributes"`
	Tag        struct {
		Changeable changeable `json:"changeableAttributes"`
	} `json:"tag"`
}

type changeable struct {
	WriteEnabled *bool `json:"writeEnabled"`
}

// locked reports a lock that is certain: what is not said is no lock.
func (c changeable) locked() bool { return c.WriteEnabled != nil && !*c.WriteEnabled }

// Inspect looks at the repositories and tags that a run needs, as far as this
// identity may read their metadata. A lock is no fatal finding: what is there
// already is not written again.
func (t *Target) Inspect(ctx context.Context, req target.Request) (target.State, error) {
	for _, n := range req.Repositories {
		if err := checkNames(n); err != nil {
			return target.State{}, fmt.Errorf("inspect %s: %w", t.host.name, err)
		}
	}
	cred, err := t.Credential(ctx)
	if err != nil {
		return target.State{}, err
	}
	views := make([]*view, len(req.Repositories))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(apiCalls)
	for i, n := range req.Repositories {
		v := &view{need: n}
		views[i] = v
		g.Go(func() error {
			if err := t.look(ctx, cred, v); err != nil {
				return fmt.Errorf("inspect %s/%s: %w", t.host.name, n.Name, t.own(err))
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return target.State{}, err
	}
	state := target.State{Repositories: map[string]target.Presence{}}
	var unread []string
	for _, v := range views {
		state.Repositories[v.need.Name] = v.presence
		state.Notices = append(state.Notices, t.locks(v)...)
		if v.unread {
			unread = append(unread, v.need.Name)
		}
	}
	if len(unread) > 0 {
		state.Notices = append(state.Notices, target.Notice{
			Code:   target.StateUnread,
			Text:   fmt.Sprintf("this identity may not read the metadata of %s: whether something is locked there is not known", sdk.QuoteSome(unread)),
			Remedy: "allow metadata/read (roles AcrPush and Container Registry Repository Writer have it; a repository token needs metadata/read in its scope map)",
		})
	}
	return state, nil
}

// Names as the distribution-spec has them; here they become paths and scopes.
var (
	repositoryName = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagName        = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
)

func checkNames(n target.Need) error {
	if len(n.Name) > repositoryMax || !repositoryName.MatchString(n.Name) {
		return fmt.Errorf("%q is not a repository name of up to %d bytes", n.Name, repositoryMax)
	}
	for _, tag := range n.Tags {
		if !tagName.MatchString(tag) {
			return fmt.Errorf("%q is not a tag", tag)
		}
	}
	return nil
}

// look reads the locks of a repository and of the tags to be set.
func (t *Target) look(ctx context.Context, cred target.Credential, v *view) error {
	token, err := t.metadataToken(ctx, cred, v.need.Name)
	if status(err) == http.StatusUnauthorized {
		v.unread = true
		return nil
	}
	if err != nil {
		return err
	}
	attr, err := t.attributes(ctx, token, "/acr/v1/"+v.need.Name)
	switch s := status(err); {
	case s == http.StatusNotFound:
		v.presence = target.OnPush
		return nil
	case s == http.StatusUnauthorized || s == http.StatusMethodNotAllowed:
		v.unread = true
		return nil
	case err != nil:
		return err
	}
	v.presence = target.Present
	if v.locked = attr.Changeable.locked(); v.locked {
		return nil
	}
	for _, tag := range v.need.Tags {
		attr, err := t.attributes(ctx, token, "/acr/v1/"+v.need.Name+"/_tags/"+tag)
		if s := status(err); s == http.StatusNotFound || s == http.StatusUnauthorized {
			continue
		}
		if err != nil {
			return err
		}
		if attr.Tag.Changeable.locked() {
			v.fixed = append(v.fixed, tag)
		}
	}
	return nil
}

// metadataToken asks for a token that reads one repository's metadata. Basic
// authentication does for refresh tokens and for users alike.
func (t *Target) metadataToken(ctx context.Context, cred target.Credential, repository string) (string, error) {
	q := url.Values{"service": {t.host.name}, "scope": {"repository:" + repository + ":metadata_read"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.base+"/oauth2/token?"+q.Encode(), http.NoBody)
	if err != nil {
		return "", err
	}
	req.SetBasicAuth(cred.Username, cred.Password)
	var out struct {
		AccessToken string `json:"access_token"`
	}
	if err := t.ask(req, &out, cred.Password); err != nil {
		return "", err
	}
	if out.AccessToken == "" || len(out.AccessToken) > maxToken {
		return "", errors.New("the registry's answer holds no token")
	}
	return out.AccessToken, nil
}

func (t *Target) attributes(ctx context.Context, token, path string) (attributes, error) {
	var out attributes
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.base+path, http.NoBody)
	if err != nil {
		return out, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	return out, t.ask(req, &out, token)
}

// locks says what of a repository cannot be written.
func (t *Target) locks(v *view) []target.Notice {
	unlock := "az acr repository update --name " + t.host.registry() + " --write-enabled true"
	switch {
	case v.locked:
		return []target.Notice{{
			Code: target.Locked, Repository: v.need.Name,
			Text:   fmt.Sprintf("repository %q is locked: it takes nothing that is not there already", v.need.Name),
			Remedy: "have its owner unlock it (" + unlock + " --repository " + v.need.Name + "), or push below another prefix",
		}}
	case len(v.fixed) > 0:
		return []target.Notice{{
			Code: target.Locked, Repository: v.need.Name,
			Text:   fmt.Sprintf("tags of %q are locked and cannot be moved to other content: %s", v.need.Name, sdk.QuoteSome(v.fixed)),
			Remedy: "push changed content under another tag, or have their owner unlock them (" + unlock + " --image " + v.need.Name + ":TAG)",
		}}
	}
	return nil
}

// status is that of an answer, 0 for none.
func status(err error) int {
	if resp, ok := errors.AsType[*errcode.ErrorResponse](err); ok {
		return resp.StatusCode
	}
	return 0
}
