package access

import (
	"slices"
	"time"

	"github.com/weftmesh/weft/discovery"
)

// Role is what a token is for.
type Role string

// The roles. Each of the first three may do what those before it may; a workload may open sessions and nothing else.
const (
	Reader   Role = "reader"   // read everything but tokens, the audit log and backups
	Operator Role = "operator" // write rules, aliases, instances and orders, read the audit log
	Admin    Role = "admin"    // everything; opens sessions too
	Workload Role = "workload" // open sessions
)

// rank orders the roles of people; 0 is no such role.
func (r Role) rank() int { return slices.Index([]Role{"", Reader, Operator, Admin}, r) }

// known reports whether there is such a role.
func (r Role) known() bool { return r == Workload || r.rank() > 0 }

// Grant is what the holder of a token may do.
type Grant struct {
	ID         string   `json:"id"`
	Name       string   `json:"name"` // chosen by who made the token; shown in the audit log
	Role       Role     `json:"role"`
	Namespaces []string `json:"namespaces,omitempty"` // nil: all
	Services   []string `json:"services,omitempty"`   // of a workload: the full names it may register; nil: all of its namespaces
}

// Allows reports whether the grant reaches a role in a namespace; "" is what belongs to no namespace or to all, for
// which a grant of some namespaces is not enough. Workload is reached by whoever may open sessions.
func (g Grant) Allows(need Role, namespace string) bool {
	if !g.reaches(namespace) {
		return false
	}
	if need == Workload {
		return g.MaySession()
	}
	return need.rank() > 0 && g.Role.rank() >= need.rank()
}

// reaches reports whether the grant holds in a namespace.
func (g Grant) reaches(namespace string) bool {
	return len(g.Namespaces) == 0 || slices.Contains(g.Namespaces, namespace)
}

// MaySession reports whether the grant opens sessions.
func (g Grant) MaySession() bool { return g.Role == Admin || g.Role == Workload }

// MayRegister reports whether a session of the grant may register instances of a service.
func (g Grant) MayRegister(service discovery.Name) bool {
	return g.MaySession() && g.reaches(service.Namespace) &&
		(len(g.Services) == 0 || slices.Contains(g.Services, service.String()))
}

// Token is a grant that was given.
type Token struct {
	Grant
	CreatedAt time.Time `json:"createdAt"`
	CreatedBy string    `json:"createdBy"`
	ExpiresAt time.Time `json:"expiresAt,omitzero"` // zero: never
}

func (t *Token) expired(now time.Time) bool { return !t.ExpiresAt.IsZero() && !now.Before(t.ExpiresAt) }
