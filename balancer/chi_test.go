package balancer

import (
	"fmt"
	"math"
	"testing"
	"time"
)

// withWeights makes a pool of endpoints named 00, 01, … in the order of their weights.
func withWeights(weights ...uint32) []*Endpoint {
	specs := make([]Spec, len(weights))
	for i, w := range weights {
		specs[i] = Spec{ID: fmt.Sprintf("%05d", i), Weight: w}
	}
	return NewPool(nil).Update(specs)
}

func equalWeights(n int) []*Endpoint { return withWeights(make([]uint32, n)...) }

// count picks n times and counts by place in endpoints; nothing is begun.
func count(t testing.TB, picker Picker, endpoints []*Endpoint, filter Filter, seed uint64, n int) []int {
	t.Helper()
	p := &Pick{Now: time.Unix(0, 0), Rand: NewRand(seed), Filter: filter}
	counts, place := make([]int, len(endpoints)), make(map[*Endpoint]int)
	for i, e := range endpoints {
		place[e] = i
	}
	for range n {
		e := picker.Pick(p)
		if e == nil {
			t.Fatal("Pick found nothing")
		}
		counts[place[e]]++
	}
	return counts
}

// deviates reports whether counts deviate from the shares so much that chance does so in one of a thousand runs.
func deviates(counts []int, weights []float64) (string, bool) {
	var chi, total, sum float64
	for i, c := range counts {
		total, sum = total+weights[i], sum+float64(c)
	}
	freedom := -1.0
	for i, c := range counts {
		if expected := sum * weights[i] / total; expected > 0 {
			chi += (float64(c) - expected) * (float64(c) - expected) / expected
			freedom++
		} else if c > 0 {
			return fmt.Sprintf("%d picks of one that should have none", c), true
		}
	}
	// Wilson and Hilferty's approximation of the 99.9 % quantile.
	a := 2 / (9 * freedom)
	limit := freedom * math.Pow(1-a+3.0902*math.Sqrt(a), 3)
	return fmt.Sprintf("χ² %.1f, limit %.1f, counts %v", chi, limit, counts), chi > limit
}

func floats(weights ...float64) []float64 { return weights }

// refuse is a filter that refuses the listed endpoints and counts questions.
type refuse struct {
	refused map[*Endpoint]bool
	asked   int
}

func (r *refuse) Usable(e *Endpoint) bool {
	r.asked++
	return !r.refused[e]
}

func refusing(endpoints ...*Endpoint) *refuse {
	r := &refuse{refused: make(map[*Endpoint]bool)}
	for _, e := range endpoints {
		r.refused[e] = true
	}
	return r
}

func TestDeviates(t *testing.T) {
	if why, bad := deviates([]int{480, 520}, floats(1, 1)); bad {
		t.Error("a fair coin:", why)
	}
	if why, bad := deviates([]int{400, 600}, floats(1, 1)); !bad {
		t.Error("a bent coin:", why)
	}
	if _, bad := deviates([]int{500, 1}, floats(1, 0)); !bad {
		t.Error("a pick without a share was not noticed")
	}
}
