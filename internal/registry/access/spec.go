package access

import (
	"fmt"
	"slices"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/weftmesh/weft/discovery"
)

// The bounds of a token.
const (
	maxName  = 63                        // characters
	maxScope = 100                       // namespaces, and services
	minTTL   = time.Second               // less has expired before it was read
	maxTTL   = 10 * 365 * 24 * time.Hour // more is as good as never, which is said by 0
)

// Spec describes a token to be made.
type Spec struct {
	Name       string        `json:"name"` // 1 to 63 printable characters, not admin or workload
	Role       Role          `json:"role"`
	Namespaces []string      `json:"namespaces,omitempty"` // nil: all
	Services   []string      `json:"services,omitempty"`   // of a workload; "product" is in the only namespace given, else in default
	TTL        time.Duration `json:"-"`                    // 1 s to 10 years; 0: never expires
}

// grant checks the description. Its errors are [*InvalidError].
func (s Spec) grant() (Grant, error) {
	if err := s.check(); err != nil {
		return Grant{}, err
	}
	g := Grant{Name: s.Name, Role: s.Role, Namespaces: sortedSet(s.Namespaces)}
	for i, text := range s.Services {
		name, err := discovery.ParseName(text, g.home())
		if err != nil {
			return Grant{}, invalid(fmt.Sprintf("services[%d]", i), text, "a service such as product or product.shop")
		}
		if !g.reaches(name.Namespace) {
			return Grant{}, invalid(fmt.Sprintf("services[%d]", i), text, "one of the namespaces "+fmt.Sprint(g.Namespaces))
		}
		g.Services = append(g.Services, name.String())
	}
	g.Services = sortedSet(g.Services)
	return g, nil
}

// home is the namespace of services that are named without one.
func (g Grant) home() string {
	if len(g.Namespaces) == 1 {
		return g.Namespaces[0]
	}
	return discovery.DefaultNamespace
}

func (s Spec) check() error {
	switch n := utf8.RuneCountInString(s.Name); {
	case n < 1 || n > maxName || !utf8.ValidString(s.Name) || containsUnprintable(s.Name):
		return invalid("name", s.Name, fmt.Sprintf("1 to %d printable characters", maxName))
	case s.Name == adminID || s.Name == workloadID:
		return invalid("name", s.Name, "another name: this is that of a token in the data directory")
	case !s.Role.known():
		return invalid("role", string(s.Role), "reader, operator, admin or workload")
	case s.TTL != 0 && (s.TTL < minTTL || s.TTL > maxTTL):
		return invalid("ttl", s.TTL.String(), "1s to 87600h, or 0s for a token that never expires")
	case len(s.Namespaces) > maxScope:
		return invalid("namespaces", fmt.Sprint(len(s.Namespaces)), fmt.Sprintf("at most %d", maxScope))
	case len(s.Services) > maxScope:
		return invalid("services", fmt.Sprint(len(s.Services)), fmt.Sprintf("at most %d", maxScope))
	case len(s.Services) > 0 && s.Role != Workload:
		return invalid("services", fmt.Sprint(s.Services), "none: only a workload is bound to services")
	}
	for i, namespace := range s.Namespaces {
		if !discovery.IsLabel(namespace) {
			return invalid(fmt.Sprintf("namespaces[%d]", i), namespace, "a DNS label")
		}
	}
	return nil
}

func containsUnprintable(s string) bool {
	return slices.ContainsFunc([]rune(s), func(r rune) bool { return !unicode.IsPrint(r) })
}

// InvalidError is what cannot be in a [Spec], or an id that cannot be revoked. It wraps [discovery.ErrInvalid].
type InvalidError struct{ Field, Value, Want string }

// Error names the field, the value and the bound.
func (e *InvalidError) Error() string {
	return fmt.Sprintf("%s %.140q: %v: want %s", e.Field, e.Value, discovery.ErrInvalid, e.Want)
}

// Unwrap gives [discovery.ErrInvalid].
func (e *InvalidError) Unwrap() error { return discovery.ErrInvalid }

func invalid(field, value, want string) error { return &InvalidError{field, value, want} }

func sortedSet(names []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(names)))
}
