package manifests

// Definition is airlock.yaml: what a bundle is to hold. Relative paths are
// relative to the document.
type Definition struct {
	Header    `yaml:",inline"`
	Product   string      `yaml:"product" json:"product" jsonschema:"pattern=^[a-z0-9][a-z0-9._-]*$,maxLength=128"`
	Version   string      `yaml:"version" json:"version" jsonschema:"pattern=^[A-Za-z0-9][A-Za-z0-9._+-]*$,maxLength=128"`
	Release   int64       `yaml:"release" json:"release" jsonschema:"minimum=1"`                                                                  // only grows; "older" means smaller
	Expires   string      `yaml:"expires,omitempty" json:"expires,omitempty" jsonschema:"pattern=^[0-9]{4}-[0-9]{2}-[0-9]{2}$"`                   // a date, 2006-01-02, UTC, last day of validity
	Audience  []string    `yaml:"audience,omitempty" json:"audience,omitempty" jsonschema:"pattern=^[a-z0-9][a-z0-9._-]*$"`                       // sites it may be installed at; empty means any
	MinTool   string      `yaml:"minTool,omitempty" json:"minTool,omitempty" jsonschema:"pattern=^v?[0-9]+[.][0-9]+[.][0-9]+(-[0-9A-Za-z.-]+)?$"` // oldest Airlock version that may install it
	Platforms Platforms   `yaml:"platforms,omitempty" json:"platforms,omitempty"`
	Sign      []SignWith  `yaml:"sign,omitempty" json:"sign,omitempty"`
	Archives  []Archive   `yaml:"archives,omitempty" json:"archives,omitempty"`
	Images    []Image     `yaml:"images,omitempty" json:"images,omitempty"`
	Charts    []Chart     `yaml:"charts,omitempty" json:"charts,omitempty"`
	Modules   []Module    `yaml:"modules,omitempty" json:"modules,omitempty"`
	Providers *Providers  `yaml:"providers,omitempty" json:"providers,omitempty"`
	Files     []File      `yaml:"files,omitempty" json:"files,omitempty"`
	Tools     *Tools      `yaml:"tools,omitempty" json:"tools,omitempty"`
	Checklist *FromPreset `yaml:"checklist,omitempty" json:"checklist,omitempty"`
}

// Platforms is a list of os/arch[/variant], or the word "all" for whole
// indexes. Written "all" or [linux/amd64, linux/arm64].
type Platforms []string

// All reports whether whole indexes are wanted: the list is empty or ["all"].
func (p Platforms) All() bool {
	return len(p) == 0 || len(p) == 1 && p[0] == "all"
}

// SignWith names one signer of a bundle. Exactly one field is set.
type SignWith struct {
	Key     string `yaml:"key,omitempty" json:"key,omitempty" jsonschema:"oneof_required=key,minLength=1"` // file:PATH or a KMS URI
	Keyless bool   `yaml:"keyless,omitempty" json:"keyless,omitempty" jsonschema:"oneof_required=keyless"`
}

// Archive is a vendor's release archive (.tar.gz) with its checksums file and
// the detached OpenPGP signature of that file.
type Archive struct {
	Name      string         `yaml:"name" json:"name" jsonschema:"pattern=^[a-z0-9][a-z0-9._-]*$,maxLength=128"`
	Path      string         `yaml:"path" json:"path"`
	Sums      string         `yaml:"sums" json:"sums"`
	Signature string         `yaml:"signature" json:"signature"`
	Signer    OpenPGPSigner  `yaml:"signer" json:"signer"`
	Images    []ArchiveImage `yaml:"images,omitempty" json:"images,omitempty"`
	Files     []ArchiveFile  `yaml:"files,omitempty" json:"files,omitempty"`
}

// OpenPGPSigner is the key file and the full fingerprint (40 or 64 hex digits)
// that must have signed.
type OpenPGPSigner struct {
	Key         string `yaml:"key" json:"key"`
	Fingerprint string `yaml:"fingerprint" json:"fingerprint" jsonschema:"pattern=^([0-9A-Fa-f]{40}|[0-9A-Fa-f]{64})$"`
}

// ArchiveImage is a docker-save tar inside an archive and the reference it is
// carried as. Path is relative to the archive's single top directory.
type ArchiveImage struct {
	Path string `yaml:"path" json:"path"`
	As   string `yaml:"as" json:"as"`
}

// ArchiveFile is a plain file inside an archive, carried under Name.
type ArchiveFile struct {
	Path string `yaml:"path" json:"path"`
	Name string `yaml:"name" json:"name" jsonschema:"pattern=^[a-z0-9][a-z0-9._-]*$,maxLength=128"`
}

// Image is an image in a registry (Ref), or a docker-save or OCI-layout tar
// (Path with As).
type Image struct {
	Ref       string    `yaml:"ref,omitempty" json:"ref,omitempty" jsonschema:"oneof_required=ref,minLength=1"`
	Path      string    `yaml:"path,omitempty" json:"path,omitempty" jsonschema:"oneof_required=path,minLength=1"`
	As        string    `yaml:"as,omitempty" json:"as,omitempty" jsonschema:"oneof_required=path,minLength=1"`
	Platforms Platforms `yaml:"platforms,omitempty" json:"platforms,omitempty"`
}

// Chart is a Helm chart from a directory or .tgz (Path), an HTTP repository
// (Repository with Chart), or an oci:// repository.
type Chart struct {
	Name       string         `yaml:"name" json:"name" jsonschema:"pattern=^[a-z0-9][a-z0-9._-]*$,maxLength=128"`
	Path       string         `yaml:"path,omitempty" json:"path,omitempty" jsonschema:"oneof_required=path,minLength=1"`
	Repository string         `yaml:"repository,omitempty" json:"repository,omitempty" jsonschema:"oneof_required=repository,minLength=1"`
	Chart      string         `yaml:"chart,omitempty" json:"chart,omitempty" jsonschema:"pattern=^[a-z0-9][a-z0-9._-]*$,maxLength=128"`
	Version    string         `yaml:"version,omitempty" json:"version,omitempty" jsonschema:"pattern=^[A-Za-z0-9][A-Za-z0-9._+-]*$,maxLength=128"`
	Values     []string       `yaml:"values,omitempty" json:"values,omitempty"`
	Ignore     []IgnoredImage `yaml:"ignore,omitempty" json:"ignore,omitempty"`
}

// IgnoredImage is an image that a chart names and the bundle leaves out on
// purpose.
type IgnoredImage struct {
	Image  string `yaml:"image" json:"image"`
	Reason string `yaml:"reason" json:"reason"`
}

// Module is a Terraform module from a directory or archive (Path) or a remote
// Source.
type Module struct {
	Name   string `yaml:"name" json:"name" jsonschema:"pattern=^[a-z0-9][a-z0-9._-]*$,maxLength=128"`
	Path   string `yaml:"path,omitempty" json:"path,omitempty" jsonschema:"oneof_required=path,minLength=1"`
	Source string `yaml:"source,omitempty" json:"source,omitempty" jsonschema:"oneof_required=source,minLength=1"`
}

// Providers asks for the Terraform providers of all modules.
type Providers struct {
	Platforms []string `yaml:"platforms" json:"platforms" jsonschema:"pattern=^[a-z0-9]+_[a-z0-9]+$,minItems=1"`
}

// File is a file or a directory.
type File struct {
	Path string `yaml:"path" json:"path"`
	Name string `yaml:"name" json:"name" jsonschema:"pattern=^[a-z0-9][a-z0-9._-]*$,maxLength=128"`
}

// Tools says which Airlock binaries the bundle carries. Path is a directory
// that holds airlock-<os>-<arch> for every platform. Without it the running
// binary is carried for its own platform.
type Tools struct {
	Path      string   `yaml:"path" json:"path"`
	Platforms []string `yaml:"platforms" json:"platforms" jsonschema:"pattern=^[a-z0-9]+/[a-z0-9]+(/[a-z0-9.]+)?$,minItems=1"`
}

// FromPreset names a document: a preset's ("preset:NAME") or a file's (Path).
// Written preset:NAME or {path: FILE}.
type FromPreset struct {
	Preset string `yaml:"-" json:"-"`
	Path   string `yaml:"path,omitempty" json:"path,omitempty"`
}
