package httpweft

import (
	"context"
	"crypto/sha256"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/weftmesh/weft/balancer"
	"github.com/weftmesh/weft/internal/engine"
)

// overLoopback is a mesh with one instance behind a real listener.
func overLoopback(t testing.TB, h http.HandlerFunc) (m *mesh, address string) {
	t.Helper()
	m = newMesh(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m.start(l, h)
	m.client.dial = new(net.Dialer).DialContext
	m.rules.Policy = balancer.LeastRequest()
	m.specs = []balancer.Spec{{ID: "a", Address: l.Addr().String()}}
	m.publish()
	return m, l.Addr().String()
}

func TestFileUpload(t *testing.T) {
	const size = 10 << 20
	m, _ := overLoopback(t, func(w http.ResponseWriter, r *http.Request) {
		h := sha256.New()
		_, _ = io.Copy(h, r.Body)
		_, _ = w.Write(h.Sum(nil))
	})
	name := filepath.Join(t.TempDir(), "file")
	content := make([]byte, size)
	for i := range content {
		content[i] = byte(i >> 8)
	}
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	r := m.request("PUT", "http://product/", f)
	r.ContentLength = size
	_, got, err := m.do(r)
	if want := sha256.Sum256(content); err != nil || got != string(want[:]) {
		t.Errorf("the file arrived changed: %v", err)
	}
}

func TestNothingListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	m, _ := overLoopback(t, ok)
	m.specs = append([]balancer.Spec{{ID: "0", Address: l.Addr().String()}}, m.specs...)
	m.rules.Policy = inOrder{}
	m.publish()
	if code, _, err := m.do(m.request("POST", "http://product/", once("x"))); err != nil || code != 200 {
		t.Errorf("got %d, %v; want the second instance to answer", code, err)
	}
	if got := m.seen.classes(); got != "0 failure, 200 success" {
		t.Errorf("verdicts: %s", got)
	}
}

// What a call costs beyond bare net/http: its struct and net/http's trace (a context and two functions); with a
// deadline also a clone of the header and its one wire word, which the callee reads.
func TestAllocations(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("counts allocations of the whole process")
	}
	m, address := overLoopback(t, ok)
	bare := &http.Transport{}
	defer bare.CloseIdleConnections()
	p := *m.service.Plan()
	p.Protocols[engine.HTTP].Recorder = noRecorder{}
	m.service.Publish(&p)
	for _, c := range []struct {
		name string
		most float64
		ctx  func() (context.Context, context.CancelFunc)
	}{
		{"without deadline", 6, func() (context.Context, context.CancelFunc) { return t.Context(), func() {} }},
		{"with deadline", 10, func() (context.Context, context.CancelFunc) { return context.WithTimeout(t.Context(), time.Minute) }},
	} {
		send := func(rt http.RoundTripper, url string) func() {
			return func() {
				ctx, cancel := c.ctx()
				defer cancel()
				r, _ := http.NewRequestWithContext(ctx, "GET", url, nil)
				resp, err := rt.RoundTrip(r)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		}
		without, bytesWithout := allocations(send(bare, "http://"+address+"/"))
		with, bytesWith := allocations(send(m.http.Transport, "http://product/"))
		t.Logf("%s: bare net/http %.1f allocations, %.0f bytes; Weft adds %.1f, %.0f bytes", c.name, without, bytesWithout, with-without, bytesWith-bytesWithout)
		if with-without > c.most+0.5 {
			t.Errorf("%s: Weft adds %.1f allocations, at most %.0f", c.name, with-without, c.most)
		}
	}
}

// allocations counts what one run of f costs the process, both ends of the connection included.
func allocations(f func()) (count, bytes float64) {
	const runs = 2000
	for range 50 {
		f()
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range runs {
		f()
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / runs, float64(after.TotalAlloc-before.TotalAlloc) / runs
}

func BenchmarkGet(b *testing.B) {
	m, address := overLoopback(b, ok)
	p := *m.service.Plan()
	p.Protocols[engine.HTTP].Recorder = noRecorder{}
	m.service.Publish(&p)
	bare := &http.Transport{}
	defer bare.CloseIdleConnections()
	for name, send := range map[string]func() (*http.Response, error){
		"bare": func() (*http.Response, error) { return bare.RoundTrip(m.request("GET", "http://"+address+"/", nil)) },
		"weft": func() (*http.Response, error) {
			return m.http.Transport.RoundTrip(m.request("GET", "http://product/", nil))
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				resp, err := send()
				if err != nil {
					b.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		})
	}
}
