package chart

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// File is one object as a file that kubectl apply -f takes.
type File struct {
	Name string // 0001-customresourcedefinition-issuers.example.com.yaml
	Data []byte
}

var unsafeName = regexp.MustCompile(`[^a-z0-9.-]+`)

// Files encodes the objects that belong to an installation, one file each,
// named so that sorting by name gives Helm's install order. Hooks of upgrade,
// rollback, delete and test are left out: applied with the rest they would run
// at once.
func Files(objects []Object) ([]File, error) {
	var files []File
	for _, o := range objects {
		if o.Stage == StageOther {
			continue
		}
		data, err := o.YAML()
		if err != nil {
			return nil, err
		}
		name := unsafeName.ReplaceAllString(strings.ToLower(o.Kind()+"-"+o.Name()), "-")
		name = strings.Trim(name[:min(len(name), 200)], "-.")
		files = append(files, File{
			Name: fmt.Sprintf("%04d-%s.yaml", len(files)+1, name),
			Data: append([]byte("# Source: "+singleLine(o.Source)+"\n"), data...),
		})
	}
	return files, nil
}

func singleLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == 0x85 || r == 0x2028 || r == 0x2029 {
			return -1
		}
		return r
	}, s)
}

// WriteFiles writes files into dir with mode 0600, for they may hold Secrets.
// Each gets its name only when it is whole. Other files stay.
func WriteFiles(dir *os.Root, files []File) error {
	for _, f := range files {
		if err := writeFile(dir, f); err != nil {
			return fmt.Errorf("write %s: %w", f.Name, err)
		}
	}
	return nil
}

func writeFile(dir *os.Root, f File) error {
	partial := f.Name + ".partial"
	w, err := dir.OpenFile(partial, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = w.Write(f.Data)
	if err := errors.Join(err, w.Sync(), w.Close()); err != nil {
		return err
	}
	return dir.Rename(partial, f.Name)
}

// clusterScoped lists the kinds of Kubernetes' own API groups that have no
// namespace.
var clusterScoped = []string{
	"APIService", "CSIDriver", "CSINode", "CertificateSigningRequest", "ClusterRole", "ClusterRoleBinding",
	"ClusterTrustBundle", "ComponentStatus", "CustomResourceDefinition", "DeviceClass", "FlowSchema", "IPAddress",
	"IngressClass", "MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding", "MutatingWebhookConfiguration",
	"Namespace", "Node", "PersistentVolume", "PodSecurityPolicy", "PriorityClass", "PriorityLevelConfiguration",
	"ResourceSlice", "RuntimeClass", "SelfSubjectAccessReview", "SelfSubjectReview", "SelfSubjectRulesReview",
	"ServiceCIDR", "StorageClass", "StorageVersionMigration", "SubjectAccessReview", "TokenReview",
	"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "ValidatingWebhookConfiguration",
	"VolumeAttachment", "VolumeAttributesClass",
}

var builtinGroups = []string{
	"", "apps", "batch", "autoscaling", "policy", "extensions",
	"admissionregistration.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io", "authentication.k8s.io",
	"authorization.k8s.io", "certificates.k8s.io", "coordination.k8s.io", "discovery.k8s.io", "events.k8s.io",
	"flowcontrol.apiserver.k8s.io", "networking.k8s.io", "node.k8s.io", "rbac.authorization.k8s.io",
	"resource.k8s.io", "scheduling.k8s.io", "storage.k8s.io", "storagemigration.k8s.io",
}

// ClusterScoped says whether an object is of a kind of Kubernetes' own that has no
// namespace.
func ClusterScoped(o Object) bool {
	return slices.Contains(builtinGroups, o.group()) && slices.Contains(clusterScoped, o.Kind())
}

// group is the object's API group, "" for the core.
func (o Object) group() string {
	if group, _, ok := strings.Cut(o.APIVersion(), "/"); ok {
		return group
	}
	return ""
}

// WithNamespace returns the objects with metadata.namespace set where an object
// is known to live in a namespace and names none, as Helm's client does when it
// installs. Known are Kubernetes' own kinds and those whose
// CustomResourceDefinition is among the objects; others stay as they are, and
// land in the namespace that kubectl defaults to.
func WithNamespace(objects []Object, namespace string) []Object {
	scopes := map[string]string{}
	for _, o := range objects {
		if o.Kind() == "CustomResourceDefinition" {
			spec, _ := o.Tree["spec"].(map[string]any)
			names, _ := spec["names"].(map[string]any)
			scopes[text(spec["group"])+"/"+text(names["kind"])] = text(spec["scope"])
		}
	}
	out := make([]Object, len(objects))
	for i, o := range objects {
		out[i] = o
		group := o.group()
		namespaced := scopes[group+"/"+o.Kind()] == "Namespaced" ||
			slices.Contains(builtinGroups, group) && !ClusterScoped(o) && !strings.HasSuffix(o.Kind(), "List")
		if m := o.metadata(); namespaced && m != nil && text(m["namespace"]) == "" {
			out[i] = o.clone()
			out[i].metadata()["namespace"] = namespace
		}
	}
	return out
}
