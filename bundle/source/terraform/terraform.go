// Package terraform carries Terraform and OpenTofu modules from directories and
// archives as OCI artifacts that OpenTofu reads as they are (OpenTofu,
// "Module Packages in OCI Registries": artifactType
// application/vnd.opentofu.modulepkg with one archive/zip layer).
//
// A module is packed with everything below its directory, so nested local
// modules come along. Left out are what a working copy adds: .git, .hg, .svn,
// .terraform and .terragrunt-cache directories, and state files, which hold
// secrets. The zip stores its members uncompressed, sorted, with one time stamp,
// so the same content gives the same bytes.
//
// Inside the gap a module must not reach for another one outside the package.
// The modules that are reachable from the root module are therefore read, and a
// source that is remote or leaves the package is an error that names file and
// line. Directories that no reachable module names, such as examples and tests,
// are packed but not read.
package terraform

import (
	"context"
	"fmt"
	"io"

	"github.com/airlock-project/airlock/bundle"
	"github.com/airlock-project/airlock/bundle/artifact"
	"github.com/airlock-project/airlock/bundle/source/file"
	"github.com/airlock-project/airlock/manifests"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Source carries one module. It implements bundle.Source.
type Source struct {
	spool *bundle.Spool
	entry manifests.Module
	opts  file.Options
}

// New returns the source of a modules entry. Nothing is opened before Resolve.
func New(spool *bundle.Spool, entry manifests.Module, opts file.Options) *Source {
	return &Source{spool: spool, entry: entry, opts: opts}
}

// Origin implements bundle.Source.
func (s *Source) Origin() string {
	return fmt.Sprintf("module %s from %s", s.entry.Name, s.entry.Path)
}

// Open implements bundle.Source.
func (s *Source) Open(_ context.Context, _ bundle.Pin, desc bundle.Descriptor) (io.ReadCloser, error) {
	return s.spool.Open(desc)
}

// Resolve packs the module into the spool and returns its one pin.
//
// Errors about what the module names: *RemoteError, *EscapeError, *SourceError.
// An entry with a remote source is an *UnsupportedSourceError.
func (s *Source) Resolve(ctx context.Context, _ []bundle.Pin) ([]bundle.Pin, error) {
	pin, err := s.resolve(ctx)
	if err != nil {
		return nil, fmt.Errorf("pack module %q: %w", s.entry.Name, err)
	}
	return []bundle.Pin{pin}, nil
}

func (s *Source) resolve(ctx context.Context) (bundle.Pin, error) {
	if s.entry.Path == "" {
		return bundle.Pin{}, &UnsupportedSourceError{}
	}
	ref, err := artifact.Ref("modules", s.entry.Name, s.opts.Version)
	if err != nil {
		return bundle.Pin{}, err
	}
	t, err := collect(ctx, s.opts.Path(s.entry.Path))
	if err != nil {
		return bundle.Pin{}, fmt.Errorf("read %q: %w", s.entry.Path, err)
	}
	if err := t.checkSources(); err != nil {
		return bundle.Pin{}, err
	}
	layer, err := t.spoolZip(s.spool, s.opts.Created)
	if err != nil {
		return bundle.Pin{}, err
	}
	layer.Annotations = map[string]string{ocispec.AnnotationTitle: s.entry.Name + ".zip"}
	m, err := bundle.PackArtifact(s.spool, bundle.ArtifactTypeModule, bundle.Descriptor{}, []bundle.Descriptor{layer}, nil)
	if err != nil {
		return bundle.Pin{}, err
	}
	s.opts.Listen.Send(bundle.Event{Op: "resolve", Object: s.Origin(), Total: layer.Size, Bytes: layer.Size, Done: true})
	return artifact.Pin(bundle.Item{Kind: bundle.KindModule, Name: s.entry.Name, Ref: ref}, s.Origin(), m, layer), nil
}

// UnsupportedSourceError refuses a modules entry with a remote source. The
// source is not repeated: it may hold a password.
type UnsupportedSourceError struct{}

// Error implements error.
func (*UnsupportedSourceError) Error() string {
	return "remote module sources are not carried by this version: vendor it and use path"
}

// Position is a place in a configuration file of a module.
type Position struct {
	File string // relative to the module's root
	Line int
}

// String implements fmt.Stringer.
func (p Position) String() string { return fmt.Sprintf("%s:%d", p.File, p.Line) }

// RemoteError says that a module calls another one outside its package.
type RemoteError struct {
	Position
	Module string // the name of the module block
}

// Error implements error.
func (e *RemoteError) Error() string {
	return fmt.Sprintf("%s: module %q has a remote source: vendor it below the module and name it by a path that starts with ./ or ../", e.Position, e.Module)
}

// EscapeError says that a module calls another one by a path that leaves the
// package.
type EscapeError struct {
	Position
	Module string
	Source string
}

// Error implements error.
func (e *EscapeError) Error() string {
	return fmt.Sprintf("%s: module %q has source %q, outside what is packed: give the common parent directory as path", e.Position, e.Module, e.Source)
}

// SourceError says that a configuration file or a source in it cannot be read.
type SourceError struct {
	Position
	Reason string
}

// Error implements error.
func (e *SourceError) Error() string { return fmt.Sprintf("%s: %s", e.Position, e.Reason) }
