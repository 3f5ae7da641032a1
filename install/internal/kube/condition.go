package kube

import (
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Condition returns what an object says under a condition type: its status with
// reason and message. Without one, status is "".
func Condition(o *unstructured.Unstructured, kind string) (status, reason, message string) {
	list, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	for _, v := range list {
		c, ok := v.(map[string]any)
		if !ok || c["type"] != kind {
			continue
		}
		status, _ = c["status"].(string)
		reason, _ = c["reason"].(string)
		message, _ = c["message"].(string)
		return clean(status), clean(reason), clean(message)
	}
	return "", "", ""
}

// Unmet says why a condition is not True, "" if it is.
func Unmet(o *unstructured.Unstructured, kind string) string {
	status, reason, message := Condition(o, kind)
	switch status {
	case "True":
		return ""
	case "":
		return "it has no condition " + kind + " yet"
	}
	if text := strings.Trim(reason+": "+message, ": "); text != "" {
		return text
	}
	return kind + " is " + status
}
