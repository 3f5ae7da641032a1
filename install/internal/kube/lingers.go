package kube

import (
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Lingers says of an object that was to be removed and is there what holds it:
// its finalizers, and of a namespace what is left in it.
func Lingers(o *unstructured.Unstructured) string {
	name := Name(o)
	if o.GetDeletionTimestamp() == nil {
		return name + " is still there"
	}
	var holds []string
	if o.GetAPIVersion() == "v1" && o.GetKind() == "Namespace" {
		holds = holding(o)
	} else {
		for _, f := range o.GetFinalizers() {
			holds = append(holds, "finalizer "+clean(f))
		}
	}
	if len(holds) == 0 {
		return name + " is being removed"
	}
	return name + " is being removed, held by " + strings.Join(holds, ", ")
}
