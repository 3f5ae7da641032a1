package manifests

// Checklist is checklist.yaml: the phases of an installation and their items.
// Conditions (When, RequiredWhen, ExpectedWhen) are CEL; in With, ${…} holds a CEL
// expression. Inside CEL, in holds the inputs and out the outputs of items
// already done, each by its dotted name.
type Checklist struct {
	Header    `yaml:",inline"`
	Product   string           `yaml:"product" json:"product" jsonschema:"pattern=^[a-z0-9][a-z0-9._-]*$,maxLength=128"`
	Version   string           `yaml:"version,omitempty" json:"version,omitempty" jsonschema:"pattern=^[A-Za-z0-9][A-Za-z0-9._+-]*$,maxLength=128"`
	Source    *ChecklistSource `yaml:"source,omitempty" json:"source,omitempty"`
	Platforms []string         `yaml:"platforms,omitempty" json:"platforms,omitempty" jsonschema:"enum=eks,enum=ecs,enum=gke,enum=aks,enum=onprem"`
	Inputs    map[string]Input `yaml:"inputs,omitempty" json:"inputs,omitempty"`
	Phases    []Phase          `yaml:"phases" json:"phases" jsonschema:"minItems=1"`
	Items     []Item           `yaml:"items" json:"items" jsonschema:"minItems=1"`
}

// ChecklistSource is the document that a checklist turns into items. Every row
// is the seed_row of exactly one item.
type ChecklistSource struct {
	Title string   `yaml:"title" json:"title"`
	Rows  []string `yaml:"rows,omitempty" json:"rows,omitempty"`
}

// Input is a typed question to the site.
type Input struct {
	Type    string   `yaml:"type" json:"type" jsonschema:"enum=string,enum=int,enum=bool,enum=enum,enum=hostname,enum=url,enum=pgurl,enum=cidr,enum=path,enum=pem,enum=secret,enum=list,enum=map"` // string int bool enum hostname url pgurl cidr path pem secret list map
	Enum    []string `yaml:"enum,omitempty" json:"enum,omitempty"`
	Default any      `yaml:"default,omitempty" json:"default,omitempty"`
	// Defaults are defaults that depend on the product's version: the first
	// whose range holds it wins, Default if none does.
	Defaults     []VersionDefault `yaml:"defaults,omitempty" json:"defaults,omitempty"`
	Secret       bool             `yaml:"secret,omitempty" json:"secret,omitempty"`
	RequiredWhen string           `yaml:"requiredWhen,omitempty" json:"requiredWhen,omitempty"`
	// ExpectedWhen says when rows find fault with an answer that is missing, each
	// with its own code: a new site file asks for it as for a required one, and
	// runs go on without.
	ExpectedWhen string `yaml:"expectedWhen,omitempty" json:"expectedWhen,omitempty"`
	Pattern      string `yaml:"pattern,omitempty" json:"pattern,omitempty"`
	Title        string `yaml:"title,omitempty" json:"title,omitempty"`
	// Platforms are those on which a site is asked; elsewhere an answer is taken,
	// and nobody is asked for one.
	Platforms []string `yaml:"platforms,omitempty" json:"platforms,omitempty" jsonschema:"enum=eks,enum=ecs,enum=gke,enum=aks,enum=onprem"`
}

// VersionDefault is the default of an input for some versions of the product.
type VersionDefault struct {
	Versions string `yaml:"versions" json:"versions"` // a range such as ">= 4.1.0, < 5"
	Value    any    `yaml:"value" json:"value"`
}

// Phase groups items.
type Phase struct {
	ID     string `yaml:"id" json:"id" jsonschema:"pattern=^[a-z0-9]+(-[a-z0-9]+)*$,maxLength=128"`
	Number int    `yaml:"number" json:"number" jsonschema:"minimum=1"`
	Title  string `yaml:"title" json:"title"`
}

// Kinds of item.
const (
	ItemCheck  = "check"
	ItemAction = "action"
	ItemAttest = "attest"
	ItemGroup  = "group"
)

// Item is one row of the checklist.
type Item struct {
	ID        string             `yaml:"id" json:"id" jsonschema:"pattern=^[a-z0-9]+(-[a-z0-9]+)*$,maxLength=128"`
	Phase     string             `yaml:"phase" json:"phase"`
	SeedRow   string             `yaml:"seed_row,omitempty" json:"seed_row,omitempty"`
	Title     string             `yaml:"title,omitempty" json:"title,omitempty"`
	Kind      string             `yaml:"kind" json:"kind" jsonschema:"enum=check,enum=action,enum=attest,enum=group"`
	Platforms []string           `yaml:"platforms,omitempty" json:"platforms,omitempty" jsonschema:"enum=eks,enum=ecs,enum=gke,enum=aks,enum=onprem"`
	Need      string             `yaml:"need,omitempty" json:"need,omitempty" jsonschema:"enum=required,enum=optional,enum=conditional"` // required (default), optional, conditional
	When      string             `yaml:"when,omitempty" json:"when,omitempty"`
	Inputs    []string           `yaml:"inputs,omitempty" json:"inputs,omitempty"`
	Outputs   map[string]Output  `yaml:"outputs,omitempty" json:"outputs,omitempty"`
	Needs     []string           `yaml:"needs,omitempty" json:"needs,omitempty"`
	Children  []string           `yaml:"children,omitempty" json:"children,omitempty"`
	Steps     []Step             `yaml:"steps,omitempty" json:"steps,omitempty"`
	Probes    []Step             `yaml:"probes,omitempty" json:"probes,omitempty"`
	Attest    *Attestation       `yaml:"attestation,omitempty" json:"attestation,omitempty"`
	Waiver    *Waiver            `yaml:"waiver,omitempty" json:"waiver,omitempty"` // nil: it cannot be waived
	Note      string             `yaml:"note,omitempty" json:"note,omitempty"`     // what the air gap changes, for people
	Messages  map[string]Message `yaml:"messages,omitempty" json:"messages,omitempty"`
	Freshness string             `yaml:"freshness,omitempty" json:"freshness,omitempty" jsonschema:"pattern=^([0-9]+(ns|us|ms|s|m|h))+$"` // a duration; a pass older than this is stale
}

// Output is a value an item produces.
type Output struct {
	Type   string `yaml:"type" json:"type" jsonschema:"enum=string,enum=int,enum=bool,enum=enum,enum=hostname,enum=url,enum=pgurl,enum=cidr,enum=path,enum=pem,enum=secret,enum=list,enum=map"`
	Secret bool   `yaml:"secret,omitempty" json:"secret,omitempty"`
}

// Step is one action step or one probe.
type Step struct {
	ID       string         `yaml:"id" json:"id" jsonschema:"pattern=^[a-z0-9]+(-[a-z0-9]+)*$,maxLength=128"`
	Run      string         `yaml:"run" json:"run" jsonschema:"pattern=^[a-z0-9]+([._-][a-z0-9]+)*$,maxLength=128"`
	With     map[string]any `yaml:"with,omitempty" json:"with,omitempty"`
	When     string         `yaml:"when,omitempty" json:"when,omitempty"`
	Severity string         `yaml:"severity,omitempty" json:"severity,omitempty" jsonschema:"enum=fail,enum=warn,enum=info"` // probes: fail (default), warn, info
	Codes    []string       `yaml:"codes,omitempty" json:"codes,omitempty" jsonschema:"pattern=^[A-Z][A-Z0-9]*(-[A-Z0-9]+)+$"`
	Timeout  string         `yaml:"timeout,omitempty" json:"timeout,omitempty" jsonschema:"pattern=^([0-9]+(ns|us|ms|s|m|h))+$"`
	Retry    *Retry         `yaml:"retry,omitempty" json:"retry,omitempty"`
}

// Retry repeats a step that found something wrong: an address that a load
// balancer gets only after minutes. Waiting doubles each time.
type Retry struct {
	Times   int    `yaml:"times" json:"times" jsonschema:"minimum=1,maximum=100"` // repetitions after the first try
	Backoff string `yaml:"backoff" json:"backoff" jsonschema:"pattern=^([0-9]+(ns|us|ms|s|m|h))+$"`
}

// Attestation is what a person signs.
type Attestation struct {
	Statement  string   `yaml:"statement" json:"statement"`
	Roles      []string `yaml:"roles,omitempty" json:"roles,omitempty"`
	MinSigners int      `yaml:"min_signers,omitempty" json:"min_signers,omitempty" jsonschema:"minimum=0"`
	Reason     string   `yaml:"reason" json:"reason"`
	Evidence   []Proof  `yaml:"evidence,omitempty" json:"evidence,omitempty"`
	ValidFor   string   `yaml:"valid_for,omitempty" json:"valid_for,omitempty" jsonschema:"pattern=^([0-9]+(ns|us|ms|s|m|h))+$"` // "" does not expire
}

// Proof is a file that goes with a statement.
type Proof struct {
	Name     string   `yaml:"name" json:"name" jsonschema:"pattern=^[a-z0-9]+(-[a-z0-9]+)*$,maxLength=128"`
	Media    []string `yaml:"media,omitempty" json:"media,omitempty"` // media types that are accepted; none: any
	Required bool     `yaml:"required,omitempty" json:"required,omitempty"`
}

// Waiver says that people may take the risk of an item that is not done: two
// of them, with different keys.
type Waiver struct {
	Role string `yaml:"role,omitempty" json:"role,omitempty"` // of one of the two, as the site names it; "" is any
}

// Message explains a code. Cause and Fix are text/template over the finding's
// fields.
type Message struct {
	Cause string `yaml:"cause" json:"cause"`
	Fix   string `yaml:"fix" json:"fix"`
	Doc   string `yaml:"doc,omitempty" json:"doc,omitempty"`
}
