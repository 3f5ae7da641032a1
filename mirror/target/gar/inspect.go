package gar

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/airlock-project/airlock/mirror/target"
)

const (
	actionCreate     = "create-repository"
	permissionUpload = "artifactregistry.repositories.uploadArtifacts"
	roleWriter       = "roles/artifactregistry.writer"
)

// image is what is to go below one repository.
type image struct {
	name string // below the repository
	need target.Need
}

// group is one Artifact Registry repository and what it is to receive.
type group struct {
	repository
	images []image
}

// settings are what the API says of a repository
// (artifactregistry.googleapis.com v1, projects.locations.repositories).
type settings struct {
	Format       string `json:"format"`
	Mode         string `json:"mode"`
	DockerConfig struct {
		ImmutableTags bool `json:"immutableTags"`
	} `json:"dockerConfig"`
	CleanupPolicies     map[string]cleanupPolicy `json:"cleanupPolicies"`
	CleanupPolicyDryRun bool                     `json:"cleanupPolicyDryRun"`
}

// Inspect asks the Artifact Registry API for every repository that is to
// receive something: whether it is there, can be pushed to, keeps tags, is
// cleaned up. Names that the host does not take are fatal notices and nothing
// is asked about them. Only a credential that cannot be had or is refused, and
// the context's end, are errors: what cannot be read is a notice.
func (t *Target) Inspect(ctx context.Context, req target.Request) (target.State, error) {
	st := target.State{Repositories: map[string]target.Presence{}, CrossMount: target.MountTry}
	groups := map[string]*group{}
	for _, n := range req.Repositories {
		r, name, err := t.service.split(n.Name)
		if err != nil {
			st.Notices = append(st.Notices, target.Notice{
				Code: target.NameInvalid, Fatal: true, Repository: n.Name,
				Text: err.Error(), Remedy: "name the target " + t.service.form() + " with --to or a prefix",
			})
			continue
		}
		g := groups[r.resource()]
		if g == nil {
			g = &group{repository: r}
			groups[r.resource()] = g
		}
		g.images = append(g.images, image{name: name, need: n})
	}
	for _, key := range slices.Sorted(maps.Keys(groups)) {
		more, err := t.inspect(ctx, groups[key], &st)
		if err != nil {
			return target.State{}, err
		}
		if !more {
			break
		}
	}
	return st, nil
}

// inspect looks at one repository and reports whether it makes sense to ask on.
func (t *Target) inspect(ctx context.Context, g *group, st *target.State) (more bool, err error) {
	var s settings
	err = t.call(ctx, http.MethodGet, g.resource(), nil, &s)
	if err == nil {
		g.mark(st, target.Present)
		return true, t.judge(ctx, g, s, st)
	}
	if stop := t.stops(ctx, err); stop != nil {
		return false, stop
	}
	refused, ok := errors.AsType[*apiError](err)
	if !ok {
		// Neither will the next question be answered.
		st.Notices = append(st.Notices, target.Notice{
			Code: target.StateUnread, Text: fmt.Sprintf("the Artifact Registry API cannot be asked, so neither repositories nor their rules are known: %v", err),
			Remedy: "give this machine a way to " + strings.TrimPrefix(t.service.api, "https://") + ", or make sure that the repositories exist",
		})
		return false, nil
	}
	if refused.HTTP == http.StatusNotFound {
		g.mark(st, target.Missing)
		return true, t.missing(ctx, g, st)
	}
	if refused.HTTP == http.StatusForbidden {
		g.mark(st, target.Forbidden)
	}
	st.Notices = append(st.Notices, t.unread(g, refused))
	return true, nil
}

func (g *group) mark(st *target.State, p target.Presence) {
	for _, i := range g.images {
		st.Repositories[i.need.Name] = p
	}
}

// stops returns the error that ends the whole inspection, or nil.
func (t *Target) stops(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if _, ok := errors.AsType[*target.Problem](err); ok {
		return err // no credential
	}
	if e, ok := errors.AsType[*apiError](err); ok && e.HTTP == http.StatusUnauthorized {
		return &target.Problem{Code: target.LoginRefused, Remedy: t.loginRemedy(), Err: err}
	}
	return nil
}

// unread turns a refusal to show a repository into a notice.
func (t *Target) unread(g *group, e *apiError) target.Notice {
	n := target.Notice{Code: target.StateUnread, Repository: g.path, Text: fmt.Sprintf("repository %s cannot be read: %v", g.resource(), e)}
	switch {
	case e.Reason == "SERVICE_DISABLED":
		n.Code, n.Fatal = target.APIDisabled, true
		n.Remedy = "run: gcloud services enable artifactregistry.googleapis.com --project " + g.project
	case e.Reason == "VPC_SERVICE_CONTROLS" || e.Reason == "SECURITY_POLICY_VIOLATED":
		n.Code, n.Fatal = target.Denied, true
		n.Remedy = "let this machine into the VPC Service Controls perimeter of project " + g.project + ": an access level or an ingress rule"
	case e.HTTP == http.StatusForbidden:
		n.Code = target.Denied
		n.Remedy = fmt.Sprintf("give the principal of %s the role %s on repository %s in project %s, or check that both exist",
			t.source(), roleWriter, g.id, g.project)
	case e.HTTP == http.StatusBadRequest:
		n.Code, n.Fatal = target.WrongLocation, true
		n.Remedy = fmt.Sprintf("check location %q and project %q of the target", g.location, g.project)
	case e.HTTP == http.StatusTooManyRequests:
		n.Code, n.Remedy = target.Throttled, "run again later: the quota of API requests is used up"
	}
	return n
}

// missing decides what becomes of a repository that does not exist.
func (t *Target) missing(ctx context.Context, g *group, st *target.State) error {
	err := t.call(ctx, http.MethodGet, g.parent(), nil, nil)
	if stop := t.stops(ctx, err); stop != nil {
		return stop
	}
	if e, ok := errors.AsType[*apiError](err); ok && (e.HTTP == http.StatusNotFound || e.HTTP == http.StatusBadRequest) {
		st.Notices = append(st.Notices, target.Notice{
			Code: target.WrongLocation, Fatal: true, Repository: g.path,
			Text:   fmt.Sprintf("location %q is not one that project %q has", g.location, g.project),
			Remedy: "run: gcloud artifacts locations list --project " + g.project,
		})
		return nil
	}
	command := fmt.Sprintf("gcloud artifacts repositories create %s --repository-format=docker --location=%s --project=%s", g.id, g.location, g.project)
	if t.service.repository != "" || gcrLocation(g.id) != "" {
		command = "gcloud artifacts docker upgrade migrate --projects=" + g.project
	} else if !t.opts.ManagedElsewhere {
		st.Actions = append(st.Actions, t.createAction(g.repository))
		return nil
	}
	st.Notices = append(st.Notices, target.Notice{
		Code: target.RepositoryMissing, Fatal: true, Repository: g.path,
		Text:   fmt.Sprintf("Artifact Registry repository %s does not exist", g.resource()),
		Remedy: "create it where repositories are managed, as this does: " + command,
	})
	return nil
}

func (t *Target) createAction(r repository) target.Action {
	set := map[string]string{
		"format": "DOCKER", "mode": "STANDARD_REPOSITORY",
		"dockerConfig.immutableTags": strconv.FormatBool(t.opts.ImmutableTags),
	}
	if t.opts.KMSKey != "" {
		set["kmsKeyName"] = t.opts.KMSKey
	}
	return target.Action{Kind: actionCreate, Name: r.resource(), Settings: set}
}

// judge says what is to be known of a repository that is there.
func (t *Target) judge(ctx context.Context, g *group, s settings, st *target.State) error {
	if n := unpushable(g.repository, s); n != nil {
		st.Notices = append(st.Notices, *n)
		return nil
	}
	if s.DockerConfig.ImmutableTags {
		t.mu.Lock()
		t.immutable[g.path] = true
		t.mu.Unlock()
		st.Notices = append(st.Notices, target.Notice{
			Code: target.TagImmutable, Repository: g.path,
			Text:   fmt.Sprintf("tags in %s are immutable: one that exists and names other content is a conflict, and an index of signatures kept by tag cannot be extended", g.resource()),
			Remedy: "mirror a new version under new tags",
		})
	}
	st.Notices = append(st.Notices, cleanupNotices(g, s)...)
	allowed, err := t.mayUpload(ctx, g.repository)
	if err != nil || allowed {
		return err
	}
	st.Notices = append(st.Notices, target.Notice{
		Code: target.Denied, Fatal: true, Repository: g.path,
		Text:   fmt.Sprintf("the principal of %s lacks permission %q on %s", t.source(), permissionUpload, g.resource()),
		Remedy: fmt.Sprintf("give it the role %s on repository %s in project %s", roleWriter, g.id, g.project),
	})
	return nil
}

// unpushable returns why nothing can be pushed to a repository, or nil.
func unpushable(r repository, s settings) *target.Notice {
	n := &target.Notice{Code: target.NotPushable, Fatal: true, Repository: r.path}
	switch {
	case s.Format != "DOCKER":
		n.Text = fmt.Sprintf("repository %s has format %q, images need \"DOCKER\"", r.resource(), cut(s.Format))
		n.Remedy = "name another repository: format cannot be changed"
	case s.Mode == "REMOTE_REPOSITORY":
		n.Text = fmt.Sprintf("repository %s is a remote repository: it proxies another registry and takes no pushes", r.resource())
		n.Remedy = "name a standard repository: mode cannot be changed"
	case s.Mode == "VIRTUAL_REPOSITORY":
		n.Text = fmt.Sprintf("repository %s is a virtual repository: it shows others and takes no pushes", r.resource())
		n.Remedy = "name one of the standard repositories behind it"
	case s.Mode != "" && s.Mode != "STANDARD_REPOSITORY" && s.Mode != "MODE_UNSPECIFIED":
		n.Text = fmt.Sprintf("repository %s has mode %q, only standard repositories take pushes", r.resource(), cut(s.Mode))
		n.Remedy = "name a standard repository"
	default:
		return nil
	}
	return n
}

// mayUpload asks whether the principal may push. Whoever is not told is not
// accused: the push will say.
func (t *Target) mayUpload(ctx context.Context, r repository) (bool, error) {
	var answer struct {
		Permissions []string `json:"permissions"`
	}
	in := map[string][]string{"permissions": {permissionUpload}}
	err := t.call(ctx, http.MethodPost, r.resource()+":testIamPermissions", in, &answer)
	if stop := t.stops(ctx, err); stop != nil {
		return false, stop
	}
	return err != nil || slices.Contains(answer.Permissions, permissionUpload), nil //nolint:nilerr // who may not ask may still push
}

// source names the credential in use.
func (t *Target) source() string {
	t.credMu.Lock()
	defer t.credMu.Unlock()
	if t.cred.Source == "" {
		return "the Google credential"
	}
	return t.cred.Source
}
