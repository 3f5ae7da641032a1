package helm

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/airlock-project/airlock/install/internal/kube"
	"helm.sh/helm/v3/pkg/release"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	secrets "k8s.io/client-go/kubernetes/typed/core/v1"
)

const (
	// maxRevision bounds one record without its compression, and maxRevisions all
	// that Helm reads at once, in bytes: a Secret of one MiB may hold a gibibyte.
	maxRevision  = 64 << 20
	maxRevisions = 256 << 20
)

// records are the Secrets in which Helm keeps releases. Helm itself takes what it
// finds there: it leaves out what it cannot read, as if there were no such
// revision, and ends with a panic on what is no release.
type records struct{ secrets.SecretInterface }

// List reads Secrets, each a release that it says it is.
func (r records) List(ctx context.Context, o metav1.ListOptions) (*corev1.SecretList, error) {
	list, err := r.SecretInterface.List(ctx, o)
	if err != nil {
		return nil, err
	}
	left := maxRevisions
	for i := range list.Items {
		n, err := revision(&list.Items[i])
		if err != nil {
			return nil, err
		}
		if left -= n; left < 0 {
			return nil, fmt.Errorf("read the revisions in namespace %s: they have more than %d bytes: remove old ones", kube.Clean(list.Items[i].Namespace), maxRevisions)
		}
	}
	return list, nil
}

// Get reads one.
func (r records) Get(ctx context.Context, name string, o metav1.GetOptions) (*corev1.Secret, error) {
	s, err := r.SecretInterface.Get(ctx, name, o)
	if err != nil {
		return nil, err
	}
	if _, err := revision(s); err != nil {
		return nil, err
	}
	return s, nil
}

// revision checks a record and returns its size.
func revision(s *corev1.Secret) (int, error) {
	size, err := readable(s)
	if err != nil {
		return 0, fmt.Errorf("read Secret %s: it has the labels of a revision of a Helm release, and %w: remove the Secret, or restore it",
			kube.Clean(s.Namespace+"/"+s.Name), err)
	}
	return size, nil
}

func readable(s *corev1.Secret) (int, error) {
	raw, err := base64.StdEncoding.DecodeString(string(s.Data["release"]))
	if err != nil || len(raw) == 0 {
		return 0, errors.New("no release in it")
	}
	if bytes.HasPrefix(raw, []byte{0x1f, 0x8b, 8}) { // what old versions wrote is not compressed
		z, err := gzip.NewReader(bytes.NewReader(raw))
		if err == nil {
			raw, err = io.ReadAll(io.LimitReader(z, maxRevision+1))
		}
		if err != nil {
			return 0, errors.New("its compression is broken")
		}
	}
	if len(raw) > maxRevision {
		return 0, fmt.Errorf("more than %d bytes in it", maxRevision)
	}
	var r release.Release
	if err := json.Unmarshal(raw, &r); err != nil {
		return 0, errors.New("something else in it")
	}
	switch {
	case r.Info == nil || slices.Contains(r.Hooks, nil):
		return 0, errors.New("half a release in it")
	case r.Name != s.Labels["name"] || strconv.Itoa(r.Version) != s.Labels["version"]:
		return 0, fmt.Errorf("revision %d of release %s in it", r.Version, kube.Clean(strconv.Quote(r.Name)))
	}
	return len(raw), nil
}
