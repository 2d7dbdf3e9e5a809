// Package rule is the one schema of governance rules: the Go structs of every kind, how they are read, checked,
// completed and written. REST, push, storage, the command line and the SDK all use these types.
//
// A rule is a document in YAML or JSON. [Parse] reads any number of them, [Rule.Validate] checks what they say:
//
//	rules, err := rule.Parse([]byte(`
//	kind: Route
//	name: product-canary
//	service: product
//	spec:
//	  subsets: {v1: {version: v1}, v2: {version: v2}}
//	  rules:
//	    - split: [{subset: v1, weight: 90}, {subset: v2, weight: 10}]
//	`))
//	…
//	for _, r := range rules {
//		if err := r.Validate(); err != nil {
//			…
//		}
//	}
//
// Both report everything that is wrong at once, as an [*Error] with one [Problem] a field. Rules can be made in
// Go as well; [Rule.WithDefaults] gives the copy in which every absent field has the value it reads as, and
// [encoding/json.Marshal] and [YAML] write documents that Parse reads back.
//
// Reading is strict, since a misread rule sends traffic to the wrong place: an unknown field, a field given
// twice, a number where a text belongs, a null, and a field written with an empty value are all refused.
//
// The fields of every kind, with defaults and bounds, are in docs/rules, which is generated from the structs and
// their tags (see schema.go).
package rule

//go:generate go run ./internal/ruledoc

import (
	"reflect"
	"time"
)

// Kind names what a rule is about. Its text is matched exactly in documents; see [KindOf].
type Kind string

// Mode says whether a rule is enforced.
type Mode string

// The modes. Observe is refused by Validate for now.
const (
	Enforce Mode = "enforce"
	Observe Mode = "observe"
)

// AllServices as a rule's service makes it apply to every service of its namespace.
const AllServices = "*"

// DefaultNamespace is the namespace of a rule that names none.
const DefaultNamespace = "default"

// Rule is one governance document.
//
// Revision, UpdatedAt and UpdatedBy are managed by the server. [Parse] reads them, since people paste back what
// they were shown and the push carries them; whoever accepts writes must replace them.
type Rule struct {
	// Kind says what the spec is.
	Kind Kind `json:"kind" required:"true"`
	// Namespace is where the service lives.
	Namespace string `json:"namespace" format:"label" default:"default"`
	// Name is unique in kind and namespace.
	Name string `json:"name" format:"label" required:"true"`
	// Service is the callee, without its namespace; "*" is every service that has no rule of this kind of its own.
	Service string `json:"service" format:"service" required:"true"`
	// Mode says whether the rule is enforced; observe is not supported yet and is refused.
	Mode Mode `json:"mode" one:"enforce observe" default:"enforce"`
	// Spec is the body; its fields depend on the kind. In Go: *Route, *Retry, …
	Spec Spec `json:"spec" required:"true"`

	// Revision is when the rule last changed, "epoch-number". Managed by the server.
	Revision string `json:"revision"`
	// UpdatedAt is the time of that change. Managed by the server.
	UpdatedAt time.Time `json:"updatedAt"`
	// UpdatedBy is who made it. Managed by the server.
	UpdatedBy string `json:"updatedBy"`
}

// Spec is the body of a rule: one of the struct pointers of this package.
type Spec interface {
	kind() Kind
}

// Key is what identifies a rule in a store.
type Key struct {
	Kind      Kind
	Namespace string
	Name      string
}

// Key returns r's key, with the default namespace filled in.
func (r Rule) Key() Key {
	if r.Namespace == "" {
		r.Namespace = DefaultNamespace
	}
	return Key{r.Kind, r.Namespace, r.Name}
}

// String returns kind/namespace/name.
func (k Key) String() string { return string(k.Kind) + "/" + k.Namespace + "/" + k.Name }

func (r *Rule) check(c *checker, _ string) {
	if r.Mode == Observe {
		c.invalid("mode", quote(string(r.Mode)), "is not supported yet; must be "+string(Enforce))
	}
	switch {
	case r.Kind == "": // reported as missing
	case New(r.Kind) == nil:
		c.add(unknownKind(r.Kind))
	case r.Spec == nil: // reported as missing
	case !r.fits():
		c.invalid("spec", reflect.TypeOf(r.Spec).String(), "must be a "+reflect.TypeOf(New(r.Kind)).String()+" that is not nil")
	default:
		c.value(reflect.ValueOf(r.Spec), field{}, "spec")
	}
}

// fits reports whether the spec is a usable one of r's kind. It looks at the type alone: the interface can be
// satisfied from outside by embedding, so no method of it can be trusted not to panic.
func (r *Rule) fits() bool {
	return reflect.TypeOf(r.Spec) == reflect.TypeOf(New(r.Kind)) && !reflect.ValueOf(r.Spec).IsNil()
}
