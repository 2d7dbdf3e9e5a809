package balancer_test

import (
	"fmt"
	"time"

	"github.com/weftmesh/weft/balancer"
)

func Example() {
	pool := balancer.NewPool(nil)
	endpoints := pool.Update([]balancer.Spec{
		{ID: "a", Address: "10.0.0.1:80"},
		{ID: "b", Address: "10.0.0.2:80"},
	})
	picker := balancer.LeastRequest().Picker(endpoints)
	now := time.Unix(0, 0)
	pick := &balancer.Pick{Now: now, Rand: balancer.NewRand(1)}

	busy := picker.Pick(pick)
	busy.Begin()
	idle := picker.Pick(pick)
	fmt.Println("another endpoint while the first is busy:", idle != busy)
	busy.Done(balancer.Result{Now: now, Latency: 20 * time.Millisecond})
	fmt.Println("learned:", busy.Stats.Latency())
	// Output:
	// another endpoint while the first is busy: true
	// learned: 20ms
}

type inZone string

func (z inZone) Usable(e *balancer.Endpoint) bool { return e.Zone == string(z) }

func ExampleFilter() {
	endpoints := balancer.NewPool(nil).Update([]balancer.Spec{{ID: "a", Zone: "1"}, {ID: "b", Zone: "2"}})
	picker := balancer.Random().Picker(endpoints)
	fmt.Println(picker.Pick(&balancer.Pick{Rand: balancer.NewRand(1), Filter: inZone("2")}).ID)
	fmt.Println(picker.Pick(&balancer.Pick{Rand: balancer.NewRand(1), Filter: inZone("3")}))
	// Output:
	// b
	// <nil>
}

func ExamplePool_Update() {
	pool := balancer.NewPool(nil)
	before := pool.Update([]balancer.Spec{{ID: "a", Weight: 100}})[0]
	before.Begin()
	after := pool.Update([]balancer.Spec{{ID: "a", Weight: 10}})[0]
	fmt.Println("weight", after.Weight, "pending", after.Stats.Pending())
	// Output: weight 10 pending 1
}

func ExampleWeightedRoundRobin() {
	endpoints := balancer.NewPool(nil).Update([]balancer.Spec{{ID: "a", Weight: 300}, {ID: "b", Weight: 100}})
	picker := balancer.WeightedRoundRobin().Picker(endpoints)
	pick := &balancer.Pick{Rand: balancer.NewRand(1)}
	for range 12 {
		fmt.Print(picker.Pick(pick).ID, " ")
	}
	// Output: a b a a a a b a a b a a
}

func ExampleByName() {
	policy, ok := balancer.ByName("least_request")
	fmt.Println(policy.Name(), ok)
	_, ok = balancer.ByName("guess")
	fmt.Println(ok)
	// Output:
	// least_request true
	// false
}

func ExampleHash() {
	salt := balancer.NewHash().Add("default/product\x00")
	fmt.Println(salt.Add("user-1").Sum64()%10000, balancer.Hash64("default/product\x00user-1")%10000)
	// Output: 6583 6583
}

func ExampleRand() {
	a, b := balancer.NewRand(42), balancer.NewRand(42)
	fmt.Println(a.Uint64() == b.Uint64(), a.IntN(6) == b.IntN(6), a.Float64() == b.Float64())
	// Output: true true true
}
