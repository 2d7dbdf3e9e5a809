package routing

import (
	"testing"

	"github.com/weftmesh/weft/balancer"
)

// Every caller in the mesh has to compute these.
func TestBucketVectors(t *testing.T) {
	tests := []struct {
		key, value string
		bucket     int
	}{
		{"default/product", "user-1", 6583},
		{"default/product", "user-2", 3380},
		{"default/product", "alice", 7650},
		{"shop/product", "user-1", 4392},
		{"shop/product", "alice", 6600},
	}
	for _, test := range tests {
		rules := []Rule{{StickyBy: Sticky{Header: "X-User"}}}
		r, err := New(Config{Key: test.key, Rules: rules}, instances("v1"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Route(withHeaders("x-user: "+test.value), balancer.NewRand(1)).Bucket; got != test.bucket {
			t.Errorf("%s %s: bucket %d, want %d", test.key, test.value, got, test.bucket)
		}
	}
}

// place returns where each of n users ends under a split.
func place(t *testing.T, split string, up string, n int, next func(int) *Request) []string {
	r := newRouter(t, up, "", Rule{Split: shares(split), StickyBy: Sticky{Header: "x-user"}})
	places, rnd := make([]string, n), balancer.NewRand(balancer.Hash64(split))
	for i := range n {
		places[i] = where(r.Route(next(i), rnd))
	}
	return places
}

// moves counts the users that went from one place to another.
func moves(before, after []string) map[[2]string]int {
	count := make(map[[2]string]int)
	for i := range before {
		if before[i] != after[i] {
			count[[2]string{before[i], after[i]}]++
		}
	}
	return count
}

// While weight moves from v1 to v2, users only move from v1 to v2. Without a value to stick to, the control,
// calls move both ways.
func TestRampOnlyMovesForward(t *testing.T) {
	const n = 10_000
	steps := []string{"v1:100 v2:0", "v1:90 v2:10", "v1:50 v2:50", "v1:10 v2:90", "v1:0 v2:100"}
	for i := range steps[1:] {
		before, after := steps[i], steps[i+1]
		moved := moves(place(t, before, "v1 v2", n, user), place(t, after, "v1 v2", n, user))
		if moved[[2]string{"v2", "v1"}] > 0 || moved[[2]string{"v1", "v2"}] == 0 {
			t.Errorf("%s → %s: moved %v", before, after, moved)
		}
	}
	control := moves(place(t, steps[1], "v1 v2", n, anonymous), place(t, steps[2], "v1 v2", n, anonymous))
	if control[[2]string{"v2", "v1"}] == 0 {
		t.Errorf("control: moved %v", control)
	}
}

// With three shares, moving weight between two neighbours leaves the users of the third where they are.
func TestRampBetweenNeighboursLeavesOthers(t *testing.T) {
	const n = 10_000
	before := place(t, "v1:60 v2:20 v3:20", "v1 v2 v3", n, user)
	after := place(t, "v1:30 v2:50 v3:20", "v1 v2 v3", n, user)
	if moved := moves(before, after); len(moved) != 1 || moved[[2]string{"v1", "v2"}] == 0 {
		t.Errorf("moved %v", moved)
	}
}

// When a share loses its instances only its own users move, over all of the rest, and the same call by call.
func TestEmptyShareMovesOnlyItsUsers(t *testing.T) {
	const n, split = 10_000, "v1:40 v2:30 v3:30"
	full := place(t, split, "v1 v2 v3", n, user)
	empty := place(t, split, "v1 v3", n, user)
	moved := moves(full, empty)
	if len(moved) != 2 || moved[[2]string{"v2", "v1"}] == 0 || moved[[2]string{"v2", "v3"}] == 0 {
		t.Errorf("moved %v", moved)
	}
	if again := moves(empty, place(t, split, "v1 v3", n, user)); len(again) != 0 {
		t.Errorf("moved again without a change: %v", again)
	}
}

func TestStickyValue(t *testing.T) {
	tests := []struct {
		name   string
		sticky Sticky
		req    *Request
		bucket int
	}{
		{"header", Sticky{Header: "X-User"}, withHeaders("x-user: user-1"), 6583},
		{"first of several", Sticky{Header: "x-user"}, withHeaders("x-user: user-1", "x-user: user-2"), 6583},
		{"cookie", Sticky{Cookie: "uid"}, withHeaders("cookie: a=1; uid=user-1"), 6583},
		{"absent header", Sticky{Header: "x-user"}, withHeaders("y: user-1"), -1},
		{"empty header", Sticky{Header: "x-user"}, withHeaders("x-user: "), -1},
		{"absent cookie", Sticky{Cookie: "uid"}, withHeaders("cookie: UID=user-1"), -1},
		{"no attributes", Sticky{Header: "x-user"}, anonymous(0), -1},
	}
	for _, test := range tests {
		r := newRouter(t, "v1 v2", "", Rule{Split: shares("v1:50 v2:50"), StickyBy: test.sticky})
		got := r.Route(test.req, balancer.NewRand(1))
		if got.Bucket != test.bucket || got.NoStickyValue != (test.bucket < 0) || got.Destination == nil {
			t.Errorf("%s: %+v", test.name, got)
		}
	}
}

func TestCallsWithoutValueAreDrawnAtRandom(t *testing.T) {
	r := newRouter(t, "v1 v2", "", Rule{Split: shares("v1:90 v2:10"), StickyBy: Sticky{Cookie: "uid"}})
	if why, bad := deviates(routed(r, 20_000, anonymous), map[string]float64{"v1": 90, "v2": 10}); bad {
		t.Error(why)
	}
}
