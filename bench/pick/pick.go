// Package pick measures the balancer's algorithms alone: one pick and the report of its result, with the time handed
// in, for 10 and for 10,000 endpoints, beside the pickers of grpc-go.
package pick

import (
	"errors"
	"fmt"
	"time"

	"github.com/weftmesh/weft/balancer"
	"github.com/weftmesh/weft/bench/measure"
)

// Sizes are the numbers of endpoints measured.
var Sizes = []int{10, 10_000}

// Policies are the names of the algorithms measured, as rules call them.
var Policies = []string{"round_robin", "weighted_round_robin", "random", "least_request"}

var errNothing = errors.New("the picker found no endpoint")

// Weft picks with one of our policies. Endpoints have different weights, which only some algorithms look at.
func Weft(policy string, endpoints int) measure.Case {
	picker := newPicker(policy, endpoints)
	return measure.Case{Name: fmt.Sprintf("weft-%s-%d", policy, endpoints), Work: func() func() error {
		now := time.Now()
		pick := &balancer.Pick{Now: now, Rand: balancer.NewRand(uint64(now.UnixNano()))}
		return func() error {
			ep := picker.Pick(pick)
			if ep == nil {
				return errNothing
			}
			ep.Begin()
			ep.Done(balancer.Result{Now: now, Latency: time.Millisecond})
			return nil
		}
	}}
}

func newPicker(policy string, endpoints int) balancer.Picker {
	p, ok := balancer.ByName(policy)
	if !ok {
		panic(fmt.Sprintf("no policy is named %q", policy))
	}
	specs := make([]balancer.Spec, endpoints)
	for i := range specs {
		specs[i] = balancer.Spec{ID: fmt.Sprintf("i%05d", i), Address: fmt.Sprintf("10.0.%d.%d:80", i/250, i%250), Weight: uint32(50 + i%100)}
	}
	return p.Picker(balancer.NewPool(nil).Update(specs))
}

// All lists the cases for a number of endpoints, grpc-go's least_request and round_robin first. Those two are left
// out above 1,000 endpoints: bringing them up takes time that grows with the square of the number.
func All(endpoints int) ([]measure.Case, error) {
	var cases []measure.Case
	if endpoints <= 1000 {
		for _, name := range []string{LeastRequest, RoundRobin} {
			c, err := GRPC(name, endpoints)
			if err != nil {
				return nil, err
			}
			cases = append(cases, c)
		}
	}
	for _, policy := range Policies {
		cases = append(cases, Weft(policy, endpoints))
	}
	return cases, nil
}
