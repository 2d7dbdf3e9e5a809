//go:build linux

package faults

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/weftmesh/weft/discovery"
)

// Some instances of a service die at once. What may be repeated fails no more once 2 s have passed. Those few are
// removed; so many that the registry rather doubts itself stay, suspect, and it says so.
func TestSomeInstancesDie(t *testing.T) {
	if !proving() {
		t.Skip("it takes half a minute: WEFT_PROVE=ci")
	}
	for _, tc := range []struct {
		dead, of  int
		protected bool
	}{
		{1, 3, false},
		{1, 100, false},
		{10, 100, false},
		{60, 100, true},
	} {
		t.Run(fmt.Sprintf("%d of %d", tc.dead, tc.of), func(t *testing.T) {
			t.Parallel()
			r := startRegistry(t, serverBinary, "--session-ttl", sessionTTL().String())
			doomed := spawnProducts(t, r, fmt.Sprintf("dead:%d", tc.dead))
			spawnProducts(t, r, fmt.Sprintf("live:%d", tc.of-tc.dead))
			eventually(t, "all are up", 60*time.Second, func() error {
				n, err := r.count(t, func(_ string, s discovery.State) bool { return s == discovery.Up })
				return errorUnless(err == nil && n == 2*tc.of, "%d of %d are up: %v", n, 2*tc.of, err)
			})
			c := newCaller(t, r, retries)
			c.watch(t)
			l := c.loadOf(t, 1, 2*time.Millisecond)
			time.Sleep(500 * time.Millisecond)
			doomed.kill()
			killed := time.Now()
			time.Sleep(2 * lifetime())
			reads, _ := l.stop()
			t.Logf("reads: %s", reads)
			if late := reads.last.Sub(killed); late > 2*time.Second {
				t.Errorf("reads: %s; the last failed %s after the kill", reads, late)
			}
			dead, err := r.count(t, func(id string, s discovery.State) bool {
				if !strings.HasPrefix(id, "dead") {
					return false
				}
				if s != discovery.Suspect {
					t.Errorf("%s is %s, want suspect or gone", id, s)
				}
				return true
			})
			if want := map[bool]int{true: 2 * tc.dead}[tc.protected]; dead != want || err != nil {
				t.Errorf("%d of the dead are still there, want %d: %v", dead, want, err)
			}
			if got := r.protects(t); got != tc.protected {
				t.Errorf("the registry says that it protects product: %t, want %t", got, tc.protected)
			}
		})
	}
}

// count counts instances of product.
func (r *registry) count(t *testing.T, which func(id string, s discovery.State) bool) (n int, err error) {
	states, err := r.states(t.Context(), "product")
	for id, state := range states {
		if which(id, state) {
			n++
		}
	}
	return n, err
}

// protects reports whether the registry says that it protects product.
func (r *registry) protects(t *testing.T) bool {
	t.Helper()
	var protection struct{ Items []struct{ Service string } }
	if _, err := r.call(t.Context(), http.MethodGet, "/v1/protection", "", &protection); err != nil {
		t.Error(err)
	}
	for _, p := range protection.Items {
		if p.Service == "product" {
			return true
		}
	}
	return false
}
