package balancer

// maxTries bounds how many endpoints an algorithm draws by its own rule before it falls back to [scan].
const maxTries = 8

// tries says how often to draw from n endpoints. With half of them refused, one pick in 256 scans.
func tries(n int) int { return min(n, maxTries) }

// accepts asks the filter about e and records the answer.
func (p *Pick) accepts(e *Endpoint, cost float64) bool {
	usable := p.Filter == nil || p.Filter.Usable(e)
	if p.Record != nil {
		*p.Record = append(*p.Record, Candidate{Endpoint: e, Usable: usable, Cost: cost})
	}
	return usable
}

// scan returns the first usable endpoint after a random position, or nil when none is usable. It does not look at
// weights and favours endpoints that follow refused ones, and is the last resort for when most are refused.
func scan(endpoints []*Endpoint, p *Pick, cost func(*Endpoint) float64) *Endpoint {
	n := len(endpoints)
	start := p.Rand.IntN(n)
	for i := range n {
		if e := endpoints[(start+i)%n]; p.accepts(e, cost(e)) {
			return e
		}
	}
	return nil
}

// free is the cost of an endpoint for algorithms that do not compare.
func free(*Endpoint) float64 { return 0 }
