package routing

import (
	"fmt"

	"github.com/weftmesh/weft/balancer"
)

// maxWeight bounds the weight of a share.
const maxWeight = 1_000_000

// split divides calls among shares, laid out in the order in which they are listed: moving weight between
// neighbours moves one border, so that it moves the sticky values next to it and no others.
type split struct {
	shares line // as listed
	rest   line // those with something to call, for the calls of the others; empty with Fail
}

// line is a sequence of shares with running sums of their weights.
type line []lineShare

type lineShare struct {
	subset      string
	destination *Destination // nil: empty
	end         int          // sum of the weights up to and with this share
}

func compileSplit(shares []Share, whenEmpty WhenEmpty, destinations map[string]*Destination) (split, error) {
	if whenEmpty != Rest && whenEmpty != Fail {
		return split{}, fmt.Errorf("whenEmpty: %d is neither Rest nor Fail", whenEmpty)
	}
	switch len(shares) {
	case 0:
		shares = []Share{{Weight: 1}}
	case 1:
		shares = []Share{{Subset: shares[0].Subset, Weight: 1}}
	}
	if err := checkShares(shares, destinations); err != nil {
		return split{}, err
	}
	filled := func(s Share) bool { return !destinations[s.Subset].empty() }
	if whenEmpty == Rest && anyUp(shares, destinations) {
		filled = func(s Share) bool { return len(destinations[s.Subset].up) > 0 }
	}
	var s split
	for _, share := range shares {
		d := destinations[share.Subset]
		if !filled(share) {
			d = nil
		}
		s.shares = s.shares.add(share, d)
		if d != nil && whenEmpty == Rest && share.Weight > 0 {
			s.rest = s.rest.add(share, d)
		}
	}
	return s, nil
}

func checkShares(shares []Share, destinations map[string]*Destination) error {
	total := 0
	for i, share := range shares {
		if destinations[share.Subset] == nil {
			return fmt.Errorf("split[%d].subset: %q is not among the subsets", i, share.Subset)
		}
		if share.Weight < 0 || share.Weight > maxWeight {
			return fmt.Errorf("split[%d].weight: %d is not between 0 and %d", i, share.Weight, maxWeight)
		}
		total += share.Weight
	}
	if total == 0 {
		return fmt.Errorf("split: the weights of its %d shares are all 0", len(shares))
	}
	return nil
}

// anyUp reports whether a share that gets calls at all has endpoints that are up.
func anyUp(shares []Share, destinations map[string]*Destination) bool {
	for _, share := range shares {
		if share.Weight > 0 && len(destinations[share.Subset].up) > 0 {
			return true
		}
	}
	return false
}

func (l line) add(share Share, d *Destination) line {
	return append(l, lineShare{share.Subset, d, l.total() + share.Weight})
}

func (l line) total() int {
	if len(l) == 0 {
		return 0
	}
	return l[len(l)-1].end
}

// at returns the share at a point below the total.
func (l line) at(point int) *lineShare {
	i := 0
	for point >= l[i].end {
		i++
	}
	return &l[i]
}

// inBucket returns the share that a bucket falls into.
func (l line) inBucket(bucket int) *lineShare {
	return l.at(int(int64(bucket) * int64(l.total()) / buckets))
}

// draw picks a share at random.
func (s *split) draw(result *Result, rnd *balancer.Rand) {
	share := s.shares.at(rnd.IntN(s.shares.total()))
	result.Subset, result.Destination = share.subset, share.destination
	if share.destination == nil && len(s.rest) > 0 {
		result.Destination, result.Substituted = s.rest.at(rnd.IntN(s.rest.total())).destination, true
	}
}

// place picks the share of a sticky value. If that is empty, a second hash spreads its values over the rest, and
// the values of the other shares stay where they are.
func (s *split) place(result *Result, value balancer.Hash) {
	result.Bucket = bucket(value)
	share := s.shares.inBucket(result.Bucket)
	result.Subset, result.Destination = share.subset, share.destination
	if share.destination == nil && len(s.rest) > 0 {
		second := bucket(value.Add("\x00rest"))
		result.Destination, result.Substituted = s.rest.inBucket(second).destination, true
	}
}
