package main

import (
	"runtime"
	"runtime/debug"
	"testing"
)

func TestGCPercent(t *testing.T) {
	for live, want := range map[uint64]int{0: 800, 2 << 20: 800, 16 << 20: 200, 32 << 20: 100, 64 << 20: 50, 1 << 30: 50} {
		if got := gcPercent(live); got != want {
			t.Errorf("%d bytes in use: %d %%, want %d", live, got, want)
		}
	}
}

func TestKeeperLeavesTheOperatorsPolicy(t *testing.T) {
	if k := newKeeper(func(n string) string { return map[string]string{"GOGC": "100"}[n] }); k != nil {
		t.Error("GOGC is set, and the server sets its own")
	}
	if k := newKeeper(func(string) string { return "" }); k == nil {
		t.Error("nothing is set, and the server sets nothing")
	}
}

// What lies about goes back to the system when the server is quiet, and not while it is busy.
func TestKeeperGivesMemoryBack(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // the keeper alone collects
	k := newKeeper(func(string) string { return "" })
	collections := func() uint32 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.NumGC
	}
	k.look()
	k.percent = gcPercent(0) // it does not change any more
	debug.SetGCPercent(-1)
	runtime.GC()
	k.percent = 1 << 20
	k.look()
	before := collections()
	litter()
	k.percent = gcPercent(k.samples[0].Value.Uint64())
	k.look()
	if n := collections(); n != before {
		t.Errorf("%d collections while it was busy", n-before)
	}
	k.look()
	if n := collections(); n == before {
		t.Error("it was quiet, and nothing was collected")
	}
	before = collections()
	k.look()
	if n := collections(); n != before {
		t.Errorf("%d collections with nothing to collect", n-before)
	}
}

var sink []byte

func litter() {
	for range 256 {
		sink = make([]byte, 64<<10)
	}
	sink = nil
}
