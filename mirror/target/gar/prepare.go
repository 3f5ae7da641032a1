package gar

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"time"

	"github.com/airlock-project/airlock/mirror/target"
)

const (
	// createLimit bounds the wait for a repository; it takes some seconds.
	createLimit = 3 * time.Minute
	maxPoll     = 5 * time.Second
)

var (
	resourceName  = regexp.MustCompile(`^projects/([a-z0-9.:-]{1,128})/locations/([a-z0-9-]{1,63})/repositories/([a-z0-9-]{1,63})$`)
	operationName = regexp.MustCompile(`^projects/[a-z0-9.:-]{1,128}/locations/[a-z0-9-]{1,63}/operations/[A-Za-z0-9._-]{1,128}$`)
)

// operation is a long-running operation (google.longrunning.Operation).
type operation struct {
	Name  string `json:"name"`
	Done  bool   `json:"done"`
	Error *struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

// Prepare creates the repositories of the create-repository actions and waits
// until they are there. One that exists by then is as good. It stops at the
// first that cannot be made; running it again is safe.
func (t *Target) Prepare(ctx context.Context, actions []target.Action) error {
	for _, a := range actions {
		if a.Kind != actionCreate {
			return fmt.Errorf("prepare %q: Artifact Registry knows no action %q", a.Name, a.Kind)
		}
		m := resourceName.FindStringSubmatch(a.Name)
		if m == nil || m[2] != t.service.location {
			return fmt.Errorf("create repository %q: not one of %s", a.Name, t.service.host)
		}
		r := repository{project: m[1], location: m[2], id: m[3], path: m[1] + "/" + m[3]}
		if err := t.create(ctx, r, a.Settings); err != nil {
			return fmt.Errorf("create repository %s: %w", a.Name, err)
		}
	}
	return nil
}

func (t *Target) create(ctx context.Context, r repository, set map[string]string) error {
	body := map[string]any{
		"format":       "DOCKER",
		"mode":         "STANDARD_REPOSITORY",
		"description":  "filled by airlock mirror",
		"dockerConfig": map[string]any{"immutableTags": set["dockerConfig.immutableTags"] == "true"},
	}
	if key := set["kmsKeyName"]; key != "" {
		body["kmsKeyName"] = key
	}
	var op operation
	err := t.call(ctx, http.MethodPost, r.parent()+"/repositories?"+url.Values{"repositoryId": {r.id}}.Encode(), body, &op)
	if e, ok := errors.AsType[*apiError](err); ok && e.HTTP == http.StatusConflict {
		return t.usable(ctx, r)
	}
	if err != nil {
		return t.explainCreate(ctx, r, err)
	}
	return t.wait(ctx, r, op)
}

// usable checks a repository that someone else made meanwhile.
func (t *Target) usable(ctx context.Context, r repository) error {
	var s settings
	if err := t.call(ctx, http.MethodGet, r.resource(), nil, &s); err != nil {
		return t.explainCreate(ctx, r, err)
	}
	if n := unpushable(r, s); n != nil {
		return &target.Problem{Code: n.Code, Remedy: n.Remedy, Err: errors.New(n.Text)}
	}
	return nil
}

// wait polls until the operation is done.
func (t *Target) wait(ctx context.Context, r repository, op operation) error {
	ctx, cancel := context.WithTimeoutCause(ctx, createLimit, fmt.Errorf("not done after %s", createLimit))
	defer cancel()
	for poll := time.Second; !op.Done; poll = min(2*poll, maxPoll) {
		if !operationName.MatchString(op.Name) {
			return fmt.Errorf("wait: unexpected operation %q", cut(op.Name))
		}
		if err := t.pause(ctx, poll); err != nil {
			return err
		}
		next := operation{}
		if err := t.call(ctx, http.MethodGet, op.Name, nil, &next); err != nil {
			return t.explainCreate(ctx, r, err)
		}
		next.Name = op.Name
		op = next
	}
	const alreadyExists = 6 // google.rpc.Code
	if op.Error == nil {
		return nil
	}
	if op.Error.Code == alreadyExists {
		return t.usable(ctx, r)
	}
	return &target.Problem{
		Code: target.Denied, Remedy: "create the repository by hand: the operation says why it could not",
		Err: fmt.Errorf("operation ended with code %d: %q", op.Error.Code, cut(op.Error.Message)),
	}
}

func (t *Target) explainCreate(ctx context.Context, r repository, err error) error {
	if stop := t.stops(ctx, err); stop != nil {
		return stop
	}
	e, ok := errors.AsType[*apiError](err)
	if !ok {
		return err
	}
	p := &target.Problem{Err: err}
	switch {
	case e.Reason == "SERVICE_DISABLED":
		p.Code, p.Remedy = target.APIDisabled, "run: gcloud services enable artifactregistry.googleapis.com --project "+r.project
	case e.HTTP == http.StatusForbidden:
		p.Code = target.Denied
		p.Remedy = fmt.Sprintf("give the principal of %s the role roles/artifactregistry.repoAdmin or roles/artifactregistry.admin in project %s (permission artifactregistry.repositories.create), or have the repository created", t.source(), r.project)
	case e.HTTP == http.StatusNotFound || e.HTTP == http.StatusBadRequest:
		p.Code, p.Remedy = target.WrongLocation, fmt.Sprintf("check project %q and location %q, and the settings of the new repository", r.project, r.location)
	case e.HTTP == http.StatusTooManyRequests:
		p.Code, p.Remedy = target.Throttled, "run again later: the quota of API requests is used up"
	default:
		return err
	}
	return p
}
