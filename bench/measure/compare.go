package measure

import (
	"fmt"
	"slices"
)

// Comparison is what one case came to beside the first one of its list.
type Comparison struct {
	Name string
	// Cost is the median of the rounds, each of its numbers for itself.
	Cost Cost
	// AddedAllocs and AddedBytes are the medians of what the case allocated beyond the first one, round by round.
	AddedAllocs, AddedBytes float64
	// CPURatio compares processor time with the first case, round by round.
	CPURatio Spread
}

// Spread is the median of several rounds, and the least and the most of them.
type Spread struct{ Median, Least, Most float64 }

// Compare measures the cases in turns, rounds times, after one round that is thrown away.
func Compare(cases []Case, size Size, rounds int) ([]Comparison, error) {
	costs := make([][]Cost, len(cases))
	for round := range rounds + 1 {
		for i := range cases {
			i = (i + round) % len(cases) // nobody always comes after the same one
			c, err := Run(cases[i].Work, size)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", cases[i].Name, err)
			}
			if round > 0 {
				costs[i] = append(costs[i], c)
			}
		}
	}
	list := make([]Comparison, len(cases))
	for i := range cases {
		list[i] = compare(cases[i].Name, costs[i], costs[0])
	}
	return list, nil
}

func compare(name string, costs, base []Cost) Comparison {
	over := func(f func(c, b Cost) float64) []float64 {
		values := make([]float64, len(costs))
		for i := range costs {
			values[i] = f(costs[i], base[i])
		}
		slices.Sort(values)
		return values
	}
	median := func(f func(c, b Cost) float64) float64 { return middle(over(f)) }
	ratios := over(func(c, b Cost) float64 { return c.CPU / b.CPU })
	return Comparison{
		Name: name,
		Cost: Cost{
			Time:   median(func(c, _ Cost) float64 { return c.Time }),
			CPU:    median(func(c, _ Cost) float64 { return c.CPU }),
			Allocs: median(func(c, _ Cost) float64 { return c.Allocs }),
			Bytes:  median(func(c, _ Cost) float64 { return c.Bytes }),
		},
		AddedAllocs: median(func(c, b Cost) float64 { return c.Allocs - b.Allocs }),
		AddedBytes:  median(func(c, b Cost) float64 { return c.Bytes - b.Bytes }),
		CPURatio:    Spread{Median: middle(ratios), Least: ratios[0], Most: ratios[len(ratios)-1]},
	}
}

// middle is the median of sorted values; of an even number, the mean of the two in the middle.
func middle(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
