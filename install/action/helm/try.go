package helm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/bundle/chart"
	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/kube"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/jsonmergepatch"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes/scheme"
)

// What Helm writes on what it makes, and asks of what it takes over.
const (
	labelManaged        = "app.kubernetes.io/managed-by"
	annotationName      = "meta.helm.sh/release-name"
	annotationNamespace = "meta.helm.sh/release-namespace"
	hookPolicy          = "helm.sh/hook-delete-policy"
)

// holders are kinds whose objects hold data, or other objects.
var holders = []string{"Namespace", "PersistentVolume", "PersistentVolumeClaim"}

// try implements target: the server checks the object and keeps nothing. An
// object of somebody else is a *trouble; what the server refuses is one of the
// errors of install/internal/kube.
func (l *live) try(ctx context.Context, t trial, release string) error {
	o, err := object(t.object)
	if err != nil {
		return err
	}
	// Helm finds what it made by name, unless it never has to remove it again.
	if o.GetName() == "" && (o.GetGenerateName() == "" || !t.hook || annotation(t.object, hookPolicy) != "hook-failed") {
		return &kube.InvalidError{Object: o.GetKind() + " of " + t.object.Source, Fields: []string{"metadata.name"}, Reason: "it has no name"}
	}
	client, ref, err := l.resource(ctx, refsOf(t.object.Tree)[0])
	if err != nil {
		return err
	}
	o.SetNamespace(ref.Namespace)
	var refused error
	if o.GetName() == "" || t.before == nil && !t.hook { // most likely it is not there
		_, refused = client.Create(ctx, o, asHelm)
		// A quota is asked before it is seen that it is there.
		if o.GetName() == "" || !apierrors.IsAlreadyExists(refused) && !apierrors.IsForbidden(refused) {
			return l.refusal(ctx, o, refused)
		}
	}
	have, err := client.Get(ctx, ref.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsForbidden(refused) && err != nil:
		return l.refusal(ctx, o, refused)
	case apierrors.IsNotFound(err):
		_, err := client.Create(ctx, o, asHelm)
		return l.refusal(ctx, o, err)
	case err != nil:
		return fmt.Errorf("read %s: %w", ref, l.Explain(err))
	case have.GetDeletionTimestamp() != nil && !t.hook && !t.goes:
		return taken(release, ref, kube.Lingers(have)+": what is installed now would go with it")
	case t.hook:
		return replaced(t, ref, have, release, l.release)
	case t.before != nil:
		return l.patch(ctx, client, o, t.before, have)
	}
	if reason := others(have, release, l.release); reason != "" {
		return taken(release, ref, reason)
	}
	return nil // it is removed or taken over first
}

// asHelm is how Helm makes an object, and nothing comes of it.
var asHelm = metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}, FieldManager: "helm"}

// others says why an object cannot become the release's, with Helm's own rule.
func others(o *unstructured.Unstructured, release, namespace string) string {
	name, in := o.GetAnnotations()[annotationName], o.GetAnnotations()[annotationNamespace]
	switch {
	case name == release && in == namespace && o.GetLabels()[labelManaged] == "Helm":
		return ""
	case name != "":
		return fmt.Sprintf("it is of release %s in namespace %s", name, in)
	}
	return "it is there, and no release of Helm has made it"
}

// replaced says what speaks against a hook in the place of an object that is
// there: Helm asks nobody whose it is, and removes it.
func replaced(t trial, ref Ref, have *unstructured.Unstructured, release, namespace string) error {
	if have.GetAnnotations()[helmHook] == "" && others(have, release, namespace) != "" {
		return taken(release, ref, "it is there and no hook; for a hook of that name Helm would remove it, whose ever it is: give one of them another name")
	}
	policy := annotation(t.object, hookPolicy)
	if t.runs && slices.Contains(holders, ref.Kind) && (policy == "" || strings.Contains(policy, "before-hook-creation")) {
		return taken(release, ref, "it is there; for the hook of that name Helm would remove it with all that is in it, and make it again: remove it yourself if nothing in it is needed")
	}
	return nil
}

func taken(release string, ref Ref, reason string) error {
	name := kube.Clean(ref.String())
	reason = kube.Clean(reason)
	return &trouble{install.Finding{Code: codeConflict, Detail: name + ": " + reason, Fields: map[string]string{
		"release": release, "object": name, "reason": reason,
	}}}
}

// patch tries the change that Helm would make.
func (l *live) patch(ctx context.Context, client dynamic.ResourceInterface, o *unstructured.Unstructured, before map[string]any, have *unstructured.Unstructured) error {
	kind, patch, err := change(o, before, have)
	if err != nil || string(patch) == "{}" {
		return err
	}
	_, err = client.Patch(ctx, o.GetName(), kind, patch, metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}, FieldManager: "helm"})
	return l.refusal(ctx, o, err)
}

// change is what Helm sends to get from what a revision had, and what there is
// now, to what is wanted: see createPatch in its package kube.
func change(o *unstructured.Unstructured, before map[string]any, have *unstructured.Unstructured) (types.PatchType, []byte, error) {
	old, err1 := json.Marshal(before)
	fresh, err2 := o.MarshalJSON()
	now, err3 := have.MarshalJSON()
	if err := errors.Join(err1, err2, err3); err != nil {
		return "", nil, fmt.Errorf("encode %s: %w", kube.Name(o), err)
	}
	typed, err := scheme.Scheme.New(o.GroupVersionKind())
	if err != nil { // a kind of an extension
		patch, err := jsonmergepatch.CreateThreeWayJSONMergePatch(old, fresh, old)
		return types.MergePatchType, patch, err
	}
	meta, err := strategicpatch.NewPatchMetaFromStruct(typed)
	if err != nil {
		return "", nil, fmt.Errorf("compare %s: %w", kube.Name(o), err)
	}
	patch, err := strategicpatch.CreateThreeWayMergePatch(old, fresh, now, meta, true)
	if err != nil {
		return "", nil, &kube.InvalidError{Object: kube.Name(o), Reason: kube.Clean(err.Error())}
	}
	return types.StrategicMergePatchType, patch, nil
}

// refusal is the error of a trial that also the real change would end with. What
// may be otherwise by then says nothing: a webhook that knows no trial or does
// not answer, an account or a role that the release makes.
func (l *live) refusal(ctx context.Context, o *unstructured.Unstructured, err error) error {
	name, status := kube.Name(o), (*apierrors.StatusError)(nil)
	if err == nil || !errors.As(err, &status) {
		return err
	}
	secret := o.GetKind() == "Secret" && o.GroupVersionKind().Group == ""
	switch d := status.Status().Details; {
	case apierrors.IsNotFound(err) && d != nil && d.Kind == "namespaces":
		return &kube.TerminatingError{Namespace: o.GetNamespace(), Missing: true}
	case apierrors.HasStatusCause(err, "NamespaceTerminating"):
		return l.Terminating(ctx, o.GetNamespace())
	case apierrors.IsUnauthorized(err):
		return fmt.Errorf("try %s: %w", name, l.Explain(err))
	case apierrors.IsForbidden(err) && o.GetKind() != "Pod":
		err := l.Explain(err)
		f, ok := errors.AsType[*kube.ForbiddenError](err)
		switch {
		case !ok || f.Reason == "":
			return fmt.Errorf("try %s: %w", name, err)
		case secret && !strings.Contains(f.Reason, "exceeded quota"): // who has a policy may repeat what it looked at
			f.Reason = "a policy of the cluster refuses it"
		}
		return &kube.InvalidError{Object: name, Reason: f.Reason}
	case !apierrors.IsInvalid(err) && !apierrors.IsRequestEntityTooLargeError(err) && !malformed(err):
		return nil
	case secret:
		return l.RefusedSecret(o.GetNamespace(), o.GetName(), err)
	}
	return &kube.InvalidError{Object: name, Reason: kube.Clean(err.Error())}
}

// malformed says whether the server cannot read an object. It also gives that
// answer where a webhook knows no trial.
func malformed(err error) bool {
	return apierrors.IsBadRequest(err) && !strings.Contains(err.Error(), "dry run")
}

// hidden is an object's text for messages, without what is secret in the values.
func (p *prepared) hidden(text string) string { return kube.Clean(chart.Hide(text, p.values)) }
