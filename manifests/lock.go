package manifests

// Lock is airlock.lock: what every name of a definition resolved to, the whole
// closure by digest and size, referrers and cosign tags included. The same
// lock and the same tool version make the same bundle, byte for byte.
type Lock struct {
	Header     `yaml:",inline"`
	Definition string       `yaml:"definition" json:"definition"` // digest of the definition's meaning, see Definition.Digest
	Created    string       `yaml:"created" json:"created"`       // RFC 3339, UTC, whole seconds
	Items      []LockedItem `yaml:"items" json:"items"`
}

// LockedItem is one item of the definition, pinned.
type LockedItem struct {
	Kind      string             `yaml:"kind" json:"kind"`
	Name      string             `yaml:"name" json:"name"`
	Ref       string             `yaml:"ref,omitempty" json:"ref,omitempty"`       // the reference as written
	Source    string             `yaml:"source,omitempty" json:"source,omitempty"` // where it came from, for people and for fetching again
	Manifests []LockedDescriptor `yaml:"manifests" json:"manifests"`               // the root first
	Blobs     []LockedDescriptor `yaml:"blobs,omitempty" json:"blobs,omitempty"`   // configs and layers
}

// LockedDescriptor is a descriptor of the closure. Role says what a manifest is
// to its item; Ref is set where the manifest is tagged.
type LockedDescriptor struct {
	MediaType    string `yaml:"mediaType" json:"mediaType"`
	Digest       string `yaml:"digest" json:"digest"`
	Size         int64  `yaml:"size" json:"size"`
	ArtifactType string `yaml:"artifactType,omitempty" json:"artifactType,omitempty"`
	Platform     string `yaml:"platform,omitempty" json:"platform,omitempty"`
	Role         string `yaml:"role,omitempty" json:"role,omitempty"`
	Ref          string `yaml:"ref,omitempty" json:"ref,omitempty"`
}
