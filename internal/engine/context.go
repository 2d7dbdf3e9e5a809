package engine

import (
	"context"

	"github.com/weftmesh/weft/telemetry"
)

// Values are what travels in a context for the engine: the options of weft.With and what an inbound call brought.
type Values struct {
	Idempotent  *bool               // nil: as the rule or the protocol says
	Criticality Criticality         // of outbound calls; inherited from the inbound call
	Retried     bool                // the inbound call is itself a retry: do not retry below
	Record      *telemetry.Decision // where to record the next call
}

type valuesKey struct{}

// ValuesFrom returns the values in ctx.
func ValuesFrom(ctx context.Context) Values {
	if v, ok := ctx.Value(valuesKey{}).(*Values); ok {
		return *v
	}
	return Values{}
}

// WithValues returns a context that holds v.
func WithValues(ctx context.Context, v Values) context.Context {
	return context.WithValue(ctx, valuesKey{}, &v)
}

// Criticality is how much a call matters when there is not room for all.
type Criticality uint8

// The classes of Google's SRE book, in ascending order. The zero value is unset and counts as Critical.
const (
	CriticalityUnset Criticality = iota
	Sheddable
	SheddablePlus
	Critical
	CriticalPlus
)

var criticalityNames = [...]string{"", "sheddable", "sheddable-plus", "critical", "critical-plus"}

// String gives the wire form, such as "critical-plus"; "" when unset.
func (c Criticality) String() string {
	if int(c) < len(criticalityNames) {
		return criticalityNames[c]
	}
	return ""
}

// ParseCriticality reads the wire form; anything else is unset.
func ParseCriticality(s string) Criticality {
	for i, name := range criticalityNames {
		if name == s {
			return Criticality(i)
		}
	}
	return CriticalityUnset
}
