package balancer

import "math/bits"

// defaultWeight is the weight of an endpoint that states none.
const defaultWeight = 100

func (e *Endpoint) weight() uint64 {
	if e.Weight == 0 {
		return defaultWeight
	}
	return uint64(e.Weight)
}

// shares gives each endpoint a part of the uint64 range that is proportional to its weight, one interval each.
// Looking one up takes constant time on average and logarithmic time at worst: the range is cut into as many equal
// slices as there are endpoints, and a guide says which endpoints a slice touches (Chen and Asau, "On generating
// random variates from an empirical distribution", 1974).
type shares struct {
	n     uint64
	total uint64
	ends  []uint64 // running sums of the weights; nil when all weights are equal
	guide []uint32 // guide[k] is the endpoint at the start of slice k; n+1 entries
}

func newShares(endpoints []*Endpoint) shares {
	s := shares{n: uint64(len(endpoints)), ends: make([]uint64, len(endpoints))}
	equal := true
	for i, e := range endpoints {
		s.total += e.weight()
		s.ends[i] = s.total
		equal = equal && e.weight() == endpoints[0].weight()
	}
	if equal {
		s.ends = nil
		return s
	}
	s.guide = make([]uint32, s.n+1)
	i := uint32(0)
	for k := range s.n {
		for s.ends[i] <= scale(k, s.total, s.n) {
			i++
		}
		s.guide[k] = i
	}
	s.guide[s.n] = uint32(s.n - 1)
	return s
}

// scale returns k·total/n rounded down, for k below n.
func scale(k, total, n uint64) uint64 {
	high, low := bits.Mul64(k, total)
	quotient, _ := bits.Div64(high, low, n)
	return quotient
}

// at returns the endpoint whose interval x falls into. There must be one.
func (s *shares) at(x uint64) int {
	slice, _ := bits.Mul64(x, s.n)
	if s.ends == nil {
		return int(slice)
	}
	point, _ := bits.Mul64(x, s.total)
	low, high := s.guide[slice], s.guide[slice+1]
	for low < high {
		if mid := (low + high) / 2; s.ends[mid] <= point {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return int(low)
}

// drawOther draws again after i, -1 for the first draw. With equal weights it never draws i again unless there is
// no other. With unequal weights it may: excluding a heavy endpoint would make the light ones candidates far
// more often than their weight says.
func (s *shares) drawOther(r *Rand, i int) int {
	if i < 0 || s.ends != nil || s.n == 1 {
		return s.at(r.Uint64())
	}
	j := r.IntN(int(s.n) - 1)
	if j >= i {
		j++
	}
	return j
}
