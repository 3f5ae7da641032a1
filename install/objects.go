package install

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
)

// MediaObjects is the media type of evidence that lists what a step keeps in a
// cluster. The ledger thereby knows what an installation consists of.
const MediaObjects = "application/vnd.airlock.objects.v1+json"

// Object names something in a cluster that a step keeps there.
type Object struct {
	APIVersion string `json:"apiVersion"` // helm.sh/v3 with kind Release is a release of Helm
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace,omitempty"`
	Name       string `json:"name"`
}

// Release names a release of Helm.
func Release(namespace, name string) Object {
	return Object{APIVersion: "helm.sh/v3", Kind: "Release", Namespace: namespace, Name: name}
}

// IsRelease reports whether o is a release of Helm.
func (o Object) IsRelease() bool { return o.APIVersion == "helm.sh/v3" && o.Kind == "Release" }

func (o Object) String() string {
	if o.Namespace == "" {
		return o.Kind + " " + o.Name
	}
	return o.Kind + " " + o.Namespace + "/" + o.Name
}

// Objects makes the evidence that names what a step keeps in a cluster.
func Objects(list ...Object) (Evidence, error) {
	data, err := json.Marshal(list)
	if err != nil {
		return Evidence{}, fmt.Errorf("encode objects: %w", err)
	}
	return Evidence{Name: "objects in the cluster", Media: MediaObjects, Data: data}, nil
}

// Kept is an object with the item that put it where it is.
type Kept struct {
	Object
	Item string `json:"item"`
}

// KeptObjects returns what the runs recorded in a state directory put into a
// cluster, each once, in the order in which it was first put there. The ledger is
// checked as [VerifyState] does without a key, and the lists by their digests. Whether
// an object is still there, and still ours, only the cluster knows.
func KeptObjects(dir string) ([]Kept, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open state directory: %w", err)
	}
	defer root.Close()
	var out []Kept
	if _, _, err = verifyState(root, new(bool), func(e Entry) error {
		list, err := objectsOf(root, e)
		for _, o := range list {
			if !slices.ContainsFunc(out, func(k Kept) bool { return k.Object == o }) {
				out = append(out, Kept{o, e.Item})
			}
		}
		return err
	}); err != nil {
		return nil, err
	}
	return out, nil
}

// objectsOf are those that an item is about to make, or that its result lists.
func objectsOf(root *os.Root, e Entry) ([]Object, error) {
	if e.Event == eventKeeps {
		var list []Object
		if err := json.Unmarshal(e.Data, &list); err != nil {
			return nil, &LedgerError{Line: int(e.Seq), Text: "decode the list of objects: " + err.Error()}
		}
		return list, nil
	}
	if e.Event != eventFinished {
		return nil, nil
	}
	var rec itemRecord
	if err := json.Unmarshal(e.Data, &rec); err != nil {
		return nil, &LedgerError{Line: int(e.Seq), Text: "decode data: " + err.Error()}
	}
	var out []Object
	for _, ev := range rec.Evidence {
		if ev.Media != MediaObjects {
			continue
		}
		raw, err := readArtifact(root, ev.SHA256)
		if err != nil {
			return nil, err
		}
		var list []Object
		if err := json.Unmarshal(raw, &list); err != nil {
			return nil, &LedgerError{Line: int(e.Seq), Text: "decode the list of objects: " + err.Error()}
		}
		out = append(out, list...)
	}
	return out, nil
}
