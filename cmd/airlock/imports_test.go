package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const modulePath = "github.com/airlock-project/airlock"

// layer says what of this module a package may import. A pattern that ends in
// "/..." also means everything below. The first layer that matches a package is
// its layer, and a package that none matches is refused. Test files are free.
type layer struct {
	pkg string
	may []string
}

// layers is the architecture, the lowest first. .golangci.yml says the same to
// editors.
var layers = []layer{
	{"./manifests", nil},
	{"./manifests/...", []string{"./manifests"}},

	// How a file is locked is one decision for all.
	{"./bundle/flock", nil},
	{"./bundle/archive", []string{"./bundle/flock"}},
	{"./bundle/chart", nil},
	// How a file that somebody named is opened is one decision for all.
	{"./bundle/regular", nil},
	{"./bundle/remote", []string{"./bundle/regular"}},
	{"./bundle", []string{"./manifests", "./bundle/archive"}},
	// How a file or directory is packed is one decision for all sources, and
	// for whoever unpacks it.
	{"./bundle/artifact", []string{"./bundle"}},
	{"./bundle/source/vendorarchive", append([]string{"./bundle/source/dockerarchive", "./bundle/source/file"}, belowSources...)},
	{"./bundle/source/file", belowSources},
	// Options are shared by all sources that pack.
	{"./bundle/source/...", append([]string{"./bundle/source/file"}, belowSources...)},

	{"./verify/extract", []string{"./verify", "./bundle", "./bundle/archive", "./bundle/artifact"}},
	{"./verify/...", []string{"./verify/...", "./bundle", "./bundle/archive", "./bundle/regular", "./manifests"}},

	// The types that adapters and engine share lie in the adapters' parent.
	{"./mirror/target", []string{"./bundle", "./manifests"}},
	{"./mirror/target/...", []string{"./mirror/target", "./mirror/target/sdk", "./mirror/target/targettest", "./bundle", "./bundle/remote", "./manifests"}},
	{"./mirror/check", []string{"./mirror/target", "./bundle/remote"}},
	{"./mirror/relocate", []string{"./bundle/remote", "./manifests"}},
	{"./mirror/job", []string{"./bundle/remote"}},
	{"./mirror", []string{"./mirror/target", "./verify", "./bundle", "./bundle/archive", "./bundle/flock", "./bundle/remote", "./manifests"}},

	// What all steps with charts share.
	{"./install/internal/charts", belowSteps},
	{"./install", []string{"./verify", "./bundle", "./bundle/flock", "./bundle/regular", "./manifests"}},
	{"./install/offsite", []string{"./install", "./manifests"}},
	{"./install/probe/...", belowSteps},
	{"./install/action/...", belowSteps},

	{"./cmd/airlock", []string{"./manifests/...", "./bundle/...", "./verify/...", "./mirror/...", "./install/..."}},
}

var belowSources = []string{"./bundle", "./bundle/archive", "./bundle/artifact", "./bundle/chart", "./bundle/remote", "./manifests"}

// The vendor archive's statement is checked again inside the gap; a carried file
// is unpacked as it was packed.
var belowSteps = []string{"./install", "./verify", "./bundle", "./bundle/artifact", "./bundle/chart", "./bundle/regular", "./bundle/remote", "./bundle/source/vendorarchive", "./manifests"}

// guest says which of our packages may import a foreign tree of packages.
type guest struct {
	pkg string
	by  []string
}

var guests = []guest{
	{"github.com/spf13/cobra/...", []string{"./cmd/airlock"}},
	{"github.com/vbauerster/mpb/v8/...", []string{"./cmd/airlock"}},
	// A cloud's SDK stays in what speaks with that cloud.
	{"github.com/aws/aws-sdk-go-v2/...", []string{"./mirror/target/ecr", "./install/probe/aws", "./install/internal/blob"}},
	{"helm.sh/helm/v3/...", []string{"./bundle/chart", "./install/action/helm"}},
	{"github.com/sigstore/cosign/v2/...", []string{"./verify/..."}},
	{"github.com/sigstore/sigstore-go/...", []string{"./verify/..."}},
	{"github.com/sigstore/sigstore/...", []string{"./verify/..."}},
	// Clusters are opened in one place.
	{"k8s.io/client-go/...", clusters},
	{"k8s.io/cli-runtime/...", clusters},
	// The owner of install/internal/postgres.
	{"github.com/jackc/pgx/v5/...", []string{"./install"}},
	// It refuses token realms and redirects on private addresses, which
	// air-gapped sites use; so does what is built on it.
	{"github.com/google/go-containerregistry/pkg/v1/remote/...", nil},
	{"github.com/google/go-containerregistry/pkg/v1/google/...", nil},
	{"github.com/google/go-containerregistry/pkg/crane/...", nil},
	{"github.com/google/go-containerregistry/pkg/gcrane/...", nil},
	// Object storage is spoken in one place.
	{"github.com/minio/minio-go/v7/...", []string{"./install/internal/blob"}},
	{"github.com/Azure/azure-sdk-for-go/sdk/storage/...", []string{"./install/internal/blob"}},
	{"github.com/secure-io/sio-go/...", []string{"./install/internal/blob"}},
	// Libraries are silent and send events; log/slog is handed in.
	{"log", []string{"./cmd/airlock", "./mirror"}}, // http.Server.ErrorLog wants one
}

var clusters = []string{"./install/internal/kube", "./install/probe/kube/...", "./install/action/kube/...", "./install/action/helm/..."}

// far says what a package must not reach through any number of imports.
type far struct {
	pkg   string
	never string
}

var farAway = []far{
	{"./manifests/...", "net/http"},
	{"./bundle/archive", "net/http"},
	{"./bundle", "net/http"},
	{"./verify/...", "helm.sh/helm/v3/..."},
	{"./mirror/...", "helm.sh/helm/v3/..."},
	{"./install", "helm.sh/helm/v3/..."},
}

// graph maps a package to what its files, test files aside, import. Packages of
// this module have paths relative to it, beginning with "./".
type graph map[string][]string

func isOurs(pkg string) bool { return strings.HasPrefix(pkg, "./") }

func TestImports(t *testing.T) {
	g, err := loadGraph(t)
	if err != nil {
		t.Fatal(err)
	}
	ours := 0
	for pkg := range g {
		if isOurs(pkg) {
			ours++
		}
	}
	if ours < 10 {
		t.Fatalf("go list shows %d packages of this module: the rules were not put to the test", ours)
	}
	for _, finding := range checkImports(g) {
		t.Error(finding)
	}
}

// TestImportRulesRefuse shows that each kind of rule can fail.
func TestImportRulesRefuse(t *testing.T) {
	tests := []struct {
		name string
		g    graph
		want []string
	}{
		{"as designed", graph{
			"./manifests":                   {"strings", "github.com/goccy/go-yaml"},
			"./bundle":                      {"./manifests", "./bundle/archive"},
			"./bundle/archive":              {"io"},
			"./verify":                      {"./bundle", "github.com/sigstore/sigstore-go/pkg/verify"},
			"./verify/sign":                 {"./verify", "github.com/sigstore/cosign/v2/pkg/cosign"},
			"./mirror":                      {"./verify", "./mirror/target"},
			"./mirror/target/oci":           {"./mirror/target"},
			"./install/internal/expr":       {"fmt"},
			"./install":                     {"./verify", "./install/internal/expr"},
			"./install/probe/tcp":           {"./install"},
			"./install/action/helm":         {"./install", "helm.sh/helm/v3/pkg/action"},
			"./bundle/chart":                {"helm.sh/helm/v3/pkg/chart"},
			"./bundle/source/vendorarchive": {"./bundle/source/dockerarchive"},
			"./cmd/airlock":                 {"./mirror", "./install", "github.com/spf13/cobra"},
		}, nil},
		{"upwards", graph{"./bundle": {"./verify"}}, []string{"./bundle imports ./verify"}},
		{"a leaf", graph{"./bundle/archive": {"./bundle"}, "./manifests": {"./bundle", "log"}}, []string{"./bundle/archive imports ./bundle", "./manifests imports ./bundle", "./manifests imports log"}},
		{"across", graph{"./install": {"./mirror"}, "./mirror": {"./install"}}, []string{"./install imports ./mirror", "./mirror imports ./install"}},
		{"an adapter from an engine", graph{"./install": {"./install/probe/tcp"}, "./mirror": {"./mirror/target/ecr"}}, []string{"./install imports ./install/probe/tcp", "./mirror imports ./mirror/target/ecr"}},
		{"an adapter from an adapter", graph{"./bundle/source/helm": {"./bundle/source/registry"}}, []string{"./bundle/source/helm imports ./bundle/source/registry"}},
		{"private code obeys its owner", graph{"./install/internal/expr": {"./mirror"}}, []string{"./install/internal/expr imports ./mirror"}},
		{"a prefix is no parent", graph{"./bundlex": {"fmt"}, "./verify": {"./bundlex"}}, []string{"./bundlex is in no layer", "./verify imports ./bundlex"}},
		{"nowhere", graph{"./util": {"fmt"}}, []string{"./util is in no layer"}},
		{"guests", graph{
			"./verify":            {"github.com/spf13/cobra", "helm.sh/helm/v3/pkg/chart"},
			"./mirror":            {"github.com/sigstore/cosign/v2/pkg/oci"},
			"./mirror/target/ecr": {"github.com/google/go-containerregistry/pkg/v1/remote/transport"},
			"./cmd/airlock":       {"helm.sh/helm/v3/pkg/chart"},

			"./install/internal/blob": {"github.com/minio/minio-go/v7"},
			"./install/internal/expr": {"github.com/minio/minio-go/v7"},
		}, []string{
			"./cmd/airlock imports helm.sh/helm/v3/pkg/chart",
			"./install/internal/expr imports github.com/minio/minio-go/v7",
			"./mirror imports github.com/sigstore/cosign/v2/pkg/oci",
			"./mirror/target/ecr imports github.com/google/go-containerregistry/pkg/v1/remote/transport",
			"./verify imports github.com/spf13/cobra",
			"./verify imports helm.sh/helm/v3/pkg/chart",
			"./verify reaches helm.sh/helm/v3/pkg/chart: ./verify -> helm.sh/helm/v3/pkg/chart",
		}},
		{"from afar", graph{
			"./manifests":      {"example.com/yaml"},
			"example.com/yaml": {"example.com/fetch"}, "example.com/fetch": {"net/http", "example.com/yaml"},
		}, []string{"./manifests reaches net/http: ./manifests -> example.com/yaml -> example.com/fetch -> net/http"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, checkImports(tt.g)); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}

// loadGraph asks go list, once, for every package that this module builds from.
func loadGraph(t *testing.T) (graph, error) {
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=ImportPath,Imports", modulePath+"/...")
	out, err := cmd.Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			return nil, fmt.Errorf("list packages: %w: %s", err, exit.Stderr)
		}
		return nil, fmt.Errorf("list packages: %w", err)
	}
	g := graph{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return g, nil
		} else if err != nil {
			return nil, fmt.Errorf("read list of packages: %w", err)
		}
		for i, imp := range p.Imports {
			p.Imports[i] = relative(imp)
		}
		g[relative(p.ImportPath)] = p.Imports
	}
}

func relative(pkg string) string {
	if rest, ok := strings.CutPrefix(pkg, modulePath+"/"); ok {
		return "./" + rest
	}
	return pkg
}

// checkImports returns what breaks a rule, sorted.
func checkImports(g graph) []string {
	var findings []string
	for pkg, imports := range g {
		if !isOurs(pkg) {
			continue
		}
		owner := ownerOf(pkg)
		i := slices.IndexFunc(layers, func(l layer) bool { return matches(l.pkg, owner) })
		if i < 0 {
			findings = append(findings, pkg+" is in no layer")
			continue
		}
		for _, imp := range imports {
			if !mayImport(layers[i], pkg, imp) {
				findings = append(findings, pkg+" imports "+imp)
			}
		}
		for _, f := range farAway {
			if path := pathTo(g, pkg, f.never); matches(f.pkg, owner) && path != nil {
				findings = append(findings, fmt.Sprintf("%s reaches %s: %s", pkg, path[len(path)-1], strings.Join(path, " -> ")))
			}
		}
	}
	slices.Sort(findings)
	return findings
}

// ownerOf is the package whose rules a private package obeys: the one that it
// lies in, unless it has rules of its own.
func ownerOf(pkg string) string {
	if slices.ContainsFunc(layers, func(l layer) bool { return l.pkg == pkg }) {
		return pkg
	}
	owner, _, _ := strings.Cut(pkg, "/internal/")
	return owner
}

func mayImport(l layer, pkg, imp string) bool {
	owner := ownerOf(pkg)
	if isOurs(imp) {
		target, _, private := strings.Cut(imp, "/internal/") // who may import those, go itself checks
		return private || target == owner || matchesAny(l.may, target)
	}
	for _, guest := range guests {
		if matches(guest.pkg, imp) {
			// A rule may name a private package, or an owner with all of them.
			return matchesAny(guest.by, owner) || matchesAny(guest.by, pkg)
		}
	}
	return true
}

// pathTo returns a shortest chain of imports from pkg to a package that
// matches never, or nil.
func pathTo(g graph, pkg, never string) []string {
	from := map[string]string{pkg: ""}
	for queue := []string{pkg}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		if at != pkg && matches(never, at) {
			var path []string
			for ; at != ""; at = from[at] {
				path = append(path, at)
			}
			slices.Reverse(path)
			return path
		}
		for _, imp := range g[at] {
			if _, seen := from[imp]; !seen {
				from[imp] = at
				queue = append(queue, imp)
			}
		}
	}
	return nil
}

func matches(pattern, pkg string) bool {
	if tree, ok := strings.CutSuffix(pattern, "/..."); ok {
		return pkg == tree || strings.HasPrefix(pkg, tree+"/")
	}
	return pkg == pattern
}

func matchesAny(patterns []string, pkg string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, pkg) })
}
