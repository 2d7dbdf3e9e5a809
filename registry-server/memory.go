package main

import (
	"context"
	"math"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// How the memory is kept small without collecting all the time. A registry with few instances would be collected for
// every 4 MB that requests leave behind, which is a fifth of its processor time; one with many would keep as much garbage
// as it has data. So what may lie about is garbageRoom, or half of what is in use where that is more. And once the
// server has been quiet for a second, what lies about goes back to the system if it is more than maxIdle.
const (
	garbageRoom = 32 << 20
	leastGC     = 50      // per cent of what is in use
	mostGC      = 800     // likewise
	maxIdle     = 8 << 20 // bytes
	quietRate   = 1 << 20 // bytes allocated in a second
)

// keeper keeps the memory small.
type keeper struct {
	samples []metrics.Sample
	percent int
	allocs  uint64
}

// newKeeper gives nil if the operator has set GOGC. GOMEMLIMIT holds beside it.
func newKeeper(env func(string) string) *keeper {
	if env("GOGC") != "" {
		return nil
	}
	return &keeper{samples: []metrics.Sample{
		{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/free:bytes"}, {Name: "/gc/heap/allocs:bytes"},
	}}
}

// begin lets the store be loaded with few collections. k may be nil.
func (k *keeper) begin() {
	if k != nil {
		k.percent = mostGC
		debug.SetGCPercent(mostGC)
	}
}

// run looks once a second until ctx ends. k may be nil.
func (k *keeper) run(ctx context.Context) {
	if k == nil {
		return
	}
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		k.look()
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

func (k *keeper) look() {
	metrics.Read(k.samples)
	value := func(i int) uint64 { return k.samples[i].Value.Uint64() }
	live, held, allocs := value(0), value(1)+value(2), value(3)
	quiet := allocs-k.allocs < quietRate
	k.allocs = allocs
	if percent := gcPercent(live); math.Abs(float64(percent-k.percent)) > float64(k.percent)/10 {
		k.percent = percent
		debug.SetGCPercent(percent)
	}
	if quiet && held > live+maxIdle {
		debug.FreeOSMemory()
	}
}

// gcPercent says how much garbage there may be for so many bytes in use.
func gcPercent(live uint64) int {
	return int(min(max(garbageRoom*100/max(live, 1), leastGC), mostGC))
}
