package manifests

// SitePlatforms are the platforms that a site can have.
func SitePlatforms() []string { return []string{"eks", "ecs", "gke", "aks", "onprem"} }

// Site is site.yaml: the enclave's answers.
type Site struct {
	Header     `yaml:",inline"`
	Name       string          `yaml:"name" json:"name" jsonschema:"pattern=^[a-z0-9][a-z0-9._-]*$,maxLength=128"`
	Platform   string          `yaml:"platform" json:"platform" jsonschema:"enum=eks,enum=ecs,enum=gke,enum=aks,enum=onprem"` // eks, ecs, gke, aks, onprem
	Airgap     string          `yaml:"airgap" json:"airgap" jsonschema:"enum=isolated,enum=partial"`                          // isolated or partial
	Identity   *Identity       `yaml:"identity,omitempty" json:"identity,omitempty"`
	People     []Person        `yaml:"people,omitempty" json:"people,omitempty"` // who may sign statements and waivers
	State      string          `yaml:"state,omitempty" json:"state,omitempty"`
	Registry   *SiteRegistry   `yaml:"registry,omitempty" json:"registry,omitempty"`
	Kubernetes *SiteKubernetes `yaml:"kubernetes,omitempty" json:"kubernetes,omitempty"`
	Inputs     map[string]any  `yaml:"inputs,omitempty" json:"inputs,omitempty"` // names and types come from the checklist
}

// Identity is the operator: signs ledger checkpoints, attestations, receipts.
type Identity struct {
	Name string `yaml:"name" json:"name"`
	Key  string `yaml:"key" json:"key"` // file:PATH
}

// Person says which key has which role at a site. A person with several roles
// is listed once for each. The identity has the role operator unless it is
// listed here too.
type Person struct {
	Name string `yaml:"name" json:"name" jsonschema:"minLength=1,maxLength=128"`
	Role string `yaml:"role" json:"role" jsonschema:"pattern=^[a-z0-9][a-z0-9._-]*$,maxLength=128"`
	Key  string `yaml:"key" json:"key"` // file:PATH of a PEM public key
	// Left is the day from which on nothing that the key signs counts, in UTC; what
	// it signed before stays signed.
	Left string `yaml:"left,omitempty" json:"left,omitempty" jsonschema:"pattern=^[0-9]{4}-[0-9]{2}-[0-9]{2}$"`
}

// SiteRegistry is where images go. Password is a secret reference (env:NAME or
// file:PATH).
type SiteRegistry struct {
	To        string `yaml:"to" json:"to"`
	CA        string `yaml:"ca,omitempty" json:"ca,omitempty"` // file:PATH
	Username  string `yaml:"username,omitempty" json:"username,omitempty"`
	Password  string `yaml:"password,omitempty" json:"password,omitempty"`
	PlainHTTP bool   `yaml:"plainHTTP,omitempty" json:"plainHTTP,omitempty"`
}

// SiteKubernetes is the cluster.
type SiteKubernetes struct {
	Kubeconfig string `yaml:"kubeconfig,omitempty" json:"kubeconfig,omitempty"` // file:PATH
	Context    string `yaml:"context,omitempty" json:"context,omitempty"`
	Namespace  string `yaml:"namespace,omitempty" json:"namespace,omitempty" jsonschema:"pattern=^[a-z0-9]([a-z0-9-]*[a-z0-9])?$,maxLength=63"`
}
