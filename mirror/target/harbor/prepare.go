package harbor

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/airlock-project/airlock/mirror/target"
)

// Prepare creates the projects of the create-project actions. One that exists
// by then is as good, unless it is a proxy cache. It stops at the first that
// cannot be made; running it again is safe.
func (t *Target) Prepare(ctx context.Context, actions []target.Action) error {
	for _, a := range actions {
		if a.Kind != actionCreate {
			return fmt.Errorf("prepare %q: Harbor knows no action %q", a.Name, a.Kind)
		}
		if _, _, err := t.split(a.Name + "/x"); err != nil || strings.Contains(a.Name, "/") {
			return fmt.Errorf("create project %q: not a project name", a.Name)
		}
		if err := t.create(ctx, a); err != nil {
			return fmt.Errorf("create project %s: %w", a.Name, err)
		}
	}
	return nil
}

func (t *Target) create(ctx context.Context, a target.Action) error {
	body := map[string]any{
		"project_name": a.Name,
		"metadata":     map[string]string{"public": strconv.FormatBool(a.Settings["public"] == "true")},
	}
	if limit := a.Settings["storage_limit"]; limit != "" {
		n, err := strconv.ParseInt(limit, 10, 64)
		if err != nil || n < -1 {
			return fmt.Errorf("storage limit %q is neither -1 nor a size", limit)
		}
		body["storage_limit"] = n
	}
	err := t.call(ctx, http.MethodPost, apiBase+"projects", body, nil)
	p := &target.Problem{Err: err}
	switch status(err) {
	case 0:
		return err
	case http.StatusConflict:
		return t.usable(ctx, a.Name)
	case http.StatusUnauthorized:
		t.setLogin(loginRefused)
		p.Code, p.Remedy = target.LoginRefused, t.loginRemedy()
	case http.StatusForbidden:
		e, _ := errors.AsType[*apiError](err)
		p.Code, p.Remedy = target.Denied, t.createRemedy(a.Name)
		if strings.Contains(e.Message, "CSRF") {
			p.Remedy = "take the proxy that adds cookies out of the way to Harbor"
		}
		if strings.Contains(e.Message, phraseReadOnly) {
			p.Code, p.Remedy = target.ReadOnly, remedyReadOnly
		}
	case http.StatusBadRequest:
		p.Code, p.Remedy = target.NameInvalid, "name another project, and check the settings of the new one"
	default:
		return err
	}
	return p
}

func (t *Target) createRemedy(name string) string {
	if strings.Contains(t.user(), "$") {
		return fmt.Sprintf("let a user or a system robot with project:create make project %s: robots of a project cannot", name)
	}
	return fmt.Sprintf("let an administrator make project %s, or allow %s to create projects", name, t.account())
}

// usable checks a project that someone else made meanwhile.
func (t *Target) usable(ctx context.Context, name string) error {
	var p project
	if err := t.call(ctx, http.MethodGet, apiBase+"projects/"+name, nil, &p); err != nil {
		return stops(ctx, err) // it is there; not to see it is no reason to stop
	}
	if p.RegistryID != nil && *p.RegistryID != 0 {
		return &target.Problem{
			Code: target.NotPushable, Remedy: "name another project",
			Err: fmt.Errorf("project %s exists and is a proxy cache", name),
		}
	}
	return nil
}
