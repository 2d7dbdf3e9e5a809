// Package discovery holds the words in which services are named and found: an [Instance] of a service, a
// [Snapshot] of all of them, a [Source] that delivers snapshots and a [Registrar] that announces instances.
//
// A source is one method:
//
//	func (s *mySource) Watch(ctx context.Context, service string, apply func(discovery.Snapshot)) error {
//		for {
//			instances, err := s.fetch(ctx, service)
//			…
//			apply(discovery.Snapshot{Service: service, Instances: instances})
//		}
//	}
//
// A value that also implements [Registrar], or rule.Source, is asked for those too. Sources in this tree:
// [Static] for fixed addresses, [Merge] for several sources at once and discovery/registry for the registry
// server. A [Guard] stands between a source and what a caller believes; a [Cache] keeps the last good state on
// disk.
package discovery

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Protocol is what an instance's listener speaks. Calls see only the instances of their own protocol.
type Protocol string

// The protocols.
const (
	GRPC Protocol = "grpc"
	HTTP Protocol = "http"
)

// State is what the source says of an instance's health.
type State string

// The states. The zero value counts as [Up], so that a source which knows no states need not set one.
const (
	Starting  State = "starting"  // registered, not ready: no calls
	Up        State = "up"        // calls go here
	Suspect   State = "suspect"   // its session was lost: only callers with a working connection still call it
	Draining  State = "draining"  // going away: no new calls
	Isolated  State = "isolated"  // taken out by an operator: no calls
	Unhealthy State = "unhealthy" // its lease ran out: a last resort when nothing else is left
)

// Locality says where an instance runs. Both fields may be empty.
type Locality struct {
	Region string `json:"region,omitempty"`
	Zone   string `json:"zone,omitempty"`
}

// Instance is one listener of one running copy of a service, with one protocol.
type Instance struct {
	ID        string            `json:"id"`
	Service   string            `json:"service"`           // without its namespace
	Namespace string            `json:"namespace"`         // "" means "default"
	Process   string            `json:"process,omitempty"` // instances of one process share it
	Address   string            `json:"address"`           // host:port
	Protocol  Protocol          `json:"protocol"`
	HTTP2     bool              `json:"http2,omitempty"` // an HTTP instance that is to be called over HTTP/2
	TLS       bool              `json:"tls,omitempty"`   // speaks TLS; never decides whether a call is encrypted
	Labels    map[string]string `json:"labels,omitempty"`
	Weight    int               `json:"weight,omitempty"` // 1 to 10000; 0 means 100
	Locality  Locality          `json:"locality,omitzero"`
	State     State             `json:"state,omitempty"`

	// Ready, when set, keeps a registered instance in state [Starting] until it returns nil. It is asked
	// again every second while it returns an error.
	Ready func(context.Context) error `json:"-"`
}

// DefaultWeight is the weight of an instance that states none.
const DefaultWeight = 100

// Revision orders the changes of one store: numbers only grow within an epoch; another epoch says nothing
// about age and asks for a full resync. Its text is "epoch-number".
type Revision struct {
	Epoch  uint64
	Number uint64
}

// String gives the form used in JSON, ETag and If-Match.
func (r Revision) String() string {
	return strconv.FormatUint(r.Epoch, 16) + "-" + strconv.FormatUint(r.Number, 10)
}

// IsZero reports whether r is the zero revision, that of a source which has none.
func (r Revision) IsZero() bool { return r == Revision{} }

// ParseRevision reads the form that [Revision.String] writes.
func ParseRevision(s string) (Revision, error) {
	epoch, number, ok := strings.Cut(s, "-")
	e, err1 := strconv.ParseUint(epoch, 16, 64)
	n, err2 := strconv.ParseUint(number, 10, 64)
	if !ok || err1 != nil || err2 != nil {
		return Revision{}, fmt.Errorf("revision %q: want \"epoch-number\", such as \"1f-42\"", s)
	}
	return Revision{Epoch: e, Number: n}, nil
}

// MarshalText implements encoding.TextMarshaler.
func (r Revision) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *Revision) UnmarshalText(b []byte) (err error) {
	*r, err = ParseRevision(string(b))
	return err
}

// Reason says why an instance left a snapshot.
type Reason string

// The reasons of a removal.
const (
	Deregistered Reason = "deregistered" // it said so itself
	Expired      Reason = "expired"      // its lease ran out
	Deleted      Reason = "deleted"      // an operator removed it
)

// Removal is an instance that is gone, and why.
type Removal struct {
	ID     string `json:"id"`
	Reason Reason `json:"reason"`
}

// Snapshot is everything a source knows of one service at one revision. It is immutable once delivered.
type Snapshot struct {
	Service   string     `json:"service"` // full name, "product.shop"
	Revision  Revision   `json:"revision,omitzero"`
	Instances []Instance `json:"instances"` // of all protocols, sorted by ID
	Removed   []Removal  `json:"removed,omitempty"`
	// Missing says that the service does not exist at the source: no instance and no rule names it.
	Missing bool `json:"missing,omitempty"`
	// Alias says that the service is another name of this one, "product.shop": its instances are to be asked for there.
	Alias string `json:"alias,omitempty"`
	// Stale says that the snapshot comes from the on-disk cache and the source has not been reached yet.
	Stale bool `json:"stale,omitempty"`
}

// Source delivers the snapshots of services.
type Source interface {
	// Watch calls apply with the first snapshot of the service as soon as it is known and again after
	// every change, one call at a time, until ctx ends; then it returns ctx's error. It survives outages of
	// what is behind it and keeps quiet during them; another error means that watching can never succeed.
	// service is a full name, "product.shop".
	Watch(ctx context.Context, service string, apply func(Snapshot)) error
}

// SourceFunc is a func that is a [Source].
type SourceFunc func(ctx context.Context, service string, apply func(Snapshot)) error

// Watch calls f.
func (f SourceFunc) Watch(ctx context.Context, service string, apply func(Snapshot)) error {
	return f(ctx, service, apply)
}

// Registrar announces instances.
type Registrar interface {
	// Register announces an instance and keeps it announced until the Registration is closed. It returns at
	// the first acknowledgement. If nothing can be reached it returns a pending Registration without error
	// after 2 s and goes on trying; an instance that is invalid or not allowed is an error at once.
	Register(ctx context.Context, in Instance) (Registration, error)
}

// Registration is an announced instance.
type Registration interface {
	// Acked is closed once the instance is acknowledged as registered.
	Acked() <-chan struct{}
	// Update changes the labels, weight, locality or state (up, draining) of the instance; its id, service,
	// process and protocol stay.
	Update(ctx context.Context, in Instance) error
	// Close removes the instance, with the reason [Deregistered], and waits for the acknowledgement or for
	// ctx to end. It is idempotent.
	Close(ctx context.Context) error
}

// Settler is implemented by a [Registration] that can tell when callers know of its state.
type Settler interface {
	// Settle returns nil once every live caller of the instance's service has applied what was acknowledged before,
	// such as that it drains. Its error says that this is not known: ctx ended first, or there is nobody to ask.
	Settle(ctx context.Context) error
}

// Absentee is implemented by a [Registration] that can tell when there is nobody to answer.
type Absentee interface {
	// Away reports whether there is no registry at the moment: the last attempt to reach one failed.
	Away() bool
}

// ErrInvalid is wrapped by errors about an instance or a name that no registry would take.
var ErrInvalid = errors.New("invalid")

// DefaultNamespace is the namespace of a name that states none.
const DefaultNamespace = "default"

// Name is a service and its namespace. Its text is "product.shop".
type Name struct {
	Service   string
	Namespace string
}

// String gives the full name.
func (n Name) String() string { return n.Service + "." + n.Namespace }

// ParseName reads "product" or "product.shop"; the first gets the namespace given. Both parts are DNS labels:
// lower-case letters, digits and inner hyphens, at most 63 characters. The first may also be an alias: see [IsAlias].
func ParseName(s, namespace string) (Name, error) {
	service, ns, full := strings.Cut(s, ".")
	if !full {
		ns = namespace
	}
	if !IsAlias(service) || !IsLabel(ns) {
		return Name{}, fmt.Errorf("service name %.140q: %w: want \"service\" or \"service.namespace\", each a DNS label (a-z, 0-9, -, at most 63 characters), or an alias: 1 to 63 printable ASCII characters without space . / ? # %%", s, ErrInvalid)
	}
	return Name{Service: service, Namespace: ns}, nil
}

// IsAlias reports whether s may be an alias, as every service's own name may: 1 to 63 printable ASCII characters without
// space . / ? # %, such as "1001:20", and not "*".
func IsAlias(s string) bool {
	return len(s) >= 1 && len(s) <= 63 && s != "*" && printable(s) && !strings.ContainsAny(s, "./?#%")
}

// IsLabel reports whether s is a DNS label: lower-case letters, digits and inner hyphens, 1 to 63 characters.
func IsLabel(s string) bool {
	if len(s) == 0 || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}
