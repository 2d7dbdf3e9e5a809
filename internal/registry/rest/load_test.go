package rest

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftmesh/weft/internal/registry/store"
)

// stuckDisk commits only when it is let, or fails.
type stuckDisk struct {
	*store.Memory
	free chan struct{} // holds one while commits may run
	stop error
}

func newStuckDisk() *stuckDisk {
	d := &stuckDisk{Memory: store.NewMemory(), free: make(chan struct{}, 1)}
	d.free <- struct{}{}
	return d
}

func (s *stuckDisk) Commit(w []store.Write) error {
	<-s.free
	defer func() { s.free <- struct{}{} }()
	if s.stop != nil {
		return s.stop
	}
	return s.Memory.Commit(w)
}

// TestOverloadShedsWritesFirst fills the server with writes that do not end: more of them are turned away, while
// renewals and reads go on.
func TestOverloadShedsWritesFirst(t *testing.T) {
	for _, shared := range []bool{false, true} { // the control: renewals in the lane of writes are turned away with them
		synctest.Test(t, func(t *testing.T) {
			disk := newStuckDisk()
			api := newAPIWith(t, disk, Config{})
			if shared {
				api.lanes[heartbeats] = api.lanes[writes]
			}
			must(t, api, 201, "PUT", product+"/p1", `{"address": "127.0.0.1:9000", "protocol": "http", "ttl": "1h"}`)
			<-disk.free
			var wg sync.WaitGroup
			for range cap(api.lanes[writes].places) + int(api.lanes[writes].queue) {
				wg.Go(func() { do(t, api, "PUT", product+"/p2", `{"address": "127.0.0.1:9000", "protocol": "http"}`) })
			}
			synctest.Wait()
			a := do(t, api, "PUT", product+"/p3", `{"address": "127.0.0.1:9000", "protocol": "http"}`)
			if a.status != 503 || a.header.Get("Retry-After") == "" || a.header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("a write too many: %v", a)
			}
			want := 204
			if shared {
				want = 503
			}
			if a := do(t, api, "POST", product+"/p1/renew", ""); a.status != want {
				t.Errorf("shared %v: a renewal: %v, want %d", shared, a, want)
			}
			must(t, api, 200, "GET", product, "")
			disk.free <- struct{}{}
			wg.Wait()
			must(t, api, 201, "PUT", product+"/p3", `{"address": "127.0.0.1:9000", "protocol": "http"}`)
		})
	}
}

// Who waits for a place is told so in time.
func TestPatienceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLane(1, 1)
		l.enter(t.Context())
		start := time.Now()
		if l.enter(t.Context()) || time.Since(start) != patience {
			t.Errorf("after %s", time.Since(start))
		}
		time.AfterFunc(time.Second, l.leave)
		if !l.enter(t.Context()) || l.queued.Load() != 0 {
			t.Error("a place that became free was not taken")
		}
	})
}

// What the store says is told with the right status.
func TestStoreErrors(t *testing.T) {
	for err, want := range map[error]int{store.ErrBusy: 429, store.ErrFull: 507, store.ErrBroken: 503, store.ErrClosed: 503, io.ErrUnexpectedEOF: 500} {
		api := newAPI(t)
		p, ok := api.refuse(err).(interface{ GetStatus() int })
		if !ok || p.GetStatus() != want {
			t.Errorf("%v: %v, want %d", err, p, want)
		}
	}
	disk := newStuckDisk()
	api := newAPIWith(t, disk, Config{})
	for err, want := range map[error]int{store.ErrFull: 507, store.ErrBusy: 429, store.ErrBroken: 503} {
		<-disk.free
		disk.stop = err
		disk.free <- struct{}{}
		a := do(t, api, "PUT", product+"/p1", `{"address": "127.0.0.1:9000", "protocol": "http"}`)
		if a.status != want || again(want) != (a.header.Get("Retry-After") != "") {
			t.Errorf("%v: %v", err, a)
		}
	}
}

// TestBombs sends what is small on the wire and large, deep or slow to read.
func TestBombs(t *testing.T) {
	api := newAPI(t)
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	io.Copy(z, io.LimitReader(zeros{}, 20<<20))
	z.Close()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for _, to := range []string{"PUT " + product + "/p1", "POST /v1/rules", "PATCH " + product + "/p1", "POST /v1/tokens", "PUT /v1/protection", "PUT /v1/aliases/a"} {
		method, address, _ := strings.Cut(to, " ")
		for name, body := range map[string]string{
			"deep list":    strings.Repeat("[", 100_000),
			"closed list":  strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000),
			"deep object":  strings.Repeat(`{"a":`, 50_000),
			"deep labels":  `{"labels": ` + strings.Repeat(`{"a":`, 50_000),
			"many objects": strings.Repeat("{},", 1<<20/3) + "{}",
			"fewer":        "[" + strings.Repeat("{},", 80_000) + "{}]",
			"many keys":    `{"labels": {` + strings.Repeat(`"a": "b", `, 20_000) + `"c": "d"}}`,
			"deep YAML":    strings.Repeat("- ", 100_000) + "a",
			"aliases":      "a: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d]\n",
		} {
			a := do(t, api, method, address, body)
			if a.status != 400 && a.status != 413 && a.status != 422 || len(a.body) > 64<<10 {
				t.Errorf("%s to %s: status %d, %d bytes", name, to, a.status, len(a.body))
			}
		}
		a := must(t, api, 415, method, address, zipped.String(), "Content-Encoding: gzip")
		if !strings.Contains(a.body, `"location":"header.Content-Encoding"`) {
			t.Error(a.body)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 16<<20 {
		t.Errorf("%d bytes are kept", grown)
	}
	must(t, api, 201, "PUT", product+"/p1", `{"address": "127.0.0.1:9000", "protocol": "http"}`)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// trickle is a body that stops before its end.
type trickle struct {
	sent int
	wait chan struct{}
}

func (b *trickle) Read(p []byte) (int, error) {
	if b.sent == 0 {
		<-b.wait
		return 0, io.ErrUnexpectedEOF
	}
	n := min(b.sent, len(p))
	b.sent -= n
	return n, nil
}

// Bodies that come slowly hold no place, and no more memory than is set aside for all.
func TestSlowBodies(t *testing.T) {
	for status, bound := range map[int]int64{503: maxBodies, 201: 1 << 40} { // the control: without the bound one more is read
		slowBodies(t, bound, status)
	}
}

// slowBodies fills what is set aside for bodies, and wants an answer to one more.
func slowBodies(t *testing.T, bound int64, status int) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		api := newAPI(t)
		api.maxBodies = bound
		wait := make(chan struct{})
		var wg sync.WaitGroup
		statuses := make(chan int, 1000)
		slow := func() {
			r := httptest.NewRequest("PUT", product+"/p1", &trickle{maxBody, wait})
			r.Header.Set("Authorization", "Bearer admin")
			w := httptest.NewRecorder()
			api.ServeHTTP(w, r)
			statuses <- w.Code
		}
		for range maxBodies / maxBody {
			wg.Go(slow)
		}
		synctest.Wait()
		if n := len(api.lanes[writes].places); n != 0 {
			t.Errorf("%d hold a place", n)
		}
		a := must(t, api, status, "PUT", product+"/p2", `{"address": "127.0.0.1:9000", "protocol": "http"}`)
		if again(status) != (a.header.Get("Retry-After") != "") {
			t.Error(a)
		}
		must(t, api, 200, "GET", "/v1/services", "")
		close(wait)
		wg.Wait()
		if len(statuses) != maxBodies/maxBody || api.bodies.Load() != 0 {
			t.Errorf("%d answers, %d bytes are still counted", len(statuses), api.bodies.Load())
		}
		must(t, api, 201, "PUT", product+"/p1", `{"address": "127.0.0.1:9000", "protocol": "http"}`)
	})
}

func TestCostlyReadsAreSlowedDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newAPI(t)
		must(t, api, 201, "PUT", canaryPath, canary, asYAML)
		for range costlyBurst {
			must(t, api, 200, "GET", canaryPath+"/diff", "")
		}
		a := must(t, api, 429, "GET", canaryPath+"/history", "")
		if a.header.Get("Retry-After") != "1" {
			t.Error(a)
		}
		must(t, api, 200, "GET", canaryPath+"/history", "", "Authorization: Bearer reader") // another's
		must(t, api, 200, "GET", canaryPath, "")                                            // not costly
		time.Sleep(time.Second)
		must(t, api, 200, "GET", canaryPath+"/history", "")
	})
}

// Paths that are not written plainly are nowhere. The mux would redirect, and a PUT would lose its body.
func TestUnplainPaths(t *testing.T) {
	api := newAPI(t)
	must(t, api, 201, "PUT", product+"/p1", `{"address": "127.0.0.1:9000", "protocol": "http"}`)
	for _, p := range []string{"//v1/rules", "/v1//rules", "/v1/./rules", "/v1/x/../rules", "/v1/rules/", "//", "/"} {
		for _, method := range []string{"GET", "PUT"} {
			r := httptest.NewRequest(method, "http://registry"+p, http.NoBody)
			r.Header.Set("Authorization", "Bearer admin")
			w := httptest.NewRecorder()
			api.ServeHTTP(w, r)
			if w.Code != 404 || w.Header().Get("Content-Type") != "application/problem+json" || w.Header().Get("Location") != "" {
				t.Errorf("%s %s: %d %v", method, p, w.Code, w.Header())
			}
		}
	}
	// An id may have what a path may not, if it is escaped.
	for _, id := range []string{"a%2F%2Fb", "%2E%2E", "a%2F..%2Fb"} {
		must(t, api, 201, "PUT", product+"/"+id, `{"address": "127.0.0.1:9000", "protocol": "http"}`)
		must(t, api, 204, "DELETE", product+"/"+id, "")
	}
}
