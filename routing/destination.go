package routing

import "github.com/weftmesh/weft/balancer"

// Destination is the endpoints of one subset, with the balancer's pickers for them.
type Destination struct {
	Subset string // "": all instances

	up, reserve             []*balancer.Endpoint
	upPicker, reservePicker balancer.Picker
}

// Pick chooses among the endpoints that are up; nil when p's filter accepts none.
func (d *Destination) Pick(p *balancer.Pick) *balancer.Endpoint { return d.upPicker.Pick(p) }

// PickReserve chooses among the endpoints that are a last resort, for when Pick found nothing.
func (d *Destination) PickReserve(p *balancer.Pick) *balancer.Endpoint {
	return d.reservePicker.Pick(p)
}

// Endpoints returns the endpoints that are up. The slice must not be changed.
func (d *Destination) Endpoints() []*balancer.Endpoint { return d.up }

// Reserve returns the endpoints that are a last resort. The slice must not be changed.
func (d *Destination) Reserve() []*balancer.Endpoint { return d.reserve }

func (d *Destination) empty() bool { return len(d.up)+len(d.reserve) == 0 }

// orNil returns nil for a destination with nothing to call.
func (d *Destination) orNil() *Destination {
	if d.empty() {
		return nil
	}
	return d
}

func newDestination(subset string, policy balancer.Policy, up, reserve []*balancer.Endpoint) *Destination {
	if s, ok := policy.(balancer.Scoper); ok {
		policy = s.Scope(subset)
	}
	return &Destination{
		Subset: subset,
		up:     up, upPicker: policy.Picker(up),
		reserve: reserve, reservePicker: policy.Picker(reserve),
	}
}

// withLabels returns the endpoints that have all the labels.
func withLabels(endpoints []*balancer.Endpoint, labels map[string]string) []*balancer.Endpoint {
	var found []*balancer.Endpoint
	for _, e := range endpoints {
		if hasAll(e.Labels, labels) {
			found = append(found, e)
		}
	}
	return found
}

func hasAll(have, want map[string]string) bool {
	for name, value := range want {
		if v, ok := have[name]; !ok || v != value {
			return false
		}
	}
	return true
}
