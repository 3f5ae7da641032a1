package kube

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Annotations that steps leave behind.
const (
	// AnnotationContent is the hash of a Secret's content, on the Secret. It
	// gives nothing away that who reads the Secret does not know.
	AnnotationContent = "airlock-project.io/content-hash"
	// AnnotationRestarted, on a pod template, is when a step restarted it.
	AnnotationRestarted = "airlock-project.io/restarted-at"
	// AnnotationSecrets, on a pod template, are the hashes of the Secrets that
	// its pods started with: name=hash, comma-separated, sorted by name.
	AnnotationSecrets = "airlock-project.io/secrets"
)

// SecretChanged is when the content of a Secret last changed, to a second: what
// the server says of each field manager that owns any of it, or when it was
// made.
func SecretChanged(s *corev1.Secret) time.Time {
	at := s.CreationTimestamp.Time
	for _, m := range s.ManagedFields {
		if m.Time == nil || m.FieldsV1 == nil || m.Subresource != "" || !m.Time.After(at) {
			continue
		}
		if raw := m.FieldsV1.GetRawBytes(); bytes.Contains(raw, []byte(`"f:data"`)) {
			at = m.Time.Time
		}
	}
	return at
}

// Began is when the oldest running container of a pod started, which is when it
// read its environment; zero if none runs.
func Began(p *corev1.Pod) time.Time {
	var at time.Time
	for _, s := range p.Status.ContainerStatuses {
		if r := s.State.Running; r != nil && (at.IsZero() || r.StartedAt.Time.Before(at)) {
			at = r.StartedAt.Time
		}
	}
	return at
}

// Owner names the workload of a pod: for a ReplicaSet's, the Deployment.
func Owner(p *corev1.Pod) string {
	for _, o := range p.OwnerReferences {
		if o.Controller == nil || !*o.Controller {
			continue
		}
		if hash := p.Labels["pod-template-hash"]; o.Kind == "ReplicaSet" && hash != "" {
			return clean(strings.TrimSuffix(o.Name, "-"+hash))
		}
		return clean(o.Name)
	}
	return clean(p.Name)
}

// ContentHash is a hash of the content of a Secret, sha256:… in hexadecimal. It
// is bound to the UID of the Secret, which is random: who sees only the hash
// cannot try passwords against it.
func ContentHash(s *corev1.Secret) string {
	h := sha256.New()
	part := func(b []byte) { // a length before each keeps one from running into the next
		fmt.Fprintf(h, "%d:", len(b))
		h.Write(b)
	}
	part([]byte(s.UID))
	part([]byte(s.Type))
	for _, key := range slices.Sorted(maps.Keys(s.Data)) {
		part([]byte(key))
		part(s.Data[key])
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}

// Marked is the hash of a Secret in an [AnnotationSecrets], "" if it is not there.
func Marked(annotation, name string) string {
	for pair := range strings.SplitSeq(annotation, ",") {
		if n, hash, ok := strings.Cut(pair, "="); ok && n == name {
			return hash
		}
	}
	return ""
}
