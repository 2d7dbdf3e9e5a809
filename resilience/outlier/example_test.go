package outlier_test

import (
	"fmt"
	"time"

	"github.com/weftmesh/weft/resilience/outlier"
)

// Just the outlier detector: of two hosts one fails, is taken out, probed, and comes back.
func Example() {
	d := outlier.New(outlier.Default(), outlier.WithObserver(func(e outlier.Event) {
		fmt.Printf("ejected %v: %s\n", e.Ejected, e.Reason)
	}))
	bad, good := d.Host(), d.Host()
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

	for range 5 {
		if bad.Admit(now) {
			bad.Record(now, false)
		}
	}
	fmt.Println("pick the other:", bad.Ejected(now), good.Ejected(now))

	now = now.Add(5 * time.Second) // the first ejection is over
	fmt.Println("probe:", bad.Admit(now), "and only one:", bad.Admit(now))
	bad.Record(now, true)
	// Output:
	// ejected true: consecutive failures
	// pick the other: true false
	// probe: true and only one: false
	// ejected false: probe succeeded
}
