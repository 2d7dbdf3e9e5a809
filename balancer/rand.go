package balancer

import "math/bits"

// Rand is a small random generator: SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
// generators", OOPSLA 2014). It is reproducible from its seed, has a state of one word, and is a plain value, so
// that a struct which lives as long as one call can embed it:
//
//	call.rand = *balancer.NewRand(seed)
//
// The zero value is a generator with seed 0. A Rand is not safe for concurrent use and not for secrets.
type Rand struct{ state uint64 }

// golden is 2⁶⁴ divided by the golden ratio, made odd: the step of SplitMix64.
const golden = 0x9E3779B97F4A7C15

// NewRand returns a generator whose numbers follow from seed alone.
func NewRand(seed uint64) *Rand { return &Rand{state: seed} }

// Uint64 returns 64 random bits.
func (r *Rand) Uint64() uint64 {
	r.state += golden
	return mix(r.state)
}

// IntN returns a number in [0, n), each equally likely. An n below 2 gives 0.
//
// The method is Lemire's ("Fast random integer generation in an interval", 2019): a multiplication, and a
// division only in the rare case that a draw may have to be repeated.
func (r *Rand) IntN(n int) int {
	if n < 2 {
		return 0
	}
	limit := uint64(n)
	high, low := bits.Mul64(r.Uint64(), limit)
	if low < limit {
		for unfair := -limit % limit; low < unfair; {
			high, low = bits.Mul64(r.Uint64(), limit)
		}
	}
	return int(high)
}

// Float64 returns a number in [0, 1) with 53 random bits.
func (r *Rand) Float64() float64 { return float64(r.Uint64()>>11) / (1 << 53) }

// mix spreads every bit of x over all bits of the result (Stafford's variant 13 of the MurmurHash3 finalizer,
// the one that SplitMix64 uses). It is a bijection.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
	x = (x ^ x>>27) * 0x94D049BB133111EB
	return x ^ x>>31
}
