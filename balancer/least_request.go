package balancer

// LeastRequest draws two endpoints, each with a probability proportional to its weight, and takes the one with
// fewer pending calls for its weight; of equals, the one drawn first. Two draws keep the longest queue nearly as
// short as comparing all would, without everyone running to the same endpoint (Mitzenmacher, "The power of two
// choices in randomized load balancing", 2001).
//
// Drawing by weight makes idle endpoints get calls exactly by weight; comparing (pending+1)/weight over uniform
// draws instead would starve the lighter ones at low load. With unequal weights both draws may give the same
// endpoint, which is then taken: so an endpoint never gets more than twice its share, however idle it is.
func LeastRequest() Policy { return leastRequest{} }

type leastRequest struct{}

func (leastRequest) Name() string { return "least_request" }

func (leastRequest) Picker(endpoints []*Endpoint) Picker {
	return &leastRequestPicker{endpoints, newShares(endpoints)}
}

type leastRequestPicker struct {
	endpoints []*Endpoint
	shares    shares
}

func (l *leastRequestPicker) Pick(p *Pick) *Endpoint {
	best, least := -1, 0.0
	for range max(2, tries(len(l.endpoints))) {
		i := l.draw(p, best)
		if i == best {
			break
		}
		e := l.endpoints[i]
		switch cost := queue(e); {
		case !p.accepts(e, cost):
		case best < 0:
			best, least = i, cost
		case cost < least:
			return e
		default:
			return l.endpoints[best]
		}
	}
	if best >= 0 {
		return l.endpoints[best]
	}
	return scan(l.endpoints, p, queue)
}

// draw returns an endpoint to compare with best, or best itself when there is none.
func (l *leastRequestPicker) draw(p *Pick, best int) int {
	if len(l.endpoints) == 0 {
		return best
	}
	return l.shares.drawOther(p.Rand, best)
}

// queue is the number of pending calls for each unit of weight.
func queue(e *Endpoint) float64 { return float64(e.Stats.Pending()) / float64(e.weight()) }
