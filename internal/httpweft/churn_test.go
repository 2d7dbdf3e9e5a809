package httpweft

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/weftmesh/weft/balancer"
)

// Endpoints come and go under load while their servers live: no call fails and none needs a second try, though each is
// a POST that could not be repeated.
func TestPlansChangeUnderLoad(t *testing.T) {
	const callers, calls = 8, 50
	bothProtocols(t, func(t *testing.T, m *mesh, serve func(string, http.HandlerFunc) *listener) {
		var all []*listener
		for _, id := range []string{"a", "b", "c", "d"} {
			all = append(all, serve(id, answer(200)))
		}
		specs := m.specs
		m.rules.Policy = balancer.LeastRequest()
		m.publish()
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() {
				for range calls {
					if code, _, err := m.do(m.request("POST", "http://product/", once("x"))); code != 200 || err != nil {
						t.Errorf("POST = %d, %v", code, err)
						return
					}
				}
			})
		}
		done := make(chan struct{})
		go func() { wg.Wait(); close(done) }()
		plans := 0
		for running := true; running; plans++ {
			select {
			case <-done:
				running = false
			default:
			}
			m.specs = specs[plans%4 : plans%4+1]
			m.publish()
			if code, _, err := m.do(m.request("POST", "http://product/", nil)); code != 200 || err != nil {
				t.Errorf("POST after plan %d = %d, %v", plans, code, err)
			}
		}
		if n, want := len(m.seen.attempts), callers*calls+plans; n != want || strings.Contains(m.seen.classes(), "failure") {
			t.Errorf("%d attempts for %d calls", n, want)
		}
		synctest.Wait()
		open := 0
		for _, l := range all {
			open += l.open()
		}
		if last := all[(plans-1)%4].open(); open != last || len(m.client.peers) != 1 {
			t.Errorf("%d connections, %d of them to the last endpoint, %d peers after %d plans", open, last, len(m.client.peers), plans)
		}
		m.idle()
	})
}
