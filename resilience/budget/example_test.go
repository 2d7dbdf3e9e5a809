package budget_test

import (
	"fmt"
	"time"

	"github.com/weftmesh/weft/resilience/budget"
)

// Just the budget: a hundred calls fail, and ten of them may be tried again.
func Example() {
	b := budget.New(budget.Config{Percent: 10})
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

	retries := 0
	for range 100 {
		b.Deposit(now)
		if b.Withdraw(now) {
			retries++
		}
	}
	fmt.Println("retries:", retries)
	// Output:
	// retries: 10
}
