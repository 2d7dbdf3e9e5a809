package catalog

import (
	"time"

	"github.com/weftmesh/weft/discovery"
)

// Terms say for how long an instance is registered and how it is looked after.
type Terms struct {
	TTL   time.Duration // it is removed unless it is renewed; 0: it stays until deleted
	Check *Check        // nil: none
}

// Check is an active health check of an instance.
type Check struct {
	Type     string        // tcp, http or grpc
	Path     string        // of http, from /; "" is /
	Service  string        // of grpc, as grpc.health.v1 has it
	Interval time.Duration // 1 s to 1 h; 0: 10 s
	Timeout  time.Duration // 100 ms to 1 min, at most Interval; 0: 2 s
	Failures int           // in a row that make it unhealthy, 1 to 100; 0: 3. One success makes it healthy again
}

// Checked is an instance that has a check.
type Checked struct {
	InstanceKey
	Instance discovery.Instance
	Check    Check
}

// Checked lists the instances with a check.
func (c *Catalog) Checked() []Checked { return nil }

// SetChecked says what checks found, in memory: true is unhealthy. It counts beside the lease: the worse of both is
// what callers are told.
func (c *Catalog) SetChecked(unhealthy map[InstanceKey]bool) {}
