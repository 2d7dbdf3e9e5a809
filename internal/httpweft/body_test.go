package httpweft

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func h2c(srv *http.Server) {
	srv.Protocols = new(http.Protocols)
	srv.Protocols.SetUnencryptedHTTP2(true)
}

// bothProtocols runs a test over HTTP/1.1 and over h2c.
func bothProtocols(t *testing.T, f func(t *testing.T, m *mesh, serve func(id string, h http.HandlerFunc) *listener)) {
	t.Helper()
	t.Run("HTTP/1.1", func(t *testing.T) {
		bubble(t, func(t *testing.T, m *mesh) {
			f(t, m, func(id string, h http.HandlerFunc) *listener { return m.serve(id, h) })
		})
	})
	t.Run("h2c", func(t *testing.T) {
		bubble(t, func(t *testing.T, m *mesh) {
			f(t, m, func(id string, h http.HandlerFunc) *listener {
				l := m.serve(id, h, h2c)
				m.specs[len(m.specs)-1].HTTP2 = true
				return l
			})
		})
	})
}

func TestProtocolOfTheEndpoint(t *testing.T) {
	bothProtocols(t, func(t *testing.T, m *mesh, serve func(string, http.HandlerFunc) *listener) {
		serve("a", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto+" "+r.Host) })
		m.publish()
		want := "HTTP/1.1 product"
		if m.specs[0].HTTP2 {
			want = "HTTP/2.0 product"
		}
		for range 3 {
			if got := m.mustGet("http://product/"); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		if n := m.network.dialled("a:80"); n != 1 {
			t.Errorf("%d connections for 3 calls, want 1", n)
		}
		m.idle()
	})
}

// settling is when and how an attempt whose response has a body settles.
func TestSettling(t *testing.T) {
	twice := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "hello ")
		_ = http.NewResponseController(w).Flush()
		_, _ = io.WriteString(w, "world")
	}
	broken := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "hello ")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	endless := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "hello ")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
	read := func(b io.ReadCloser) { _, _ = io.Copy(io.Discard, b) }
	for _, c := range []struct {
		name    string
		method  string
		handler http.HandlerFunc
		end     func(io.ReadCloser) // nil: it has settled when Do returns
		want    string
	}{
		{"EOF", "GET", twice, read, "200 success"},
		{"Close", "GET", twice, func(b io.ReadCloser) { b.Close() }, "200 success"},
		{"Close of an endless one", "GET", endless, func(b io.ReadCloser) { b.Close() }, "200 success"},
		{"a read error", "GET", broken, read, "200 failure"},
		{"a read error and Close", "GET", broken, func(b io.ReadCloser) { read(b); b.Close() }, "200 failure"},
		{"EOF of an error", "GET", answer(500), read, "500 failure"},
		{"Close during a Read", "GET", endless, func(b io.ReadCloser) {
			var wg sync.WaitGroup
			wg.Go(func() { read(b) })
			synctest.Wait()
			b.Close()
			wg.Wait()
		}, "200 success"},
		{"HEAD", "HEAD", twice, nil, "200 success"},
		{"204", "GET", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204) }, nil, "204 success"},
		{"304", "GET", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(304) }, nil, "304 success"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bothProtocols(t, func(t *testing.T, m *mesh, serve func(string, http.HandlerFunc) *listener) {
				serve("a", c.handler)
				m.plan.Retry.PerTryTimeout = time.Minute // so that there is something to cancel
				m.publish()
				resp, err := m.http.Do(m.request(c.method, "http://product/", nil))
				if err != nil {
					t.Fatal(err)
				}
				if c.end == nil {
					resp.Body = http.NoBody // not even Close is needed
				} else {
					synctest.Wait()
					if m.seen.classes() != "" || m.pool.Endpoints()[0].Stats.Pending() != 1 {
						t.Errorf("settled before the end of the body: %q", m.seen.classes())
					}
					c.end(resp.Body)
				}
				if got := m.seen.classes(); got != c.want || m.seen.finished() != 1 {
					t.Errorf("verdict %q, %d calls finished; want %q, 1", got, m.seen.finished(), c.want)
				}
				resp.Body.Close()
				resp.Body.Close()
				if n := len(m.seen.attempts); n != 1 {
					t.Errorf("settled %d times", n)
				}
				m.idle()
			})
		})
	}
}

// The per-try timeout covers the body, and does not end it before its time.
func TestPerTryTimeoutCoversTheBody(t *testing.T) {
	bothProtocols(t, func(t *testing.T, m *mesh, serve func(string, http.HandlerFunc) *listener) {
		serve("a", func(w http.ResponseWriter, r *http.Request) {
			for range 10 {
				_, _ = io.WriteString(w, "x")
				_ = http.NewResponseController(w).Flush()
				select {
				case <-time.After(100 * time.Millisecond):
				case <-r.Context().Done():
					return
				}
			}
		})
		for timeout, want := range map[time.Duration]int{2 * time.Second: 10, 450 * time.Millisecond: 5} {
			m.plan.Retry.PerTryTimeout = timeout
			m.publish()
			_, body, err := m.get("http://product/")
			if len(body) != want || (want < 10) != errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("timeout %v: %q, %v", timeout, body, err)
			}
		}
		m.idle()
	})
}

func TestConnectionsSurviveDiscardedAnswers(t *testing.T) {
	bothProtocols(t, func(t *testing.T, m *mesh, serve func(string, http.HandlerFunc) *listener) {
		serve("a", answer(503))
		serve("b", ok)
		m.plan.Retry.On.AddStatus(503, 503)
		m.plan.Retry.PerTryTimeout = time.Second
		m.publish()
		for range 5 {
			m.mustGet("http://product/")
		}
		if a, b := m.network.dialled("a:80"), m.network.dialled("b:80"); a != 1 || b != 1 {
			t.Errorf("dialled a %d and b %d times in 5 calls, want once each", a, b)
		}
		if m.specs[0].HTTP2 {
			return
		}
		// The control: an answer too long to drain costs its connection.
		m.start(m.network.listen("a:80"), func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(503)
			_, _ = w.Write(make([]byte, 1<<20))
		})
		m.client.http1.CloseIdleConnections()
		synctest.Wait()
		for range 3 {
			m.mustGet("http://product/")
		}
		if a := m.network.dialled("a:80"); a != 4 {
			t.Errorf("dialled a %d times, want 1 + 3", a)
		}
		m.idle()
	})
}

// An answer that does not end must not hold up the next try.
func TestDiscardDoesNotWait(t *testing.T) {
	bothProtocols(t, func(t *testing.T, m *mesh, serve func(string, http.HandlerFunc) *listener) {
		serve("a", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(503)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		})
		serve("b", ok)
		m.plan.Retry.On.AddStatus(503, 503)
		m.publish()
		start := time.Now()
		m.mustGet("http://product/")
		if d := time.Since(start); d > time.Second {
			t.Errorf("the call took %v", d)
		}
		m.idle()
	})
}

func TestTrailers(t *testing.T) {
	bothProtocols(t, func(t *testing.T, m *mesh, serve func(string, http.HandlerFunc) *listener) {
		var got http.Header
		serve("a", func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			got = r.Trailer
			w.Header().Set("Trailer", "X-After")
			_, _ = io.WriteString(w, "body")
			w.Header().Set("X-After", "there")
		})
		m.publish()
		r := m.request("POST", "http://product/", once("x"))
		r.Trailer = http.Header{"X-Mine": {"sent"}}
		resp, err := m.http.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.Trailer.Get("X-After") != "there" || got.Get("X-Mine") != "sent" {
			t.Errorf("trailers: response %v, request %v", resp.Trailer, got)
		}
	})
}

func TestGzipIsTransparent(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		m.serve("a", func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, r.Header.Get("Accept-Encoding"))
		})
		m.publish()
		if got := m.mustGet("http://product/"); got != "gzip" {
			t.Errorf("Accept-Encoding %q, want gzip as from http.DefaultTransport", got)
		}
	})
}

func switchProtocols(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") == "" {
		w.WriteHeader(http.StatusUpgradeRequired)
		return
	}
	time.Sleep(3 * time.Second)
	w.Header().Set("Connection", "Upgrade")
	w.Header().Set("Upgrade", "echo")
	w.WriteHeader(http.StatusSwitchingProtocols)
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	defer c.Close()
	for {
		line, err := rw.ReadString('\n')
		if err != nil || line == "bye\n" {
			return
		}
		_, _ = c.Write([]byte("echo " + line))
	}
}

func TestUpgrade(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		l := m.serve("a", NewServer(m.engine.NewInbound(noRecorders), "product.default", nil).Handler(http.HandlerFunc(switchProtocols)).ServeHTTP)
		m.plan.Retry.PerTryTimeout, m.plan.Retry.Timeout = time.Second, 2*time.Second
		m.publish()
		r := m.request("GET", "http://product/", nil)
		r.Header.Set("Connection", "keep-alive, Upgrade")
		r.Header.Set("Upgrade", "echo")
		resp, err := m.http.Do(r)
		if err != nil || resp.StatusCode != 101 {
			t.Fatalf("%v, %v", resp, err)
		}
		rw, isWriter := resp.Body.(io.ReadWriteCloser)
		if !isWriter {
			t.Fatalf("the body of a 101 is a %T, which cannot be written to", resp.Body)
		}
		lines := bufio.NewReader(rw)
		for _, want := range []string{"echo one\n", "echo two\n"} {
			time.Sleep(time.Minute) // a call that asks for an upgrade has no timeout of a rule, neither before nor after
			if _, err := io.WriteString(rw, strings.TrimPrefix(want, "echo ")); err != nil {
				t.Fatal(err)
			}
			if got, err := lines.ReadString('\n'); got != want || err != nil {
				t.Errorf("got %q, %v; want %q", got, err, want)
			}
		}
		m.specs = nil
		m.publish() // an endpoint that is removed keeps the connection in use
		if _, err := io.WriteString(rw, "three\n"); err != nil {
			t.Errorf("removing the endpoint broke an upgraded connection: %v", err)
		}
		if got, _ := lines.ReadString('\n'); got != "echo three\n" {
			t.Errorf("got %q", got)
		}
		if m.seen.classes() != "" {
			t.Errorf("settled before Close: %s", m.seen.classes())
		}
		if _, ok := rw.(interface{ CloseWrite() error }); !ok {
			t.Error("CloseWrite is lost")
		}
		_, _ = io.WriteString(rw, "bye\n")
		if b, err := io.ReadAll(lines); len(b) > 0 || err != nil || m.seen.classes() != "" {
			t.Errorf("at EOF: %q, %v, %s; want nothing, and not to have settled: there is still a way to write", b, err, m.seen.classes())
		}
		rw.Close()
		synctest.Wait()
		if got := m.seen.classes(); got != "101 success" || l.open() != 0 {
			t.Errorf("after Close: %q, %d connections open", got, l.open())
		}
	})
}

// A reverse proxy over the mesh is what a gateway does: it needs upgrades, trailers and errors as net/http has them.
func TestReverseProxyUpgrade(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		m.serve("a", switchProtocols)
		m.publish()
		front := m.network.listen("front:80")
		m.start(front, (&httputil.ReverseProxy{Transport: m.http.Transport, Rewrite: func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = "http", "product" }}).ServeHTTP)
		c, err := front.dial()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		br := bufio.NewReader(c)
		resp, err := http.ReadResponse(br, nil)
		if err != nil || resp.StatusCode != 101 {
			t.Fatalf("%v, %v", resp, err)
		}
		_, _ = io.WriteString(c, "hi\n")
		if got, err := br.ReadString('\n'); got != "echo hi\n" {
			t.Errorf("got %q, %v", got, err)
		}
		c.Close()
		synctest.Wait()
		m.idle()
	})
}

// An upload may go to another try as long as nobody read it.
func TestUpload(t *testing.T) {
	type state struct{ Reads, Closed int32 }
	for _, c := range []struct {
		name  string
		use   func(u *upload) bool
		again bool
		want  state
	}{
		{"untouched", func(u *upload) bool { return u.revoke() }, true, state{0, 0}},
		{"closed", func(u *upload) bool { u.Close(); return u.revoke() }, true, state{0, 0}},
		{"revoked twice", func(u *upload) bool { first := u.revoke(); return u.revoke() && first }, true, state{0, 0}},
		{"revoked, then used", func(u *upload) bool {
			again := u.revoke()
			if _, err := u.Read(make([]byte, 1)); err == nil {
				return false
			}
			u.Close()
			return again
		}, true, state{0, 0}},
		{"read", func(u *upload) bool { _, _ = u.Read(make([]byte, 1)); return u.revoke() }, false, state{1, 0}},
		{"read and closed", func(u *upload) bool { _, _ = u.Read(make([]byte, 1)); u.Close(); return u.revoke() }, false, state{1, 1}},
		{"released", func(u *upload) bool { u.release(); u.Close(); return u.revoke() }, false, state{0, 1}},
		{"closed, then released", func(u *upload) bool { u.Close(); u.release(); return u.revoke() }, false, state{0, 1}},
		{"released, then read", func(u *upload) bool { u.release(); _, _ = u.Read(make([]byte, 1)); return u.revoke() }, false, state{1, 0}},
	} {
		b := &closeCounter{Reader: strings.NewReader("x")}
		again := c.use(&upload{ReadCloser: b})
		if diff := cmp.Diff(c.want, state{b.reads.Load(), b.closed.Load()}); diff != "" || again != c.again {
			t.Errorf("%s: can go to another try %v, want %v\n%s", c.name, again, c.again, diff)
		}
	}
}

// A server that refuses before it wants the body.
func TestUnwantedBodyIsClosed(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		m.serve("a", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusForbidden) })
		m.publish()
		body := &closeCounter{Reader: strings.NewReader("x")}
		r := m.request("POST", "http://product/", body)
		r.Header.Set("Expect", "100-continue")
		code, _, err := m.do(r)
		synctest.Wait()
		if code != http.StatusForbidden || body.reads.Load() != 0 || body.closed.Load() == 0 {
			t.Errorf("%d, %v; body read %d times, closed %d times", code, err, body.reads.Load(), body.closed.Load())
		}
	})
}

// However a call ends, its request body is closed.
func TestRequestBodyIsClosed(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{"200": answer(200), "500": answer(500), "reset": reset, "nobody": nil} {
		for _, replayable := range []bool{true, false} {
			bubble(t, func(t *testing.T, m *mesh) {
				if handler != nil {
					m.serve("a", handler)
				} else {
					m.down("a")
				}
				m.publish()
				body := &closeCounter{Reader: strings.NewReader("x")}
				r := m.request("POST", "http://product/", body)
				if replayable {
					r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("x")), nil }
				}
				_, _, _ = m.do(r)
				synctest.Wait()
				if body.closed.Load() == 0 {
					t.Errorf("%s, replayable %v: the body was not closed", name, replayable)
				}
				m.idle()
			})
		}
	}
}

// A short answer that does not come to its end does not hold up the next attempt either.
func TestDiscardDoesNotWaitForAShortBody(t *testing.T) {
	bothProtocols(t, func(t *testing.T, m *mesh, serve func(string, http.HandlerFunc) *listener) {
		serve("a", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "10")
			w.WriteHeader(503)
			_ = http.NewResponseController(w).Flush()
			select {
			case <-r.Context().Done():
			case <-time.After(time.Minute):
			}
		})
		serve("b", ok)
		m.plan.Retry.On.AddStatus(503, 503)
		m.publish()
		start := time.Now()
		m.mustGet("http://product/")
		if d := time.Since(start); d > time.Second {
			t.Errorf("the retry waited %v for the body of the discarded answer", d)
		}
	})
}

// HTTP/2 has no Upgrade: that is no fault of the server.
func TestUpgradeToHTTP2SaysNothingOfTheServer(t *testing.T) {
	bothProtocols(t, func(t *testing.T, m *mesh, serve func(string, http.HandlerFunc) *listener) {
		serve("a", ok)
		m.publish()
		r := m.request("GET", "http://product/", nil)
		r.Header.Set("Connection", "Upgrade")
		r.Header.Set("Upgrade", "websocket")
		code, _, err := m.do(r)
		if classes := m.seen.classes(); classes == "" || strings.Contains(classes, "failure") {
			t.Errorf("status %d, error %v; verdicts %q", code, err, classes)
		}
	})
}

// A panic of GetBody passes through and leaves nothing behind.
func TestPanicOfGetBody(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		m.serve("a", answer(503))
		m.serve("b", answer(503))
		m.plan.Retry.On.AddStatus(503, 503)
		m.publish()
		r := m.request("PUT", "http://product/", strings.NewReader("x"))
		r.GetBody = func() (io.ReadCloser, error) { panic("bug") }
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic was swallowed, or GetBody not called")
				}
			}()
			_, _, _ = m.do(r)
		}()
		m.idle()
	})
}
