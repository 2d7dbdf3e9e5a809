package lease

import (
	"time"

	"github.com/weftmesh/weft/discovery"
)

// Protected is a set of instances of which too many fell silent at once: none of them is removed or made unhealthy.
type Protected struct {
	Service    discovery.Name // zero: all services together
	Leases     int
	Missing    int       // leases of the set that are not being renewed
	Since      time.Time // wall clock, to be shown
	Overridden time.Time // until when an operator lets them expire all the same; zero: not
}

// Protection lists what is protected now, sorted by service.
func (l *Leases) Protection() []Protected { return nil }

// Override lets the leases of a service (zero: all) expire even if too many are silent, for a time of up to 24 h; 0 ends
// it. It is forgotten by a restart.
func (l *Leases) Override(service discovery.Name, d time.Duration) error { return nil }
