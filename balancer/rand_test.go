package balancer

import (
	"math/bits"
	"slices"
	"testing"
)

func TestRandVectors(t *testing.T) {
	tests := map[uint64][]uint64{
		0:       {0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F},
		1234567: {6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821},
	}
	for seed, want := range tests {
		r, got := NewRand(seed), []uint64{}
		for range want {
			got = append(got, r.Uint64())
		}
		if !slices.Equal(got, want) {
			t.Errorf("seed %d: got %x, want %x", seed, got, want)
		}
	}
	var zero Rand
	if got := zero.Uint64(); got != 0xE220A8397B1DCDAF {
		t.Errorf("zero value: got %x", got)
	}
}

func TestIntN(t *testing.T) {
	r := NewRand(1)
	for _, n := range []int{-5, 0, 1} {
		if got := r.IntN(n); got != 0 {
			t.Errorf("IntN(%d) = %d", n, got)
		}
	}
	counts := make([]int, 7)
	for range 70_000 {
		counts[r.IntN(7)]++
	}
	if why, bad := deviates(counts, floats(1, 1, 1, 1, 1, 1, 1)); bad {
		t.Error(why)
	}
}

// With n at 3/8 of the range, a plain multiplication makes every third result less likely, by a third.
func TestIntNIsFairForLargeN(t *testing.T) {
	if bits.UintSize < 64 {
		t.Skip("an int has no room for such an n")
	}
	n := uint64(3 << 61)
	lemire, control := NewRand(1), NewRand(1)
	var fair, biased [3]int
	for range 30_000 {
		fair[lemire.IntN(int(n))%3]++
		biased[multiplied(control.Uint64(), n)%3]++
	}
	if why, bad := deviates(fair[:], floats(1, 1, 1)); bad {
		t.Error(why)
	}
	if why, bad := deviates(biased[:], floats(1, 1, 1)); !bad {
		t.Error("the control looks fair:", why)
	}
}

func multiplied(x, n uint64) uint64 {
	high, _ := bits.Mul64(x, n)
	return high
}

func TestFloat64(t *testing.T) {
	r, counts := NewRand(3), make([]int, 10)
	for range 10_000 {
		f := r.Float64()
		if f < 0 || f >= 1 {
			t.Fatalf("%v is not in [0, 1)", f)
		}
		counts[int(f*10)]++
	}
	if why, bad := deviates(counts, floats(1, 1, 1, 1, 1, 1, 1, 1, 1, 1)); bad {
		t.Error(why)
	}
}

func TestRandAsValueDoesNotAllocate(t *testing.T) {
	type call struct {
		rand Rand
		sum  uint64
	}
	c := new(call)
	if n := testing.AllocsPerRun(100, func() {
		c.rand = *NewRand(42)
		c.sum += c.rand.Uint64()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
