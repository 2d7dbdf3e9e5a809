package balancer

// WeightedRoundRobin gives each endpoint turns in proportion to its weight, spread as evenly as can be and without
// a lock: pick number k takes the endpoint whose share of the unit interval contains the fractional part of k/φ,
// φ being the golden ratio. Of all such sequences this one spreads best (Knuth, The Art of Computer Programming,
// volume 3, section 6.4), every endpoint stays within a few picks of its exact share over any stretch, and the
// pauses between its turns have at most three different lengths.
//
// The static stride scheduler of gRFC A58 is lock-free too, but it steps over light endpoints one by one and
// therefore has to clamp weights to between a tenth and ten times their mean; here any weight is kept exactly and
// a pick takes constant time.
func WeightedRoundRobin() Policy { return &weightedRoundRobin{positions: new(positions)} }

type weightedRoundRobin struct {
	positions *positions
	scope     string
}

func (w *weightedRoundRobin) Name() string { return "weighted_round_robin" }

func (w *weightedRoundRobin) Scope(name string) Policy { return &weightedRoundRobin{w.positions, name} }

func (w *weightedRoundRobin) Picker(endpoints []*Endpoint) Picker {
	return &weightedRoundRobinPicker{endpoints, newShares(endpoints), w.positions.of(w.scope)}
}

type weightedRoundRobinPicker struct {
	endpoints []*Endpoint
	shares    shares
	position  *position
}

func (w *weightedRoundRobinPicker) Pick(p *Pick) *Endpoint {
	for range tries(len(w.endpoints)) {
		turn := w.position.next(p.Rand) * golden // the fractional part of k/φ, as a fraction of 2⁶⁴
		if e := w.endpoints[w.shares.at(turn)]; p.accepts(e, 0) {
			return e
		}
	}
	return scan(w.endpoints, p, free)
}
