package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/verify"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
)

func (a *app) bundleInspect() *cobra.Command {
	var t trustFlags
	cmd := &cobra.Command{
		Use: "inspect BUNDLE", Short: "Show what a bundle says it carries, as a tree",
		Long: "Reads the signed index and the manifests, nothing else. Without a policy or key the\nwords shown are claims that nobody has checked, and the first line says so.",
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, list []string) error { return a.runInspect(cmd.Context(), list[0], t) },
	}
	t.add(cmd)
	return cmd
}

// inspection is the result of inspect.
type inspection struct {
	Bundle  string          `json:"bundle"`
	Trusted bool            `json:"trusted"`
	Digest  string          `json:"digest"`
	Info    infoResult      `json:"info"`
	Claims  []string        `json:"signatures"` // what each signature says of its key
	Signers []signerInfo    `json:"signers"`
	Items   []inspectedItem `json:"items"`
	Bytes   int64           `json:"bytes"`
}

// infoResult is bundle.Info as programs read it.
type infoResult struct {
	Product  string   `json:"product"`
	Version  string   `json:"version"`
	Release  int64    `json:"release"`
	Created  string   `json:"created"`
	Lock     string   `json:"lock"`
	Tool     string   `json:"tool"`
	Expires  string   `json:"expires,omitempty"`
	Audience []string `json:"audience,omitempty"`
	MinTool  string   `json:"minTool,omitempty"`
}

func infoOf(i bundle.Info) infoResult {
	r := infoResult{
		Product: i.Product, Version: i.Version, Release: i.Release, Created: i.Created.Format(time.RFC3339),
		Lock: i.Lock.String(), Tool: i.Tool, Audience: i.Audience, MinTool: i.MinTool,
	}
	if !i.Expires.IsZero() {
		r.Expires = i.Expires.Format(time.RFC3339)
	}
	return r
}

type inspectedItem struct {
	Kind      string   `json:"kind"`
	Name      string   `json:"name"`
	Ref       string   `json:"ref"`
	Digest    string   `json:"digest"`
	Size      int64    `json:"size"` // of everything below the root, in bytes
	Platforms []string `json:"platforms,omitempty"`
	Referrers int      `json:"referrers,omitempty"`
}

func (a *app) runInspect(ctx context.Context, path string, t trustFlags) error {
	if err := noPipe(path); err != nil {
		return err
	}
	p, err := t.load()
	if _, none := errors.AsType[*verify.NoPolicyError](err); err != nil && !none {
		return err
	}
	i, err := verify.Inspect(ctx, path, p, verify.Options{AnySite: true, Version: buildVersion().Version})
	if err != nil {
		return err
	}
	idx, g := i.Index, i.Graph
	res := inspection{Bundle: path, Trusted: p != nil, Digest: i.Info.Digest.String(), Info: infoOf(idx.Info), Signers: signersOf(i.Decision.Signers), Claims: verify.Claims(i.Signatures)}
	for _, b := range slices.Concat(g.Contents.Meta, g.Contents.Placed, g.Contents.Packed) {
		res.Bytes += b.Size
	}
	for _, e := range idx.Entries {
		if e.Role == bundle.RoleRoot {
			res.Items = append(res.Items, inspectItem(e, idx, g))
		}
	}
	slices.SortStableFunc(res.Items, func(a, b inspectedItem) int { return slices.Index(kindOrder, a.Kind) - slices.Index(kindOrder, b.Kind) })
	return a.result(res, res.print)
}

// kindOrder is how inspect lists kinds: what a person looks for first.
var kindOrder = []string{bundle.KindImage, bundle.KindChart, bundle.KindModule, bundle.KindFile, bundle.KindVendor, bundle.KindChecklist, bundle.KindTool, bundle.KindLock}

// inspectItem sums up what hangs on one root.
func inspectItem(root bundle.Entry, idx bundle.Index, g *bundle.Graph) inspectedItem {
	it := inspectedItem{Kind: root.Kind, Name: root.Name, Ref: root.Ref, Digest: root.Digest.String()}
	platform := map[digest.Digest]string{}
	for _, e := range idx.Entries {
		if e.Platform != nil && e.Platform.OS != "unknown" {
			platform[e.Digest] = strings.TrimSuffix(e.Platform.OS+"/"+e.Platform.Architecture+"/"+e.Platform.Variant, "/")
		}
	}
	seen := map[digest.Digest]bool{}
	var walk func(d bundle.Descriptor)
	walk = func(d bundle.Descriptor) {
		if seen[d.Digest] {
			return
		}
		seen[d.Digest] = true
		n, carried := g.Nodes[d.Digest]
		if bundle.IsIndex(d.MediaType) || bundle.IsManifest(d.MediaType) {
			if !carried {
				return
			}
			if p := platform[d.Digest]; p != "" {
				it.Platforms = append(it.Platforms, p)
			}
		}
		it.Size += d.Size
		for _, c := range slices.Concat(n.Children, n.Blobs()) {
			walk(c)
		}
	}
	walk(root.Descriptor)
	for _, e := range idx.Entries {
		if s := g.Nodes[e.Digest].Subject; e.Role == bundle.RoleReferrer && s != nil && seen[s.Digest] || e.Role == bundle.RoleCosignTag && e.Name == root.Name {
			it.Referrers++
		}
	}
	slices.Sort(it.Platforms)
	return it
}

func (r inspection) print(w io.Writer) {
	if r.Trusted {
		for _, s := range r.Signers {
			fmt.Fprintf(w, "trusted: signed by %s (%s) %s\n", s.Name, s.Role, s.Fingerprint)
		}
	} else {
		fmt.Fprintln(w, "NOT VERIFIED: these are claims; give --key or --policy to check who signed")
	}
	i := r.Info
	fmt.Fprintf(w, "%s %s, release %d, made %s by airlock %s\n", i.Product, i.Version, i.Release, i.Created, i.Tool)
	fmt.Fprintf(w, "index %s, %s in %s\n", r.Digest, megabytes(r.Bytes), count(len(r.Items), "item"))
	if i.Expires != "" {
		fmt.Fprintf(w, "expires %s\n", i.Expires)
	}
	if len(i.Audience) > 0 {
		fmt.Fprintf(w, "made for %s\n", strings.Join(i.Audience, ", "))
	}
	for _, c := range r.Claims {
		fmt.Fprintf(w, "signature %s\n", c)
	}
	kind := ""
	for n, it := range r.Items {
		if it.Kind != kind {
			kind = it.Kind
			fmt.Fprintf(w, "%s\n", kind)
		}
		branch := "├─"
		if n == len(r.Items)-1 || r.Items[n+1].Kind != kind {
			branch = "└─"
		}
		fmt.Fprintf(w, "%s %s  %s  %s", branch, it.Ref, shortDigest(it.Digest), megabytes(it.Size))
		if len(it.Platforms) > 0 {
			fmt.Fprintf(w, "  %s", strings.Join(it.Platforms, ","))
		}
		if it.Referrers > 0 {
			fmt.Fprintf(w, "  +%s", attachments(it.Referrers))
		}
		fmt.Fprintln(w)
	}
}

func attachments(n int) string {
	if n == 1 {
		return "1 signature or attachment"
	}
	return fmt.Sprintf("%d signatures and attachments", n)
}

// shortDigest is enough of a digest for a person to tell two apart.
func shortDigest(d string) string { return d[:min(len(d), len("sha256:")+12)] }
