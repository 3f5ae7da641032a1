package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
)

// Kinds of manifest beside those of the image specification.
const (
	dockerIndex    = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
)

// most bounds a manifest or index, as registries do.
const most = 4 << 20

// login is an entry of a pull secret.
type login struct {
	Username string `json:"username"`
	Password string `json:"password"`
	Auth     []byte `json:"auth"` // "user:password", in base64
}

// invalidNameError says that a reference is none.
type invalidNameError struct{ err error }

func (e *invalidNameError) Error() string { return e.err.Error() }

// puller pulls images of any registry from one mirror.
type puller struct{ mirror string }

// pull reads an image as a node of linux/amd64 would, with all digests checked,
// and returns its ID as a container's status has it.
func (p puller) pull(ctx context.Context, image string, logins map[string]login) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	ref, err := name.ParseReference(image)
	if err != nil {
		return "", &invalidNameError{err}
	}
	if p.mirror == "" {
		return "", fmt.Errorf("dial %s: the node has no mirror", ref.Context().RegistryStr())
	}
	repo, err := remote.NewRepository(p.mirror + "/" + ref.Context().RepositoryStr())
	if err != nil {
		return "", fmt.Errorf("find %s on the mirror: %w", image, err)
	}
	repo.PlainHTTP = true
	client := &auth.Client{Client: http.DefaultClient} // does not try again: the node does
	if l, ok := match(logins, ref); ok {
		client.Credential = auth.StaticCredential(p.mirror, l.credential())
	}
	repo.Client = client
	d, err := resolve(ctx, repo, ref.Identifier())
	if err != nil { // in containerd's own words, which are what a node's events hold
		return "", fmt.Errorf("failed to pull and unpack image %q: failed to resolve reference %q: %w", ref.Name(), ref.Name(), err)
	}
	if err := pullImage(ctx, repo, d); err != nil {
		return "", fmt.Errorf("failed to pull and unpack image %q: %w", ref.Name(), err)
	}
	return ref.Context().Name() + "@" + d.Digest.String(), nil
}

// resolve asks for a manifest with GET: the answer to HEAD has no message.
func resolve(ctx context.Context, repo *remote.Repository, tag string) (ocispec.Descriptor, error) {
	d, rc, err := repo.FetchReference(ctx, tag)
	if errors.Is(err, auth.ErrBasicCredentialNotFound) {
		return d, fmt.Errorf("response status code 401: Unauthorized: no basic auth credentials: %w", err)
	}
	if err != nil {
		return d, err
	}
	return d, rc.Close()
}

// pullImage follows an index to the node's platform and reads everything below.
func pullImage(ctx context.Context, repo *remote.Repository, d ocispec.Descriptor) error {
	if d.MediaType == ocispec.MediaTypeImageIndex || d.MediaType == dockerIndex {
		var index ocispec.Index
		if err := fetchJSON(ctx, repo, d, &index); err != nil {
			return err
		}
		found := false
		for _, m := range index.Manifests {
			if m.Platform != nil && m.Platform.OS == "linux" && m.Platform.Architecture == "amd64" {
				d, found = m, true
				break
			}
		}
		if !found {
			return fmt.Errorf("no match for platform in manifest %s: not found", d.Digest)
		}
	}
	if d.MediaType != ocispec.MediaTypeImageManifest && d.MediaType != dockerManifest {
		return fmt.Errorf("manifest %s: unexpected media type %s", d.Digest, d.MediaType)
	}
	var m ocispec.Manifest
	if err := fetchJSON(ctx, repo, d, &m); err != nil {
		return err
	}
	var config struct {
		RootFS struct {
			DiffIDs []digest.Digest `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if err := fetchJSON(ctx, repo, m.Config, &config); err != nil {
		return err
	}
	if len(config.RootFS.DiffIDs) != len(m.Layers) {
		return fmt.Errorf("manifest %s has %d layers and its config %d", d.Digest, len(m.Layers), len(config.RootFS.DiffIDs))
	}
	for _, layer := range m.Layers {
		if err := fetch(ctx, repo, layer, io.Discard); err != nil {
			return err
		}
	}
	return nil
}

func fetchJSON(ctx context.Context, repo *remote.Repository, d ocispec.Descriptor, into any) error {
	if d.Size > most {
		return fmt.Errorf("%s: %d bytes are too many", d.Digest, d.Size)
	}
	var b strings.Builder
	if err := fetch(ctx, repo, d, &b); err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(b.String()), into); err != nil {
		return fmt.Errorf("%s: %w", d.Digest, err)
	}
	return nil
}

// fetch copies content to w and checks its size and digest.
func fetch(ctx context.Context, repo *remote.Repository, d ocispec.Descriptor, w io.Writer) error {
	rc, err := repo.Fetch(ctx, d)
	if err != nil {
		return fmt.Errorf("fetch %s: %w", d.Digest, err)
	}
	defer rc.Close()
	vr := content.NewVerifyReader(rc, d)
	if _, err := io.Copy(w, vr); err != nil {
		return fmt.Errorf("fetch %s: %w", d.Digest, err)
	}
	if err := vr.Verify(); err != nil {
		return fmt.Errorf("fetch %s: %w", d.Digest, err)
	}
	return nil
}

func (l login) credential() auth.Credential {
	if user, password, ok := strings.Cut(string(l.Auth), ":"); ok && l.Username == "" {
		return auth.Credential{Username: user, Password: password}
	}
	return auth.Credential{Username: l.Username, Password: l.Password}
}

// match finds the entry for a reference as the kubelet does: the host must be
// the reference's, a path must begin it, the longest wins. The registry is the
// one that the pod names, not the mirror behind it.
func match(logins map[string]login, ref name.Reference) (login, bool) {
	best, found := "", false
	want := ref.Context().RegistryStr() + "/" + ref.Context().RepositoryStr()
	for key := range logins {
		at := place(key)
		if (want == at || strings.HasPrefix(want, at+"/")) && (!found || len(at) > len(place(best))) {
			best, found = key, true
		}
	}
	return logins[best], found
}

// place takes scheme and the API's path from a key of a pull secret.
func place(key string) string {
	if u, err := url.Parse(key); err == nil && u.Host != "" {
		key = u.Host + u.Path
	}
	key = strings.TrimSuffix(key, "/")
	for _, api := range []string{"/v1", "/v2"} {
		key = strings.TrimSuffix(key, api)
	}
	return key
}
