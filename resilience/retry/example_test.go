package retry_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weftmesh/weft/resilience/retry"
)

// Just retries: the call is tried again until it succeeds, three times at most.
func ExampleDo() {
	err := retry.Do(context.Background(), &retry.Policy{Base: time.Millisecond}, nil,
		func(_ context.Context, attempt int) error {
			fmt.Println("attempt", attempt)
			if attempt < 3 {
				return retry.Retryable(errors.New("unavailable"))
			}
			return nil
		})
	fmt.Println(err)
	// Output:
	// attempt 1
	// attempt 2
	// attempt 3
	// <nil>
}

// The decision alone. A payment that may have reached the server is not made twice; one that did not is, at once.
func ExamplePolicy_Next() {
	var p retry.Policy
	now := time.Now()
	state := retry.State{Attempt: 1, Replayable: true, Remaining: retry.NoDeadline}

	_, stop := p.Next(now, state, retry.Failure{Retryable: true}, nil, nil)
	fmt.Println("reset:", stop)

	delay, stop := p.Next(now, state, retry.Failure{NotSent: true}, nil, nil)
	fmt.Printf("not sent: after %v, stop %q\n", delay, stop)
	// Output:
	// reset: not idempotent
	// not sent: after 0s, stop ""
}
