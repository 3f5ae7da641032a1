package kube

import (
	"context"
	"errors"
	"maps"
	"strings"

	"github.com/airlock-project/airlock/install"
)

// Codes of what keeps any step from its work. An item may put its own in their
// place, with the argument codes.
const (
	CodePlugin       = "K8S-01"
	CodeTLS          = "K8S-02"
	CodeForbidden    = "K8S-03"
	CodeOld          = "K8S-04"
	CodeUnreachable  = "K8S-05"
	CodeUnauthorized = "K8S-06"
	CodeConfig       = "K8S-07"
	CodeConflict     = "K8S-08"
	CodeInvalid      = "K8S-09"
	CodeKind         = "K8S-10"
	CodeTerminating  = "NS-01"
)

// Access is what every step that talks to a cluster takes beside its own
// arguments.
type Access struct {
	Kubeconfig string            `json:"kubeconfig"`
	Context    string            `json:"context"`
	Codes      map[string]string `json:"codes"` // code: the code to report instead
}

// Open opens the cluster.
func (a Access) Open(ctx context.Context) (*Client, error) {
	return Open(ctx, Config{Kubeconfig: a.Kubeconfig, Context: a.Context})
}

// Own is the code to report: the item's if it has one.
func (a Access) Own(code string) string {
	if mine := a.Codes[code]; mine != "" {
		return mine
	}
	return code
}

// Report makes a finding. Every field is made fit for a message, and reason is
// the detail unless there is one.
func (a Access) Report(code string, detail string, fields map[string]string) install.Finding {
	out := make(map[string]string, len(fields)+1)
	for k, v := range fields {
		out[k] = clean(v)
	}
	if out["reason"] == "" {
		out["reason"] = clean(detail)
	}
	return install.Finding{Code: a.Own(code), Detail: clean(detail), Fields: out}
}

// General lists the codes that Finding reports with their fields, and adds more
// to them.
func General(more map[string][]string) map[string][]string {
	out := map[string][]string{
		CodePlugin:       {"plugin", "file", "reason", "namespace"},
		CodeTLS:          {"server", "reason", "namespace"},
		CodeForbidden:    {"server", "user", "verb", "resource", "namespace", "reason"},
		CodeUnreachable:  {"server", "reason", "namespace"},
		CodeUnauthorized: {"server", "reason", "namespace"},
		CodeConfig:       {"file", "reason", "namespace"},
		CodeConflict:     {"object", "fields", "owners", "reason", "namespace"},
		CodeInvalid:      {"object", "fields", "reason", "namespace"},
		CodeKind:         {"server", "kind", "version", "reason", "namespace"},
		CodeTerminating:  {"namespace", "phase", "holds", "reason"},
	}
	maps.Copy(out, more)
	return out
}

// Finding turns an error of this package into a finding. ok is false for others,
// which mean that a step could not do its work. more are fields that the step
// knows; those of the error win.
func (a Access) Finding(err error, more map[string]string) (f install.Finding, ok bool) {
	code, fields := describe(err)
	if code == "" {
		return install.Finding{}, false
	}
	all := maps.Clone(more)
	if all == nil {
		all = make(map[string]string)
	}
	for k, v := range fields {
		if v != "" {
			all[k] = v
		}
	}
	return a.Report(code, err.Error(), all), true
}

// Failed is the result of a step that err ended: a finding where it is one of
// this package's errors.
func (a Access) Failed(err error, more map[string]string) (install.Result, error) {
	if f, ok := a.Finding(err, more); ok {
		return install.Result{Findings: []install.Finding{f}}, nil
	}
	return install.Result{}, err
}

// describe gives an error its code and fields.
func describe(err error) (string, map[string]string) {
	if e, ok := errors.AsType[*PluginError](err); ok {
		return CodePlugin, map[string]string{"plugin": e.Plugin, "file": e.File}
	}
	if e, ok := errors.AsType[*TLSError](err); ok {
		return CodeTLS, map[string]string{"server": e.Server, "reason": e.Reason}
	}
	if e, ok := errors.AsType[*ForbiddenError](err); ok {
		return CodeForbidden, map[string]string{"server": e.Server, "user": e.User, "verb": e.Verb, "resource": e.Resource, "namespace": e.Namespace}
	}
	if e, ok := errors.AsType[*TooOldError](err); ok {
		return CodeOld, map[string]string{"server": e.Server, "version": e.Version, "want": e.Want}
	}
	if e, ok := errors.AsType[*UnreachableError](err); ok {
		return CodeUnreachable, map[string]string{"server": e.Server, "reason": e.Reason}
	}
	if e, ok := errors.AsType[*UnauthorizedError](err); ok {
		return CodeUnauthorized, map[string]string{"server": e.Server}
	}
	if e, ok := errors.AsType[*ConfigError](err); ok {
		return CodeConfig, map[string]string{"file": e.File, "reason": e.Reason}
	}
	if e, ok := errors.AsType[*ConflictError](err); ok {
		return CodeConflict, map[string]string{"object": e.Object, "fields": strings.Join(e.Fields, ", "), "owners": strings.Join(e.Owners, ", ")}
	}
	if e, ok := errors.AsType[*InvalidError](err); ok {
		return CodeInvalid, map[string]string{"object": e.Object, "fields": strings.Join(e.Fields, ", "), "reason": e.Reason}
	}
	if e, ok := errors.AsType[*UnknownKindError](err); ok {
		return CodeKind, map[string]string{"server": e.Server, "kind": e.Kind, "version": e.Version}
	}
	if e, ok := errors.AsType[*TerminatingError](err); ok {
		if e.Missing {
			return CodeTerminating, map[string]string{"namespace": e.Namespace, "phase": "missing", "holds": "nothing"}
		}
		return CodeTerminating, map[string]string{"namespace": e.Namespace, "phase": "Terminating", "holds": strings.Join(e.Holds, ", ")}
	}
	return "", nil
}
