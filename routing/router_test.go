package routing

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/weftmesh/weft/balancer"
)

func TestFirstMatchWins(t *testing.T) {
	gold := map[string]StringMatch{"x-tier": is("gold")}
	r := newRouter(t, "v1 v2 v3", "",
		Rule{Match: []Match{{Headers: gold}}, Split: shares("v2"), Timeout: time.Second},
		Rule{Match: []Match{{Headers: gold}, {Path: ptr(startsWith("/v3/"))}}, Split: shares("v3")},
	)
	tests := []struct {
		req  *Request
		want Result
	}{
		{withHeaders("x-tier: gold"), Result{Rule: 0, Subset: "v2", Timeout: time.Second, Bucket: -1}},
		{&Request{Path: "/v3/x"}, Result{Rule: 1, Subset: "v3", Bucket: -1}},
		{&Request{Path: "/"}, Result{Rule: -1, Bucket: -1}},
	}
	for _, test := range tests {
		got := r.Route(test.req, balancer.NewRand(1))
		if where(got) != test.want.Subset {
			t.Errorf("%+v goes to %q", test.req, where(got))
		}
		if got.Destination = nil; got != test.want {
			t.Errorf("got %+v, want %+v", got, test.want)
		}
	}
}

func TestNothingAtAll(t *testing.T) {
	r := newRouter(t, "", "")
	if got := r.Route(anonymous(0), balancer.NewRand(1)); got != (Result{Rule: -1, Bucket: -1}) {
		t.Errorf("got %+v", got)
	}
	if e := r.All().Pick(&balancer.Pick{Rand: balancer.NewRand(1)}); e != nil {
		t.Errorf("picked %v", e)
	}
}

func TestDestinationPicks(t *testing.T) {
	r := newRouter(t, "v1 v2 v1", "v1 v2", Rule{Split: shares("v1")})
	d := r.Route(anonymous(0), balancer.NewRand(1)).Destination
	if up, reserve := len(d.Endpoints()), len(d.Reserve()); up != 2 || reserve != 1 {
		t.Fatalf("%d up, %d in reserve; want 2, 1", up, reserve)
	}
	p := &balancer.Pick{Rand: balancer.NewRand(1)}
	for range 100 {
		if e := d.Pick(p); !slices.Contains(d.Endpoints(), e) {
			t.Fatalf("picked %v", e)
		}
		if e := d.PickReserve(p); e != d.Reserve()[0] {
			t.Fatalf("picked %v of the reserve", e)
		}
	}
	if all := r.All(); all.Subset != "" || len(all.Endpoints()) != 3 || len(all.Reserve()) != 2 {
		t.Errorf("all: %+v", all)
	}
}

// Each subset has a position of its own in a round robin, and it survives a new router.
func TestRoundRobinBySubset(t *testing.T) {
	policy, up, rnd := balancer.RoundRobin(), instances("v1 v1 v2 v2"), balancer.NewRand(1)
	byMethod := func(method, subset string) Rule {
		return Rule{Match: []Match{{Method: ptr(is(method))}}, Split: shares(subset)}
	}
	seen := make(map[string]int)
	for i := range 40 {
		r, err := New(Config{Subsets: versions, Policy: policy, Rules: []Rule{byMethod("GET", "v1"), byMethod("PUT", "v2")}}, up, nil)
		if err != nil {
			t.Fatal(err)
		}
		req := &Request{Method: []string{"GET", "PUT"}[i%2]}
		seen[r.Route(req, rnd).Destination.Pick(&balancer.Pick{Rand: rnd}).ID]++
	}
	for _, e := range up {
		if seen[e.ID] != 10 {
			t.Errorf("%s was picked %d times of 40, want 10", e.ID, seen[e.ID])
		}
	}
}

func TestNewErrors(t *testing.T) {
	tests := []struct {
		rule Rule
		want string
	}{
		{Rule{Split: shares("v9")}, `rules[0].split[0].subset: "v9" is not among the subsets`},
		{Rule{Split: shares("v1:50 v2:-1")}, "rules[0].split[1].weight: -1 is not between 0 and 1000000"},
		{Rule{Split: shares("v1:1000001 v2:1")}, "rules[0].split[0].weight: 1000001 is not between 0 and 1000000"},
		{Rule{Split: shares("v1 v2")}, "rules[0].split: the weights of its 2 shares are all 0"},
		{Rule{WhenEmpty: 2}, "rules[0].whenEmpty: 2 is neither Rest nor Fail"},
		{Rule{Timeout: -1}, "rules[0].timeout: -1ns is negative"},
		{Rule{StickyBy: Sticky{Header: "a", Cookie: "b"}}, "rules[0].stickyBy: want header or cookie, got both"},
		{Rule{Match: []Match{{Path: &StringMatch{}}}}, "rules[0].match[0].path: want exactly one of exact, prefix, regex, present, in, not; got 0"},
	}
	for _, test := range tests {
		if r, err := New(Config{Subsets: versions, Rules: []Rule{test.rule}}, nil, nil); err == nil || err.Error() != test.want || r != nil {
			t.Errorf("got  %v\nwant %s", err, test.want)
		}
	}
	if _, err := New(Config{Subsets: map[string]map[string]string{"": nil}}, nil, nil); err == nil {
		t.Error("a subset without a name was accepted")
	}
}

// manyRules are n rules of which only the last fits.
func manyRules(n int) []Rule {
	rules := make([]Rule, n)
	for i := range rules {
		rules[i] = Rule{
			Match: []Match{{
				Headers: map[string]StringMatch{"x-tier": oneOf(fmt.Sprint(i), "x")},
				Cookies: map[string]StringMatch{"beta": not(is("1"))},
				Path:    ptr(startsWith("/v1/")),
			}},
			Split: shares("v1:90 v2:10"),
		}
	}
	rules[n-1].StickyBy = Sticky{Cookie: "uid"}
	return rules
}

func fits(n int) *Request {
	req := withHeaders("x-tier: "+fmt.Sprint(n-1), "cookie: theme=dark; beta=2; uid=user-1")
	req.Path = "/v1/items"
	return req
}

func TestRouteDoesNotAllocate(t *testing.T) {
	for _, up := range []string{"v1 v2", "v2"} {
		r, req, rnd := newRouter(t, up, "", manyRules(10)...), fits(10), balancer.NewRand(1)
		if got := r.Route(req, rnd); got.Rule != 9 || got.Bucket != 6583 {
			t.Fatalf("the call takes another way: %+v", got)
		}
		if n := testing.AllocsPerRun(1000, func() { r.Route(req, rnd) }); n != 0 {
			t.Errorf("Route, up %q: %v allocations", up, n)
		}
	}
	m := compile(t, manyRules(10)[9].Match...)
	req := fits(10)
	if n := testing.AllocsPerRun(1000, func() { m.Matches(req) }); n != 0 {
		t.Errorf("Matches: %v allocations", n)
	}
}

func TestRouteInParallel(t *testing.T) {
	rules := append(manyRules(3), Rule{Match: []Match{{Path: ptr(like("/v2/.*"))}}, Split: shares("v2")})
	r := newRouter(t, "v1 v2", "v1", rules...)
	var group sync.WaitGroup
	for w := range 4 {
		group.Go(func() {
			rnd := balancer.NewRand(uint64(w))
			for i := range 1000 {
				want, req := 2, fits(3)
				if i%2 == 0 {
					want, req = 3, &Request{Path: "/v2/x"}
				}
				if got := r.Route(req, rnd); got.Rule != want || got.Destination.Pick(&balancer.Pick{Rand: rnd}) == nil {
					t.Errorf("got %+v, want rule %d", got, want)
				}
			}
		})
	}
	group.Wait()
}

func BenchmarkRoute(b *testing.B) {
	for _, n := range []int{1, 10} {
		b.Run(fmt.Sprintf("%d routes", n), func(b *testing.B) {
			r, req, rnd := newRouter(b, "v1 v2", "", manyRules(n)...), fits(n), balancer.NewRand(1)
			b.ReportAllocs()
			for b.Loop() {
				r.Route(req, rnd)
			}
		})
	}
	b.Run("split alone", func(b *testing.B) {
		r, req, rnd := newRouter(b, "v1 v2", "", Rule{Split: shares("v1:90 v2:10")}), anonymous(0), balancer.NewRand(1)
		b.ReportAllocs()
		for b.Loop() {
			r.Route(req, rnd)
		}
	})
	b.Run("regex", func(b *testing.B) {
		r := newRouter(b, "v1 v2", "", Rule{Match: []Match{{Path: ptr(like("/v[0-9]+/.*"))}}})
		req, rnd := fits(1), balancer.NewRand(1)
		b.ReportAllocs()
		for b.Loop() {
			r.Route(req, rnd)
		}
	})
}
