package balancer

// Random draws each endpoint with a probability proportional to its weight.
func Random() Policy { return random{} }

type random struct{}

func (random) Name() string { return "random" }

func (random) Picker(endpoints []*Endpoint) Picker {
	return &randomPicker{endpoints, newShares(endpoints)}
}

type randomPicker struct {
	endpoints []*Endpoint
	shares    shares
}

func (r *randomPicker) Pick(p *Pick) *Endpoint {
	for range tries(len(r.endpoints)) {
		if e := r.endpoints[r.shares.at(p.Rand.Uint64())]; p.accepts(e, 0) {
			return e
		}
	}
	return scan(r.endpoints, p, free)
}
