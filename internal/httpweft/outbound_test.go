package httpweft

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weftmesh/weft/internal/callerr"
	"github.com/weftmesh/weft/internal/engine"
	"github.com/weftmesh/weft/routing"
)

// once hides everything but Read from net/http, so that there is no GetBody.
func once(s string) io.Reader { return struct{ io.Reader }{strings.NewReader(s)} }

func TestRequestArrivesAsWithoutWeft(t *testing.T) {
	type request struct {
		Method, Host, URI, Body string
		Length                  int64
		Header                  http.Header
		Encoding                []string
	}
	bodies := map[string]func() io.Reader{
		"none":         func() io.Reader { return nil },
		"replayable":   func() io.Reader { return strings.NewReader("hello") },
		"unreplayable": func() io.Reader { return once("hello") },
	}
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "CONNECT", "PURGE", "odd~method"} {
		for kind, body := range bodies {
			t.Run(method+" "+kind, func(t *testing.T) {
				bubble(t, func(t *testing.T, m *mesh) {
					var got []request
					m.serve("a", func(w http.ResponseWriter, r *http.Request) {
						b, _ := io.ReadAll(r.Body)
						got = append(got, request{r.Method, r.Host, r.RequestURI, string(b), r.ContentLength, r.Header, r.TransferEncoding})
					})
					m.publish()
					// The control is the same request through a transport of net/http with its default settings.
					bare := &http.Transport{DialContext: m.client.dialKey}
					defer bare.CloseIdleConnections()
					direct := m.request(method, "http://product.default.weft/items/a%2fb?q=1&r=%20", body())
					direct.URL.Host, direct.Host = m.peerOf("a").key, "product.default.weft"
					for _, send := range []func() (*http.Response, error){
						func() (*http.Response, error) { return bare.RoundTrip(direct) },
						func() (*http.Response, error) {
							return m.http.Do(m.request(method, "http://product.default.weft/items/a%2fb?q=1&r=%20", body()))
						},
					} {
						resp, err := send()
						if err != nil {
							t.Fatal(err)
						}
						resp.Body.Close()
					}
					if diff := cmp.Diff(got[0], got[1]); diff != "" {
						t.Errorf("bare net/http and Weft differ:\n%s", diff)
					}
				})
			})
		}
	}
}

// peerOf returns the peer of an instance, as if a call had been made.
func (m *mesh) peerOf(id string) *peer {
	m.t.Helper()
	for _, ep := range m.service.Plan().Protocols[engine.HTTP].Endpoints {
		if ep.ID == id {
			return m.client.target(m.service).find(ep)
		}
	}
	m.t.Fatalf("no endpoint %q", id)
	return nil
}

func TestWhatIsNotOursPassesThrough(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		m.serve("a", ok)
		m.publish()
		for _, host := range []string{"example.com", "localhost", "127.0.0.1:80", "product:80", "unknown", "other.shop.weft"} {
			if code, body, err := m.get("http://" + host + "/"); code != 299 || body != "outside "+host {
				t.Errorf("GET %s = %d %q, %v; want the base transport to answer", host, code, body, err)
			}
		}
		if code, _, err := m.get("https://unknown/"); code != 299 {
			t.Errorf("GET https://unknown = %d, %v; want the base transport to answer", code, err)
		}
		m.mustGet("http://product/")
		if got := m.seen.finished(); got != 1 {
			t.Errorf("the engine saw %d calls, want the last alone", got)
		}
	})
}

func TestWhatCannotBeCalled(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		m.publish()
		var e *callerr.Error
		if _, _, err := m.get("https://product/"); !errors.As(err, &e) || e.Reason != "Misused" || !strings.Contains(e.Error(), "http://product") {
			t.Errorf("https: %v; want Misused with advice", err)
		}
		if _, _, err := m.get("http://broken.weft/"); err == nil || !strings.Contains(err.Error(), "the directory is broken") {
			t.Errorf("the directory's error is lost: %v", err)
		}
		if _, _, err := m.get("http://product/"); !errors.As(err, &e) || e.Reason != "NoInstance" || !e.Local {
			t.Errorf("no instance: %v", err)
		}
		body := &closeCounter{Reader: strings.NewReader("x")}
		if _, _, err := m.do(m.request("POST", "http://product/", body)); err == nil || body.closed.Load() == 0 {
			t.Errorf("refused with %v, and the body was closed %d times; want it closed", err, body.closed.Load())
		}
		body = &closeCounter{Reader: strings.NewReader("x")}
		if _, _, err := m.do(m.request("POST", "http://broken/", body)); err == nil || body.closed.Load() == 0 {
			t.Errorf("no service, %v, and the body was closed %d times; want it closed", err, body.closed.Load())
		}
		m.client.Close()
		if _, _, err := m.get("http://product/"); !errors.As(err, &e) || e.Reason != "Closed" || !e.Local {
			t.Errorf("after Close: %v", err)
		}
		if code, _, _ := m.get("http://example.com/"); code != 299 {
			t.Errorf("after Close the base transport answers %d, want 299", code)
		}
	})
}

type closeCounter struct {
	io.Reader
	closed, reads atomic.Int32
}

func (c *closeCounter) Read(p []byte) (int, error) {
	if c.closed.Load() > 0 {
		return 0, http.ErrBodyReadAfterClose
	}
	c.reads.Add(1)
	return c.Reader.Read(p)
}

func (c *closeCounter) Close() error {
	c.closed.Add(1)
	return nil
}

func TestRetries(t *testing.T) {
	body := func() io.Reader { return strings.NewReader("hello") }
	unreplayable := func() io.Reader { return once("hello") }
	none := func() io.Reader { return nil }
	for _, c := range []struct {
		name   string
		method string
		body   func() io.Reader
		first  http.HandlerFunc // nil: nobody listens
		want   int              // status, 0: an error
		tries  int
	}{
		{"GET and 503", "GET", none, answer(503), 200, 2},
		{"PUT and 503", "PUT", body, answer(503), 200, 2},
		{"DELETE and 503", "DELETE", none, answer(503), 200, 2},
		{"PUT that cannot be replayed and 503", "PUT", unreplayable, answer(503), 503, 1},
		{"POST and 503", "POST", body, answer(503), 503, 1},
		{"PATCH and 503", "PATCH", none, answer(503), 503, 1},
		{"GET and 500, which no condition names", "GET", none, answer(500), 500, 1},
		{"GET and 404", "GET", none, answer(404), 404, 1},
		{"GET and a lost connection", "GET", none, reset, 200, 2},
		{"POST and a lost connection", "POST", body, reset, 0, 1},
		{"GET not sent", "GET", none, nil, 200, 2},
		{"POST not sent", "POST", body, nil, 200, 2},
		{"POST not sent, body untouched, no GetBody", "POST", unreplayable, nil, 200, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, m *mesh) {
				if c.first != nil {
					m.serve("a", c.first)
				} else {
					m.down("a")
				}
				var got, attempt string
				m.serve("b", func(w http.ResponseWriter, r *http.Request) {
					b, _ := io.ReadAll(r.Body)
					got, attempt = string(b), r.Header.Get("Weft-Attempt")
				})
				m.plan.Retry.On.AddStatus(503, 503)
				m.plan.Retry.On.Reset = true
				m.publish()
				code, _, err := m.do(m.request(c.method, "http://product/", c.body()))
				if code != c.want || (err == nil) != (c.want != 0) {
					t.Errorf("got %d, %v; want %d", code, err, c.want)
				}
				if n := len(m.seen.attempts); n != c.tries {
					t.Errorf("%d attempts, want %d: %s", n, c.tries, m.seen.classes())
				}
				if c.tries > 1 {
					want := ""
					if c.body() != nil {
						want = "hello"
					}
					if got != want || attempt != "2" {
						t.Errorf("the second try brought %q as attempt %q, want %q as 2", got, attempt, want)
					}
				}
				m.idle()
			})
		})
	}
}

// reset takes the request and closes the connection.
func reset(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	panic(http.ErrAbortHandler)
}

func TestTriedEndpointsAreExcluded(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		tried := ""
		for _, id := range []string{"a", "b", "c"} {
			m.serve(id, func(w http.ResponseWriter, r *http.Request) {
				tried += id
				w.WriteHeader(503)
			})
		}
		m.plan.Retry.On.AddStatus(503, 503)
		m.publish()
		// The balancer of this test always prefers a, as the control shows: two calls of one attempt each.
		for _, c := range []struct{ methods, want string }{{"GET", "abc"}, {"POST POST", "aa"}} {
			tried = ""
			for method := range strings.FieldsSeq(c.methods) {
				if code, _, err := m.do(m.request(method, "http://product/", nil)); code != 503 {
					t.Errorf("got %d, %v; want the last answer, 503", code, err)
				}
			}
			if tried != c.want {
				t.Errorf("%s tried %q, want %q", c.methods, tried, c.want)
			}
		}
	})
}

func TestAllAttemptsFailed(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		m.serve("a", reset)
		m.serve("b", reset)
		m.down("c")
		m.plan.Retry.On.Reset = true
		m.publish()
		_, _, err := m.get("http://product/items")
		var e *callerr.Error
		if !errors.As(err, &e) || e.Reason != "AttemptsFailed" || e.Local || len(e.Attempts) != 3 || e.Method != "GET /items" || e.Service != "product.default" {
			t.Fatalf("got %#v", err)
		}
		fates := map[string]string{}
		for _, a := range e.Attempts {
			fates[a.Endpoint+" "+a.Address] = a.Fate
		}
		if fates["a a:80"] != "EOF" || fates["c c:80"] != "not sent: dial c:80: connection refused" {
			t.Errorf("fates: %q", fates)
		}
		if strings.Contains(e.Error(), keySuffix) {
			t.Errorf("the key of a peer leaks: %s", e)
		}
		m.idle()
	})
}

func TestTimeouts(t *testing.T) {
	hang := func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	bubble(t, func(t *testing.T, m *mesh) {
		m.serve("a", hang)
		m.serve("b", hang)
		m.serve("c", hang)
		m.plan.Retry.PerTryTimeout = 100 * time.Millisecond
		m.plan.Retry.On.Timeout = true
		m.publish()
		start := time.Now()
		_, _, err := m.get("http://product/")
		var e *callerr.Error
		if !errors.As(err, &e) || e.Reason != "AttemptsFailed" || !errors.Is(err, context.DeadlineExceeded) || !e.Timeout() {
			t.Errorf("per-try timeout: %v", err)
		}
		if d := time.Since(start); len(e.Attempts) != 3 || d < 300*time.Millisecond || d > 500*time.Millisecond {
			t.Errorf("%d attempts in %v, want 3 of 100 ms and two pauses: %v", len(e.Attempts), d, err)
		}

		m.plan.Retry.Timeout, m.plan.RetryRule = 150*time.Millisecond, "slow@1-2"
		m.publish()
		start = time.Now()
		_, _, err = m.get("http://product/")
		if !errors.As(err, &e) || e.Reason != "Timeout" || e.Rule != "slow@1-2" || !e.Timeout() || time.Since(start) != 150*time.Millisecond {
			t.Errorf("total timeout: %v after %v, want Timeout of slow@1-2 after 150ms", err, time.Since(start))
		}

		m.plan.Retry.Timeout, m.plan.Retry.PerTryTimeout = 0, 0
		m.publish()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		start = time.Now()
		_, _, err = m.do(m.request("GET", "http://product/", nil).WithContext(ctx))
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 50*time.Millisecond {
			t.Errorf("the caller's deadline: %v after %v", err, time.Since(start))
		}
	})
}

// A POST to an endpoint that cannot be reached within the per-try timeout was provably not sent. The control has the
// connection and waits for an answer: it may have been sent.
func TestTimeoutWhileDiallingIsNotSent(t *testing.T) {
	for _, reached := range []bool{false, true} {
		bubble(t, func(t *testing.T, m *mesh) {
			m.serve("a", func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				<-r.Context().Done()
			})
			m.plan.Retry.PerTryTimeout = 100 * time.Millisecond
			m.plan.Retry.On.Timeout = true
			m.publish()
			if !reached {
				m.network.delay = time.Second
			}
			_, _, err := m.do(m.request("POST", "http://product/", once("x")))
			var e *callerr.Error
			if !errors.As(err, &e) {
				t.Fatal(err)
			}
			if want := map[bool]int{false: 3, true: 1}[reached]; len(e.Attempts) != want {
				t.Errorf("reached %v: %d attempts, want %d: %v", reached, len(e.Attempts), want, err)
			}
			time.Sleep(2 * time.Second) // the dials end
		})
	}
}

// A connection that the server closed while it was idle: net/http notices that nothing was written and dials
// again. When that fails the POST has provably not been sent.
func TestPostAfterTheInstanceWentAway(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		a := m.serve("a", named("a"))
		m.publish()
		m.mustGet("http://product/")
		m.network.mu.Lock()
		delete(m.network.listeners, a.address)
		m.network.mu.Unlock()
		p := m.peerOf("a")
		p.mu.Lock()
		for c := range p.conns {
			c.Conn.Close() // breaks it without net/http or the peer having noticed
		}
		p.mu.Unlock()
		m.serve("b", named("b"))
		m.publish()
		if _, body, err := m.do(m.request("POST", "http://product/", strings.NewReader("x"))); err != nil || body != "b" {
			t.Errorf("POST = %q, %v; want b", body, err)
		}
		if got := m.seen.classes(); got != "200 success, 0 failure, 200 success" {
			t.Errorf("verdicts: %s", got)
		}
	})
}

// The control of the test above: net/http repeats a POST with an Idempotency-Key though the server had it, so a
// failed second connection proves nothing.
func TestRepeatedByNetHTTPMayHaveBeenSent(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		var a *listener
		requests := 0
		a = m.serve("a", func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			if requests++; requests > 1 {
				a.Close()
				panic(http.ErrAbortHandler)
			}
		})
		m.serve("b", named("b"))
		m.publish()
		m.mustGet("http://product/")
		r := m.request("POST", "http://product/", strings.NewReader("x"))
		r.Header.Set("Idempotency-Key", "1")
		_, _, err := m.do(r)
		var e *callerr.Error
		if !errors.As(err, &e) || len(e.Attempts) != 1 || e.Attempts[0].Fate != "dial a:80: connection refused" || requests != 2 {
			t.Errorf("%d requests, %v; want one attempt that may have been sent", requests, err)
		}
	})
}

// Whoever follows Request.Cancel stops when the call is over. The bubble fails otherwise.
func TestCancelIsNotFollowedForEver(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{"body": ok, "no body": answer(204), "reset": reset} {
		bubble(t, func(t *testing.T, m *mesh) {
			m.serve("a", handler)
			m.publish()
			r := m.request("POST", "http://product/", nil).WithContext(context.Background())
			r.Cancel = make(chan struct{}) //nolint:staticcheck // still honoured by net/http
			if _, _, err := m.do(r); (err != nil) != (name == "reset") {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}

// http.Client tells of its Timeout by Request.Cancel too, at the same moment. It is a timeout all the same.
func TestClientTimeoutCountsAgainstTheServer(t *testing.T) {
	for range 30 {
		bubble(t, func(t *testing.T, m *mesh) {
			m.serve("a", func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
			m.publish()
			m.http.Timeout = time.Second
			_, _, err := m.get("http://product/")
			if got := m.seen.classes(); got != "0 failure" {
				t.Errorf("verdict %q after %v, want a failure", got, err)
			}
		})
	}
}

func TestCancel(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		m.serve("a", func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		m.plan.Retry.On.Reset, m.plan.Retry.On.Timeout = true, true
		m.publish()
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		start := time.Now()
		_, _, err := m.do(m.request("GET", "http://product/", nil).WithContext(ctx))
		if !errors.Is(err, context.Canceled) || time.Since(start) != time.Second {
			t.Errorf("got %v after %v, want canceled after 1s", err, time.Since(start))
		}
		if got := m.seen.classes(); got != "0 ignorable" {
			t.Errorf("verdicts %q: a cancel says nothing about the server and is not retried", got)
		}
		if _, _, err = m.do(m.request("GET", "http://product/", nil).WithContext(ctx)); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled before: %v", err)
		}
		r := m.request("GET", "http://product/", nil)
		stop := make(chan struct{})
		r.Cancel = stop //nolint:staticcheck // still honoured by net/http
		time.AfterFunc(time.Second, func() { close(stop) })
		if _, err := m.http.Transport.RoundTrip(r); !errors.Is(err, context.Canceled) {
			t.Errorf("Request.Cancel: %v", err)
		}
		m.idle()
	})
}

// What net/http itself refuses is the caller's mistake: nobody is blamed, nothing is retried, the error is as without
// Weft.
func TestMalformedRequests(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*http.Request)
	}{
		{"header value", func(r *http.Request) { r.Header.Set("X", "a\nb") }},
		{"header name", func(r *http.Request) { r.Header["a b"] = []string{"x"} }},
		{"method", func(r *http.Request) { r.Method = "a b" }},
		{"nil header", func(r *http.Request) { r.Header = nil }},
		{"trailer", func(r *http.Request) { r.Trailer = http.Header{"a b": nil} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, m *mesh) {
				m.serve("a", ok)
				m.plan.Retry.On.Reset = true
				m.publish()
				transport := m.client.Transport(&http.Transport{DialContext: m.network.dial})
				send := func(url string) (int32, error) {
					body := &closeCounter{Reader: strings.NewReader("x")}
					r := m.request("PUT", url, body)
					c.change(r)
					resp, err := transport.RoundTrip(r)
					if err == nil {
						resp.Body.Close()
					}
					return body.closed.Load(), err
				}
				_, bare := send("http://example.com/")
				closed, err := send("http://product/")
				if bare == nil || err == nil || err.Error() != bare.Error() || closed == 0 {
					t.Errorf("Weft says %v, net/http %v; body closed %d times", err, bare, closed)
				}
				for _, a := range m.seen.attempts {
					if a.Class.String() != "ignorable" || a.Number != 1 {
						t.Errorf("attempt %+v, want it to be ignored and not repeated", a)
					}
				}
				m.idle()
			})
		})
	}
	bubble(t, func(t *testing.T, m *mesh) {
		m.serve("a", answer(503))
		m.plan.Retry.On.AddStatus(503, 503)
		m.publish()
		r := m.request("PUT", "http://product/", strings.NewReader("x"))
		r.GetBody = func() (io.ReadCloser, error) { return nil, errors.New("the file is gone") }
		if _, _, err := m.do(r); err == nil || !strings.Contains(err.Error(), "the file is gone") {
			t.Errorf("GetBody failed and the caller got %v", err)
		}
		m.idle()
	})
}

func TestCallersRequestIsNeverChanged(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		m.serve("a", answer(503))
		m.serve("b", ok)
		m.plan.Retry.On.AddStatus(503, 503)
		m.publish()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // wire words are added
		defer cancel()
		r := m.request("PUT", "http://user:pw@product/a?b=c", strings.NewReader("x")).WithContext(ctx)
		r.Header.Set("X-Mine", "1")
		before, header, address := *r, maps.Clone(r.Header), *r.URL
		for range 2 {
			r.Body, _ = r.GetBody()
			before.Body = r.Body
			resp, err := m.http.Transport.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.Request != r {
				t.Errorf("the response belongs to %v, not to the caller's request", resp.Request.URL)
			}
		}
		if diff := cmp.Diff(header, r.Header); diff != "" {
			t.Errorf("headers changed:\n%s", diff)
		}
		if *r.URL != address || r.Host != before.Host || r.Body != before.Body || r.URL != before.URL || r.Method != before.Method || r.Context() != ctx {
			t.Errorf("the request changed: %+v", r)
		}
	})
}

func TestWireWords(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		var got http.Header
		m.serve("a", func(w http.ResponseWriter, r *http.Request) { got = r.Header })
		m.publish()
		ctx, cancel := context.WithTimeout(engine.WithValues(t.Context(), engine.Values{Criticality: engine.Sheddable}), 1500*time.Millisecond)
		defer cancel()
		if _, _, err := m.do(m.request("GET", "http://product/", nil).WithContext(ctx)); err != nil {
			t.Fatal(err)
		}
		want := map[string]string{"Weft-Deadline": "1500", "Weft-Criticality": "sheddable", "Weft-Attempt": ""}
		for name, value := range want {
			if got.Get(name) != value {
				t.Errorf("%s = %q, want %q", name, got.Get(name), value)
			}
		}
		m.mustGet("http://product/")
		for name := range got {
			if isWireWord(name) {
				t.Errorf("a plain call brings %s", name)
			}
		}
	})
}

func TestAttributes(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		for _, id := range []string{"v1", "v2"} {
			m.serve(id, named(id))
			m.specs[len(m.specs)-1].Labels = map[string]string{"version": id}
		}
		exact := func(s string) routing.StringMatch { return routing.StringMatch{Exact: &s} }
		host := exact("product.default.weft")
		long := "x-" + strings.Repeat("long-", 20)
		m.rules.Subsets = map[string]map[string]string{"v1": {"version": "v1"}, "v2": {"version": "v2"}}
		m.rules.Rules = []routing.Rule{
			{Match: []routing.Match{{Headers: map[string]routing.StringMatch{"x-user-tier": exact("gold")}}, {Cookies: map[string]routing.StringMatch{"beta": exact("1")}},
				{Query: map[string]routing.StringMatch{"v": exact("2")}}, {Headers: map[string]routing.StringMatch{"host": host}},
				{Headers: map[string]routing.StringMatch{long: exact("1")}}, {Path: &routing.StringMatch{Exact: new("/two")}}, {Method: &routing.StringMatch{Exact: new("PUT")}}},
				Split: []routing.Share{{Subset: "v2"}}},
			{Split: []routing.Share{{Subset: "v1"}}},
		}
		m.publish()
		for _, c := range []struct {
			method, url, header, value, want string
		}{
			{"GET", "http://product/", "", "", "v1"},
			{"GET", "http://product", "X-User-Tier", "gold", "v2"},
			{"GET", "http://product/", "X-User-Tier", "silver", "v1"},
			{"GET", "http://product/", "Cookie", "a=b; beta=1", "v2"},
			{"GET", "http://product/", "Cookie", "beta=0", "v1"},
			{"GET", "http://product/?v=2", "", "", "v2"},
			{"GET", "http://product/?v=1", "", "", "v1"},
			{"GET", "http://product.default.weft/", "", "", "v2"},
			{"GET", "http://product/", long, "1", "v2"},
			{"GET", "http://product/two", "", "", "v2"},
			{"PUT", "http://product/", "", "", "v2"},
		} {
			r := m.request(c.method, c.url, nil)
			if c.header != "" {
				r.Header.Set(c.header, c.value)
			}
			if _, body, err := m.do(r); err != nil || body != c.want {
				t.Errorf("%s %s with %s: %s went to %q, %v; want %s", c.method, c.url, c.header, c.value, body, err, c.want)
			}
		}
	})
}

func TestLargeBodiesAreStreamed(t *testing.T) {
	const size = 10 << 20
	bubble(t, func(t *testing.T, m *mesh) {
		m.serve("a", func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).EnableFullDuplex()
			_, _ = io.Copy(w, r.Body)
		})
		m.publish()
		for _, body := range []io.Reader{bytes.NewReader(make([]byte, size)), struct{ io.Reader }{io.LimitReader(zeros{}, size)}} {
			resp, err := m.http.Do(m.request("POST", "http://product/", body))
			if err != nil {
				t.Fatal(err)
			}
			n, err := io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if n != size || err != nil {
				t.Errorf("%d bytes came back, %v; want %d", n, err, size)
			}
		}
		m.idle()
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestRedirects(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		m.serve("a", func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/relative":
				http.Redirect(w, r, "/end", http.StatusFound)
			case "/absolute":
				http.Redirect(w, r, "http://product.weft/end", http.StatusTemporaryRedirect)
			case "/out":
				http.Redirect(w, r, "http://example.com/", http.StatusFound)
			default:
				b, _ := io.ReadAll(r.Body)
				fmt.Fprintf(w, "end %s %s", r.Host, b)
			}
		})
		m.publish()
		for path, want := range map[string]string{"/relative": "end product x", "/absolute": "end product.weft x", "/out": "outside example.com"} {
			method := "PUT"
			if path != "/absolute" {
				want = strings.TrimSuffix(want, "x") // 302 turns PUT into GET
			}
			resp, err := m.http.Do(m.request(method, "http://product"+path, strings.NewReader("x")))
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if string(b) != want {
				t.Errorf("%s: %q, want %q", path, b, want)
			}
			if strings.Contains(resp.Request.URL.String(), keySuffix) {
				t.Errorf("%s: the address of an endpoint leaks: %s", path, resp.Request.URL)
			}
		}
	})
}

// Errors of an http.Client have the same face with Weft and without.
func TestClientErrorsAsWithoutWeft(t *testing.T) {
	hang := func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	slowBody := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "a")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
	type face struct {
		Canceled, Deadline, Timeout bool
		Body                        string
		After                       time.Duration
	}
	for _, c := range []struct {
		name    string
		handler http.HandlerFunc
		timeout time.Duration
		cancel  time.Duration
	}{
		{"Client.Timeout before the header", hang, time.Second, 0},
		{"Client.Timeout within the body", slowBody, time.Second, 0},
		{"cancel before the header", hang, 0, time.Second},
		{"cancel within the body", slowBody, 0, time.Second},
		{"cancel before Client.Timeout", hang, 2 * time.Second, time.Second},
		{"no error", ok, time.Second, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, m *mesh) {
				m.serve("a", c.handler)
				m.plan.Retry.On.Timeout, m.plan.Retry.On.Reset = true, true
				m.publish()
				bare := &http.Transport{DialContext: m.network.dial}
				defer bare.CloseIdleConnections()
				see := func(rt http.RoundTripper, url string) face {
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					if c.cancel > 0 {
						time.AfterFunc(c.cancel, cancel)
					}
					start := time.Now()
					client := &http.Client{Transport: rt, Timeout: c.timeout}
					resp, err := client.Do(m.request("GET", url, nil).WithContext(ctx))
					var body []byte
					if err == nil {
						body, err = io.ReadAll(resp.Body)
						resp.Body.Close()
					}
					f := face{Canceled: errors.Is(err, context.Canceled), Deadline: errors.Is(err, context.DeadlineExceeded), Body: string(body), After: time.Since(start)}
					var u *url2
					if errors.As(err, &u) {
						f.Timeout = u.Timeout()
					}
					return f
				}
				want := see(bare, "http://a:80/")
				if diff := cmp.Diff(want, see(m.http.Transport, "http://product/")); diff != "" {
					t.Errorf("bare net/http and Weft differ:\n%s", diff)
				}
				if c.name != "no error" && !want.Canceled && !want.Deadline {
					t.Errorf("the case shows nothing: %+v", want)
				}
				m.idle()
			})
		})
	}
}

type url2 = url.Error
