package routing

import (
	"fmt"
	"math"
	"net/url"
	"strings"
	"testing"

	"github.com/weftmesh/weft/balancer"
)

// attributes is a call's headers (names in lower case) and query.
type attributes struct {
	headers map[string][]string
	query   url.Values
}

func (a *attributes) Header(name string) []string { return a.headers[name] }
func (a *attributes) Query(name string) []string  { return a.query[name] }

// withHeaders makes a call from "name: value" lines.
func withHeaders(lines ...string) *Request {
	a := &attributes{headers: make(map[string][]string)}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		a.headers[name] = append(a.headers[name], value)
	}
	return &Request{Path: "/", Method: "GET", Attributes: a}
}

func user(i int) *Request { return withHeaders(fmt.Sprintf("x-user: user-%d", i)) }

// instances makes endpoints from words such as "v1 v1 v2", one of that version each.
func instances(versions string) []*balancer.Endpoint {
	var specs []balancer.Spec
	for i, v := range strings.Fields(versions) {
		specs = append(specs, balancer.Spec{ID: fmt.Sprintf("%s-%d", v, i), Labels: map[string]string{"version": v}})
	}
	return balancer.NewPool(nil).Update(specs)
}

var versions = map[string]map[string]string{
	"v1": {"version": "v1"}, "v2": {"version": "v2"}, "v3": {"version": "v3"},
}

// shares reads "v1:90 v2:10".
func shares(text string) (shares []Share) {
	for field := range strings.FieldsSeq(text) {
		var s Share
		name, weight, _ := strings.Cut(field, ":")
		s.Subset = name
		fmt.Sscan(weight, &s.Weight)
		shares = append(shares, s)
	}
	return shares
}

func newRouter(t testing.TB, up, reserve string, rules ...Rule) *Router {
	t.Helper()
	r, err := New(Config{Key: "default/product", Subsets: versions, Rules: rules}, instances(up), instances(reserve))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// where names what a result's calls end at.
func where(r Result) string {
	if r.Destination == nil {
		return "none"
	}
	return r.Destination.Subset
}

// deviates reports whether counts deviate from the shares so much that chance does so in one of a thousand runs.
func deviates(counts map[string]int, shares map[string]float64) (string, bool) {
	var chi, total, sum float64
	for _, s := range shares {
		total += s
	}
	for name, c := range counts {
		if sum += float64(c); shares[name] == 0 {
			return fmt.Sprintf("unexpected %q: %v", name, counts), true
		}
	}
	for name, s := range shares {
		expected := sum * s / total
		chi += (float64(counts[name]) - expected) * (float64(counts[name]) - expected) / expected
	}
	// Wilson and Hilferty's approximation of the 99.9 % quantile.
	freedom := max(1, float64(len(shares)-1))
	a := 2 / (9 * freedom)
	limit := freedom * math.Pow(1-a+3.0902*math.Sqrt(a), 3)
	return fmt.Sprintf("χ² %.1f, limit %.1f, counts %v", chi, limit, counts), chi > limit
}

// routed counts where n calls go; call i comes from next.
func routed(r *Router, n int, next func(i int) *Request) map[string]int {
	counts, rnd := make(map[string]int), balancer.NewRand(1)
	for i := range n {
		counts[where(r.Route(next(i), rnd))]++
	}
	return counts
}

func anonymous(int) *Request { return &Request{Path: "/", Method: "GET"} }
