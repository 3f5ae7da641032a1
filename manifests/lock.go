package manifests

// Lock is airlock.lock: what every name of a definition resolved to, the whole
// closure by digest and size, referrers and cosign tags included. The same
// lock and the same tool version make the same bundle, byte for byte.
type Lock struct {
	Header     `yaml:",inline"`
	Definition string       `yaml:"definition" json:"definition" jsonschema:"pattern=^sha256:[0-9a-f]{64}$"`                              // digest of the definition's meaning, see Definition.Digest
	Created    string       `yaml:"created" json:"created" jsonschema:"pattern=^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"` // RFC 3339, UTC, whole seconds
	Items      []LockedItem `yaml:"items" json:"items"`
}

// LockedItem is one item of the definition, pinned.
type LockedItem struct {
	Entry     string             `yaml:"entry" json:"entry"`                                                              // the entry of the definition it comes from
	Spec      string             `yaml:"spec,omitempty" json:"spec,omitempty" jsonschema:"pattern=^sha256:[0-9a-f]{64}$"` // digest of what that entry asks for; while it stays, an edit elsewhere leaves the pin alone
	Kind      string             `yaml:"kind" json:"kind" jsonschema:"pattern=^[a-z0-9][a-z0-9._-]*$,maxLength=128"`
	Name      string             `yaml:"name" json:"name"`
	Ref       string             `yaml:"ref,omitempty" json:"ref,omitempty"`                 // the reference as written
	Source    string             `yaml:"source,omitempty" json:"source,omitempty"`           // where it came from, for people and for fetching again
	Manifests []LockedDescriptor `yaml:"manifests" json:"manifests" jsonschema:"minItems=1"` // the root first
	Blobs     []LockedDescriptor `yaml:"blobs,omitempty" json:"blobs,omitempty"`             // configs and layers
}

// LockedDescriptor is a descriptor of the closure. Role says what a manifest is
// to its item; Ref is set where the manifest is tagged.
type LockedDescriptor struct {
	MediaType    string          `yaml:"mediaType" json:"mediaType"`
	Digest       string          `yaml:"digest" json:"digest" jsonschema:"pattern=^sha256:[0-9a-f]{64}$"`
	Size         int64           `yaml:"size" json:"size" jsonschema:"minimum=0,maximum=1099511627776"`
	ArtifactType string          `yaml:"artifactType,omitempty" json:"artifactType,omitempty"`
	Platform     *LockedPlatform `yaml:"platform,omitempty" json:"platform,omitempty"`
	Role         string          `yaml:"role,omitempty" json:"role,omitempty" jsonschema:"pattern=^[a-z0-9][a-z0-9._-]*$,maxLength=128"`
	Ref          string          `yaml:"ref,omitempty" json:"ref,omitempty"`
}

// LockedPlatform is the platform of a manifest (image-spec 1.1, image-index.md),
// as a registry gave it: any field may be empty.
type LockedPlatform struct {
	OS           string   `yaml:"os,omitempty" json:"os,omitempty"`
	Architecture string   `yaml:"architecture,omitempty" json:"architecture,omitempty"`
	Variant      string   `yaml:"variant,omitempty" json:"variant,omitempty"`
	OSVersion    string   `yaml:"osVersion,omitempty" json:"osVersion,omitempty"`
	OSFeatures   []string `yaml:"osFeatures,omitempty" json:"osFeatures,omitempty"`
}
