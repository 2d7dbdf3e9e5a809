// Package measure says what one call of something costs: time, processor time of the whole process, allocations and
// bytes.
//
//	cost, err := measure.Run(work, measure.Size{Calls: 10_000, Goroutines: 64})
//
// [Compare] measures several cases against the first one in turns, so that what else the machine does at the time
// hits all of them alike. Only what it compares should be read from a busy machine: ratios, allocations and counts.
package measure

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Work makes one worker: each goroutine has its own, so that it can keep what belongs to it alone. The worker does
// the measured thing once each time it is called.
type Work func() func() error

// Always is the work of a func that any number of goroutines may call.
func Always(do func() error) Work { return func() func() error { return do } }

// Case is something to measure.
type Case struct {
	Name string
	Work Work
}

// Size is how much to run.
type Size struct {
	Calls      int // of all goroutines together
	Goroutines int // below 1 means 1
}

// Cost is what one call costs on average, in all of the process: both sides of a connection, if it has both.
type Cost struct {
	Time   float64 // nanoseconds from the first call to the end of the last, divided by all calls
	CPU    float64 // nanoseconds of processor time
	Allocs float64
	Bytes  float64
}

// Run measures work once. It stops at the first error of any worker.
func Run(work Work, size Size) (Cost, error) {
	workers := make([]func() error, max(size.Goroutines, 1))
	for i := range workers {
		workers[i] = work()
	}
	share := max(size.Calls/len(workers), 1)
	defer ballast()()
	runtime.GC() // what came before is not this work's garbage
	before := read()
	err := runAll(workers, share)
	return read().since(before).per(share * len(workers)), err
}

// ballast makes the collector run as rarely as in a service with some data in memory. A program that is almost empty
// collects every 4 MB, and beginning and ending a collection then costs more than the calls that are measured. The
// pages are never touched.
func ballast() (release func()) {
	heap := make([]byte, 64<<20)
	return func() { runtime.KeepAlive(heap) }
}

func runAll(workers []func() error, calls int) error {
	if len(workers) == 1 {
		return repeat(workers[0], calls)
	}
	errs := make([]error, len(workers))
	var wg sync.WaitGroup
	for i, w := range workers {
		wg.Go(func() { errs[i] = repeat(w, calls) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func repeat(do func() error, n int) error {
	for range n {
		if err := do(); err != nil {
			return err
		}
	}
	return nil
}

// reading is a look at the process's counters.
type reading struct {
	at            time.Time
	cpu           time.Duration
	allocs, bytes uint64
}

func read() reading {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return reading{at: time.Now(), cpu: CPU(), allocs: m.Mallocs, bytes: m.TotalAlloc}
}

func (r reading) since(before reading) Cost {
	return Cost{Time: float64(r.at.Sub(before.at)), CPU: float64(r.cpu - before.cpu),
		Allocs: float64(r.allocs - before.allocs), Bytes: float64(r.bytes - before.bytes)}
}

func (c Cost) per(n int) Cost {
	d := float64(n)
	return Cost{c.Time / d, c.CPU / d, c.Allocs / d, c.Bytes / d}
}

// CPU returns the processor time of this process so far, in user and kernel mode.
func CPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(fmt.Sprintf("getrusage of this process failed: %v", err)) // only a wrong argument can make it
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
