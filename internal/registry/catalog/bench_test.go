package catalog

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/store"
)

// BenchmarkRegister registers new instances from 64 goroutines, in services of 1,000, down to the disk.
func BenchmarkRegister(b *testing.B) {
	st, err := store.Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer st.Close()
	c, err := Open(st, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	var n atomic.Int64
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			i := n.Add(1)
			in := instance1(fmt.Sprintf("p%07d", i))
			in.Service = fmt.Sprintf("s%d", i/1000)
			if _, err := c.PutInstances(context.Background(), []discovery.Instance{in}); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkPutOne changes one instance of a service of 10,000, in memory.
func BenchmarkPutOne(b *testing.B) {
	c, err := Open(store.NewMemory(), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	ins := fleet(1, MaxInstances)
	if _, err := c.PutOwned(b.Context(), ins, time.Second); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		in := ins[i*7919%len(ins)]
		in.Weight = 1 + i%9
		if _, err := c.PutOwned(b.Context(), []discovery.Instance{in}, time.Second); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkHealth changes the health of one instance of a service of 10,000.
func BenchmarkHealth(b *testing.B) {
	c, err := Open(store.NewMemory(), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	ins := fleet(1, MaxInstances)
	if _, err := c.PutOwned(b.Context(), ins, time.Second); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		key := KeyOf(ins[i*7919%len(ins)])
		c.SetStates([]StateChange{{key.Service, key.ID, []discovery.State{discovery.Suspect, discovery.Up}[i/len(ins)%2]}})
	}
}

// BenchmarkUpdate makes the delta of one changed instance in a service of 10,000.
func BenchmarkUpdate(b *testing.B) {
	c, err := Open(store.NewMemory(), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	var ins []discovery.Instance
	for i := range MaxInstances {
		ins = append(ins, instance1(fmt.Sprintf("p%04d", i)))
	}
	known, err := c.PutInstances(b.Context(), ins)
	if err != nil {
		b.Fatal(err)
	}
	c.SetStates([]StateChange{{product, "p0500", discovery.Suspect}})
	b.ReportAllocs()
	for b.Loop() {
		if u := c.Update(product, known); len(u.GetInstances()) != 1 {
			b.Fatal(u)
		}
	}
}

// BenchmarkOpen reads 100,000 instances.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	st, err := store.Open(dir)
	if err != nil {
		b.Fatal(err)
	}
	c, err := Open(st, nil)
	if err != nil {
		b.Fatal(err)
	}
	for s := range 100 {
		var ins []discovery.Instance
		for i := range 1000 {
			in := instance1(fmt.Sprintf("p%04d", i))
			in.Service = fmt.Sprintf("s%d", s)
			ins = append(ins, in)
		}
		if _, err := c.PutInstances(b.Context(), ins); err != nil {
			b.Fatal(err)
		}
	}
	c.Close()
	st.Close()
	for b.Loop() {
		st, err := store.Open(dir)
		if err != nil {
			b.Fatal(err)
		}
		c, err := Open(st, nil)
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		c.Close()
		st.Close()
		b.StartTimer()
	}
}
