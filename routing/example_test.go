package routing_test

import (
	"fmt"

	"github.com/weftmesh/weft/balancer"
	"github.com/weftmesh/weft/routing"
)

// headers is a call's headers, for calls without a query.
type headers map[string][]string

func (h headers) Header(name string) []string { return h[name] }
func (h headers) Query(string) []string       { return nil }

func Example() {
	instances := balancer.NewPool(nil).Update([]balancer.Spec{
		{ID: "a", Labels: map[string]string{"version": "v1"}},
		{ID: "b", Labels: map[string]string{"version": "v2"}},
	})
	gold := "gold"
	router, err := routing.New(routing.Config{
		Key:     "default/product",
		Subsets: map[string]map[string]string{"v1": {"version": "v1"}, "v2": {"version": "v2"}},
		Rules: []routing.Rule{
			{
				Match: []routing.Match{{Headers: map[string]routing.StringMatch{"X-Tier": {Exact: &gold}}}},
				Split: []routing.Share{{Subset: "v2"}},
			},
			{
				Split:    []routing.Share{{Subset: "v1", Weight: 90}, {Subset: "v2", Weight: 10}},
				StickyBy: routing.Sticky{Header: "x-user-id"},
			},
		},
	}, instances, nil)
	if err != nil {
		panic(err)
	}
	rnd := balancer.NewRand(1)
	for _, h := range []headers{{"x-tier": {"gold"}}, {"x-user-id": {"user-1"}}} {
		result := router.Route(&routing.Request{Path: "/items", Method: "GET", Attributes: h}, rnd)
		endpoint := result.Destination.Pick(&balancer.Pick{Rand: rnd})
		fmt.Printf("rule %d, subset %s, bucket %d, endpoint %s\n", result.Rule, result.Subset, result.Bucket, endpoint.ID)
	}
	// Output:
	// rule 0, subset v2, bucket -1, endpoint b
	// rule 1, subset v1, bucket 6583, endpoint a
}

func ExampleCompileMatch() {
	prefix := "/pay."
	matcher, err := routing.CompileMatch([]routing.Match{{Path: &routing.StringMatch{Prefix: &prefix}}})
	fmt.Println(err, matcher.Matches(&routing.Request{Path: "/pay.Service/Charge"}))
	_, err = routing.CompileMatch([]routing.Match{{Path: &routing.StringMatch{}}})
	fmt.Println(err)
	// Output:
	// <nil> true
	// match[0].path: want exactly one of exact, prefix, regex, present, in, not; got 0
}

func ExampleRouter_Route_whenEmpty() {
	instances := balancer.NewPool(nil).Update([]balancer.Spec{{ID: "a", Labels: map[string]string{"version": "v1"}}})
	cfg := routing.Config{
		Subsets: map[string]map[string]string{"v1": {"version": "v1"}, "v2": {"version": "v2"}},
		Rules:   []routing.Rule{{Split: []routing.Share{{Subset: "v2", Weight: 99}, {Subset: "v1", Weight: 1}}}},
	}
	for _, cfg.Rules[0].WhenEmpty = range []routing.WhenEmpty{routing.Rest, routing.Fail} {
		router, err := routing.New(cfg, instances, nil)
		if err != nil {
			panic(err)
		}
		result := router.Route(&routing.Request{}, balancer.NewRand(1))
		fmt.Println("drawn", result.Subset, "called", result.Destination != nil, "substituted", result.Substituted)
	}
	// Output:
	// drawn v2 called true substituted true
	// drawn v2 called false substituted false
}
