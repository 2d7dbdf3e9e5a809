package httpweft

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftmesh/weft/balancer"
	"github.com/weftmesh/weft/internal/callerr"
	"github.com/weftmesh/weft/internal/engine"
)

func TestDialBackoff(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		m.down("a")
		m.publish()
		call := func() *callerr.Error {
			t.Helper()
			_, _, err := m.do(m.request("POST", "http://product/", nil))
			var e *callerr.Error
			if !errors.As(err, &e) || !errors.Is(err, errRefused) {
				t.Fatalf("got %v, want the error of the dial", err)
			}
			return e
		}
		if e := call(); len(e.Attempts) == 0 || !strings.HasPrefix(e.Attempts[0].Fate, "not sent") {
			t.Errorf("first call: %v", e)
		}
		for range 100 { // fails fast within the backoff
			if e := call(); e.Reason != "NoInstance" || !e.Local || !strings.Contains(e.Error(), "no endpoint is ready") {
				t.Fatalf("within the backoff: %v", e)
			}
		}
		if n := m.network.dialled("a:80"); n != 1 {
			t.Errorf("%d dials within the backoff, want 1", n)
		}
		// Each later failure waits longer: 100 ms · 1.6ⁿ ± 20 %, at most 5 s.
		for failures, want := 2, 160*time.Millisecond; failures < 15; failures++ {
			p := m.peerOf("a")
			time.Sleep(time.Duration(p.until.Load() - m.client.elapsed()))
			call()
			if n := m.network.dialled("a:80"); n != failures {
				t.Fatalf("%d dials, want %d", n, failures)
			}
			wait := time.Duration(p.until.Load() - m.client.elapsed())
			if wait < want*8/10 || wait > want*12/10 {
				t.Errorf("backoff %d is %v, want about %v", failures, wait, want)
			}
			want = min(want*16/10, 5*time.Second)
		}
		// Once it is there, a call works after the backoff, and the backoff starts anew.
		m.start(m.network.listen("a:80"), ok)
		time.Sleep(6 * time.Second)
		m.mustGet("http://product/")
		if p := m.peerOf("a"); p.until.Load() != 0 || p.failures != 0 || p.ready() != engine.Connected {
			t.Errorf("after a success: until %d, %d failures, %v", p.until.Load(), p.failures, p.ready())
		}
	})
}

// Dials that failed together count once.
func TestConcurrentDialFailuresCountOnce(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		m.down("a")
		m.network.delay = time.Second
		m.plan.Retry.Attempts = 1
		m.publish()
		for range 10 {
			go func() { _, _, _ = m.get("http://product/") }()
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if p := m.peerOf("a"); p.failures != 1 || m.network.dialled("a:80") != 10 {
			t.Errorf("%d failures from %d dials, want 1 from 10", p.failures, m.network.dialled("a:80"))
		}
	})
}

// A cancelled dial says nothing about the endpoint.
func TestCancelledDialIsNoFailure(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		m.serve("a", ok)
		m.network.delay = time.Second
		m.publish()
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, _, err := m.do(m.request("GET", "http://product/", nil).WithContext(ctx)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		m.client.http1.CloseIdleConnections() // ends the dial
		synctest.Wait()
		if r := m.peerOf("a").ready(); r == engine.NotReady {
			t.Error("the endpoint counts as not reachable")
		}
		m.network.delay = 0
		m.mustGet("http://product/")
	})
}

func TestReadiness(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		l := m.serve("a", ok)
		m.publish()
		ep := m.service.Plan().Protocols[engine.HTTP].Endpoints[0]
		target := m.client.target(m.service)
		expect := func(when string, want engine.Ready) {
			t.Helper()
			synctest.Wait()
			if got, _ := target.ready(ep); got != want {
				t.Errorf("%s: %v, want %v", when, got, want)
			}
		}
		expect("at first", engine.MayDial)
		m.mustGet("http://product/")
		expect("after a call", engine.Connected)
		m.http.CloseIdleConnections()
		expect("after the connection closed", engine.MayDial)
		if l.open() != 0 {
			t.Errorf("%d connections open", l.open())
		}
		l.Close()
		_, _, _ = m.get("http://product/")
		expect("after a failed dial", engine.NotReady)
		time.Sleep(6 * time.Second)
		expect("after the backoff", engine.MayDial)
		if got, _ := target.ready(&balancer.Endpoint{Spec: balancer.Spec{ID: "x", Address: "x:80"}}); got != engine.MayDial {
			t.Errorf("an endpoint of a plan that is not applied yet: %v", got)
		}
	})
}

func TestKeys(t *testing.T) {
	c := NewClient(nil, nil)
	defer c.Close()
	seen := map[string]bool{}
	for _, identity := range []string{"product.default", "stock.default", ""} {
		for _, address := range []string{"10.0.0.1:80", "10.0.0.1:81", ""} {
			for _, http2 := range []bool{false, true} {
				ep := &balancer.Endpoint{Spec: balancer.Spec{Address: address, HTTP2: http2}}
				p := c.peer(identity, ep)
				if seen[p.id] || seen[p.key] || c.peer(identity, ep) != p {
					t.Errorf("%s is not the one peer of %q %q %v", p.key, identity, address, http2)
				}
				seen[p.id], seen[p.key] = true, true
				if _, ours := IsOurs(p.key); ours || strings.IndexByte(p.key, '.') > maxLabel || !strings.HasSuffix(p.key, keySuffix) {
					t.Errorf("key %q", p.key)
				}
				p.dropIfUnused()
				if again := c.peer(identity, ep); again == p || again.key == p.key || again.id != p.id {
					t.Errorf("a peer made again has the key %s of the dropped one", again.key)
				}
			}
		}
	}
}

// Two services at one address never share a connection; one service at one address does.
func TestPoolsBelongToIdentityAndAddress(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		m.serve("a", ok)
		m.specs = append(m.specs, balancer.Spec{ID: "b", Address: "a:80"})
		m.publish()
		m.mustGet("http://product/")
		m.mustGet("http://product/")
		if n := m.network.dialled("a:80"); n != 1 {
			t.Errorf("%d connections for one service, want 1", n)
		}
		plan := *m.service.Plan()
		plan.Service = "stock.default"
		stock := m.engine.NewService("stock.default")
		stock.Publish(&plan)
		resp, err := m.client.roundTrip(stock, m.request("GET", "http://stock/", nil))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if n := m.network.dialled("a:80"); n != 2 {
			t.Errorf("%d connections for two services, want 2", n)
		}
	})
}

func TestUnknownKeysAreNeverResolved(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		m.serve("a", ok)
		m.publish()
		for _, host := range []string{peerID("x", "a:80", false) + "-1.weft-ep", strings.Replace(m.peerOf("a").key, "-1.", "-2.", 1), m.peerOf("a").id, "a", "a:80", "example.com"} {
			resp, err := m.client.http1.RoundTrip(m.request("GET", "http://"+host+"/", nil))
			if err == nil {
				resp.Body.Close()
				t.Errorf("%s was dialled", host)
			}
		}
		if len(m.network.dials) != 0 {
			t.Errorf("dialled %v", m.network.dials)
		}
	})
}

func TestRemovedEndpoints(t *testing.T) {
	bothProtocols(t, func(t *testing.T, m *mesh, serve func(string, http.HandlerFunc) *listener) {
		a := serve("a", func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "hello ")
			_ = http.NewResponseController(w).Flush()
			time.Sleep(time.Second)
			_, _ = io.WriteString(w, "world")
		})
		m.publish()
		m.mustGet("http://product/")
		resp, err := m.http.Do(m.request("GET", "http://product/", nil))
		if err != nil {
			t.Fatal(err)
		}
		m.publish() // the control: nothing is removed
		if synctest.Wait(); a.open() != 1 || len(m.client.peers) != 1 {
			t.Fatalf("%d connections, %d peers; want 1 and 1", a.open(), len(m.client.peers))
		}
		m.specs = nil
		b := serve("b", ok)
		m.publish()
		synctest.Wait()
		if a.open() != 1 || len(m.client.peers) != 2 {
			t.Errorf("in use: %d connections, %d peers; want 1 and 2", a.open(), len(m.client.peers))
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(body) != "hello world" || err != nil {
			t.Errorf("the call under way got %q, %v", body, err)
		}
		synctest.Wait()
		if a.open() != 0 || len(m.client.peers) != 1 {
			t.Errorf("removed: %d connections, %d peers; want 0 and 1", a.open(), len(m.client.peers))
		}
		m.mustGet("http://product/")
		m.specs = nil
		m.publish()
		if synctest.Wait(); b.open() != 0 || len(m.client.peers) != 0 {
			t.Errorf("nothing left: %d connections, %d peers", b.open(), len(m.client.peers))
		}
	})
}

// A call that follows an older plan may still reach an endpoint that the newest one lacks; afterwards nothing is left.
func TestEndpointOfAnOlderPlan(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a := m.serve("a", ok)
		m.publish()
		target := m.client.target(m.service)
		ep := m.service.Plan().Protocols[engine.HTTP].Endpoints[0]
		m.specs = nil
		m.publish()
		p, again := target.acquire(ep), target.acquire(ep)
		if p != again || len(m.client.peers) != 1 {
			t.Fatalf("%d peers", len(m.client.peers))
		}
		resp, err := m.client.http1.RoundTrip(m.request("GET", "http://"+p.key+"/", nil))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		p.release()
		again.release()
		if synctest.Wait(); a.open() != 0 || len(m.client.peers) != 0 || p.acquire() {
			t.Errorf("%d connections, %d peers left", a.open(), len(m.client.peers))
		}
	})
}

// Between the drop of a peer and the next plan's arrival an attempt may still find it.
func TestAcquireOfADroppedPeer(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		m.serve("a", ok)
		m.publish()
		old := m.peerOf("a")
		m.client.retireAll()
		p := m.client.target(m.service).acquire(m.service.Plan().Protocols[engine.HTTP].Endpoints[0])
		if p == old || m.client.peers[p.id] != p || p.inFlight.Load() != 1 {
			t.Errorf("got the dropped peer %v, or one that cannot be dialled", p == old)
		}
		p.release()
		m.mustGet("http://product/")
	})
}

// A dial that ends after its endpoint was removed leaves no connection.
func TestDialOutlivesEndpoint(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a := m.serve("a", ok)
		m.network.delay = time.Second
		m.publish()
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, _, _ = m.do(m.request("GET", "http://product/", nil).WithContext(ctx))
		m.specs = nil
		m.publish()
		time.Sleep(2 * time.Second)
		if synctest.Wait(); m.network.dialled("a:80") != 1 || a.open() != 0 || len(m.client.peers) != 0 {
			t.Errorf("%d dials, %d connections, %d peers; want 1, 0, 0", m.network.dialled("a:80"), a.open(), len(m.client.peers))
		}
	})
}

// Endpoints that come and go leave nothing behind.
func TestChurn(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		m.serve("a", ok)
		for i := range 200 {
			m.specs[0].ID = "a" + string(rune('a'+i%20))
			m.specs[0].HTTP2 = false
			m.publish()
			m.mustGet("http://product/")
			m.specs = append(m.specs[:1], balancer.Spec{ID: "z", Address: "z:" + string(rune('0'+i%10))})
		}
		if n := len(m.client.peers); n != 2 {
			t.Errorf("%d peers after 200 plans of 2 endpoints", n)
		}
		if n := m.network.dialled("a:80"); n != 1 {
			t.Errorf("%d connections to an address that all the plans had, want 1", n)
		}
	})
}

func TestClose(t *testing.T) {
	bothProtocols(t, func(t *testing.T, m *mesh, serve func(string, http.HandlerFunc) *listener) {
		a := serve("a", func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "hello ")
			_ = http.NewResponseController(w).Flush()
			time.Sleep(time.Second)
			_, _ = io.WriteString(w, "world")
		})
		m.publish()
		m.mustGet("http://product/")
		resp, err := m.http.Do(m.request("GET", "http://product/", nil))
		if err != nil {
			t.Fatal(err)
		}
		m.client.Close()
		m.client.Close()
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(body) != "hello world" || err != nil {
			t.Errorf("the call under way got %q, %v", body, err)
		}
		synctest.Wait()
		if a.open() != 0 || len(m.client.peers) != 0 {
			t.Errorf("%d connections, %d peers after Close", a.open(), len(m.client.peers))
		}
		m.client.target(m.service).apply(m.service.Plan()) // a plan that was on its way
		m.publish()
		if len(m.client.peers) != 0 {
			t.Errorf("%d peers from a plan after Close", len(m.client.peers))
		}
	})
}
