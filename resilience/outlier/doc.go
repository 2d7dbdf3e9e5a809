// Package outlier takes hosts that keep failing out of a pool for a while, and lets them back after one probe
// succeeded. It is the instance level of circuit breaking.
//
//	d := outlier.New(outlier.Default()) // one for each service
//	h := d.Host()                       // one for each endpoint of its pool
//
//	if h.Ejected(now) || !h.Admit(now) {
//		… pick another …
//	}
//	err := call()
//	h.Record(time.Now(), err == nil) // or h.Release(now) if the outcome says nothing
//
// A host is in service, ejected, or being probed. Enough consecutive failures eject it. When its time is over the
// next Admit takes the one probe; its success returns the host, its failure ejects it for longer. Two caps keep a
// common cause, such as a bad request that every host refuses, from emptying the pool: a percentage of the pool,
// and never its last host.
//
// The package holds no clock and no goroutine: the time comes with each call, so the same code runs in production
// and in simulations. While all is well each method costs one or two atomic loads; a lock is taken only to eject
// and to return.
package outlier
