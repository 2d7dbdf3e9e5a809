package peers

import (
	"sync"
	"sync/atomic"
	"time"
)

// inParallel does n things, k at a time, and gives the first error.
func inParallel(k, n int, do func(i int) error) error {
	var (
		next  atomic.Int64
		once  sync.Once
		first error
		wg    sync.WaitGroup
	)
	for range k {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				if err := do(int(i)); err != nil {
					once.Do(func() { first = err })
					next.Store(int64(n))
				}
			}
		})
	}
	wg.Wait()
	return first
}

// writers is how many clients write at the same time.
const writers = 64

// forAWhile lets all writers repeat an operation, and gives how many were done in which time.
func forAWhile(d time.Duration, op func(w, i int) error) (n int, took time.Duration, err error) {
	var done atomic.Int64
	start := time.Now()
	err = inParallel(writers, writers, func(w int) error {
		for i := 0; time.Since(start) < d; i++ {
			if err := op(w, i); err != nil {
				return err
			}
			done.Add(1)
		}
		return nil
	})
	return int(done.Load()), time.Since(start), err
}
