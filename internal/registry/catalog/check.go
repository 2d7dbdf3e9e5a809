package catalog

import (
	"cmp"
	"strconv"
	"strings"
	"time"

	"github.com/weftmesh/weft/discovery"
)

// Terms say for how long an instance is registered and how it is looked after.
type Terms struct {
	TTL   time.Duration // it is removed unless it is renewed; 1 ms to 1193 h, 0: it stays until deleted
	Check *Check        // nil: none
}

// Check is an active health check of an instance.
type Check struct {
	Type     string        // tcp, http or grpc
	Path     string        // of http, from /; "" is /
	Service  string        // of grpc, as grpc.health.v1 has it
	Interval time.Duration // 1 s to 1 h; 0: 10 s
	Timeout  time.Duration // 100 ms to 1 min, at most Interval; 0: 2 s, or Interval if that is less
	Failures int           // in a row that make it unhealthy, 1 to 100; 0: 3. One success makes it healthy again
}

const (
	maxTTL       = 1<<32 - 1 // ms
	maxCheckText = 256       // bytes of a path or a service
)

// normalize checks the terms and fills the defaults in.
func (t Terms) normalize() (Terms, error) {
	if ms := t.TTL.Milliseconds(); ms < 0 || ms > maxTTL || t.TTL > 0 && ms == 0 {
		return t, discovery.Invalid("ttl", t.TTL.String(), "want 1ms to 1193h, or 0 for none")
	}
	if t.Check == nil {
		return t, nil
	}
	check, err := t.Check.Normalize()
	t.Check = &check
	return t, err
}

// Normalize gives the check with its defaults filled in. Its error is a [*discovery.InvalidError] that names the field,
// such as "check.interval".
func (c Check) Normalize() (Check, error) {
	c.Interval = cmp.Or(c.Interval, 10*time.Second)
	c.Timeout = cmp.Or(c.Timeout, min(2*time.Second, c.Interval))
	c.Failures = cmp.Or(c.Failures, 3)
	if c.Type == "http" {
		c.Path = cmp.Or(c.Path, "/")
	}
	return c, c.validate()
}

func (c Check) validate() error {
	switch {
	case c.Type != "tcp" && c.Type != "http" && c.Type != "grpc":
		return discovery.Invalid("check.type", c.Type, `want "tcp", "http" or "grpc"`)
	case c.Path != "" && c.Type != "http":
		return discovery.Invalid("check.path", c.Path, "want none, unless the type is http")
	case c.Path != "" && (c.Path[0] != '/' || !plainText(c.Path)):
		return discovery.Invalid("check.path", c.Path, "want / and more printable ASCII characters without space, at most 256 in all")
	case c.Service != "" && c.Type != "grpc":
		return discovery.Invalid("check.service", c.Service, "want none, unless the type is grpc")
	case !plainText(c.Service):
		return discovery.Invalid("check.service", c.Service, "want at most 256 printable ASCII characters without space")
	case c.Interval < time.Second || c.Interval > time.Hour:
		return discovery.Invalid("check.interval", c.Interval.String(), "want 1s to 1h, or 0 for 10s")
	case c.Timeout < 100*time.Millisecond || c.Timeout > min(time.Minute, c.Interval):
		return discovery.Invalid("check.timeout", c.Timeout.String(), "want 100ms to 1m and at most the interval, or 0 for 2s")
	case c.Failures < 1 || c.Failures > 100:
		return discovery.Invalid("check.failures", strconv.Itoa(c.Failures), "want 1 to 100, or 0 for 3")
	}
	return nil
}

func plainText(s string) bool {
	return len(s) <= maxCheckText && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// Checked is an instance that has a check.
type Checked struct {
	InstanceKey
	Instance discovery.Instance
	Check    Check
}

// Checked lists the instances with a check, sorted by service and id.
func (c *Catalog) Checked() []Checked {
	var out []Checked
	for _, s := range c.snapshot(nil) {
		for in := range s.instances.all() {
			if check := in.check(); check != nil {
				out = append(out, Checked{InstanceKey{s.name, in.id()}, in.public(s.name), *check})
			}
		}
	}
	return out
}

// Terms gives the terms of an instance; false if it is not there.
func (c *Catalog) Terms(key InstanceKey) (Terms, bool) {
	s, _ := c.lookup(key.Service)
	in := s.instance(key.ID)
	if in == nil {
		return Terms{}, false
	}
	t := Terms{TTL: time.Duration(in.ttl) * time.Millisecond}
	if check := in.check(); check != nil {
		check := *check
		t.Check = &check
	}
	return t, true
}

// SetChecked says what checks found, in memory: true is unhealthy. It counts beside the lease: the worse of both is
// what callers are told. An instance that is not there, or has no check, is passed over. A registration with the same
// check keeps what was found, but a removal forgets it, so a checker says what it knows again from time to time.
func (c *Catalog) SetChecked(found map[InstanceKey]bool) {
	var changes []StateChange
	for key, failing := range found {
		ch := StateChange{key.Service, key.ID, discovery.Up}
		if failing {
			ch.State = discovery.Unhealthy
		}
		changes = append(changes, ch)
	}
	c.inMemory(changes, func(in *instance, s state) *instance {
		if in.check() == nil {
			return in
		}
		return in.withHealth(in.health, s == unhealthy)
	})
}
