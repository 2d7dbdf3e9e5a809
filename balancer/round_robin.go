package balancer

// RoundRobin takes the endpoints in turn and ignores weights. A refused endpoint loses its turn; the others stay
// even. The pickers of one policy share the position (see [Scoper]).
func RoundRobin() Policy { return &roundRobin{positions: new(positions)} }

type roundRobin struct {
	positions *positions
	scope     string
}

func (r *roundRobin) Name() string { return "round_robin" }

func (r *roundRobin) Scope(name string) Policy { return &roundRobin{r.positions, name} }

func (r *roundRobin) Picker(endpoints []*Endpoint) Picker {
	return &roundRobinPicker{endpoints, r.positions.of(r.scope)}
}

type roundRobinPicker struct {
	endpoints []*Endpoint
	position  *position
}

func (r *roundRobinPicker) Pick(p *Pick) *Endpoint {
	n := len(r.endpoints)
	for range tries(n) {
		if e := r.endpoints[r.position.next(p.Rand)%uint64(n)]; p.accepts(e, 0) {
			return e
		}
	}
	return scan(r.endpoints, p, free)
}
