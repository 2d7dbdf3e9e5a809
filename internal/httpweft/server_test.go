package httpweft

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weftmesh/weft/internal/engine"
	"github.com/weftmesh/weft/telemetry"
)

var noRecorders [engine.NumProtocols]telemetry.Recorder

// inbound is a callee with a recorder.
func inbound(rec telemetry.Recorder) *Server {
	recorders := noRecorders
	recorders[engine.HTTP] = rec
	return NewServer(engine.New(engine.Config{}).NewInbound(recorders), "product.default", nil)
}

func TestHandlerGetsTheCallersWords(t *testing.T) {
	var rec recording
	var deadline time.Time
	var values engine.Values
	h := inbound(&rec).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		deadline, _ = r.Context().Deadline()
		values = engine.ValuesFrom(r.Context())
		for name := range r.Header {
			if isWireWord(name) {
				t.Errorf("the handler sees %s", name)
			}
		}
		if r.Header.Get("X-Mine") != "1" {
			t.Error("the handler misses X-Mine")
		}
		w.WriteHeader(http.StatusTeapot)
	}))
	r := httptest.NewRequest("GET", "/a", nil)
	r.Header = http.Header{"X-Mine": {"1"}, "Weft-Deadline": {"60000"}, "Weft-Attempt": {"2"}, "Weft-Criticality": {"sheddable"}, "weft-odd": {"x"}}
	before := r.Header.Clone()
	start := time.Now()
	h.ServeHTTP(httptest.NewRecorder(), r)
	if d := deadline.Sub(start); d < 59*time.Second || d > 61*time.Second {
		t.Errorf("deadline in %v, want a minute", d)
	}
	if !values.Retried || values.Criticality != engine.Sheddable {
		t.Errorf("values %+v", values)
	}
	if diff := cmp.Diff(before, r.Header); diff != "" {
		t.Errorf("the server's request was changed:\n%s", diff)
	}
	if len(rec.calls) != 1 || rec.calls[0].Code != http.StatusTeapot || rec.calls[0].Method != "GET" {
		t.Errorf("recorded %+v", rec.calls)
	}
}

func TestLateCall(t *testing.T) {
	for method, wantBody := range map[string]bool{"GET": true, "HEAD": false} {
		var rec recording
		reached := false
		h := inbound(&rec).Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
		r := httptest.NewRequest(method, "/a", nil)
		r.Header.Set("Weft-Deadline", "0")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if reached || w.Code != http.StatusGatewayTimeout || w.Header().Get("Weft-Reason") != "DeadlineTooShort" || w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: reached %v, %d %v", method, reached, w.Code, w.Header())
		}
		if (w.Body.Len() > 0) != wantBody {
			t.Errorf("%s: body %q", method, w.Body)
		}
		if wantBody {
			var got problem
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			got.Detail = ""
			want := problem{Type: "about:blank", Title: "Gateway Timeout", Status: 504, Service: "product.default", Reason: "DeadlineTooShort"}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		}
		if len(rec.calls) != 1 || rec.calls[0].Class != telemetry.Ignorable || rec.calls[0].Reason != "DeadlineTooShort" {
			t.Errorf("recorded %+v", rec.calls)
		}
		// The control: with time left the call reaches its handler.
		r.Header.Set("Weft-Deadline", "60000")
		h.ServeHTTP(httptest.NewRecorder(), r)
		if !reached {
			t.Error("a call with time left did not reach its handler")
		}
	}
}

// Over the wire a refusal's reason keeps the caller from blaming the instance.
func TestLateCallEndToEnd(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		m.serve("a", inbound(nil).Handler(http.HandlerFunc(ok)).ServeHTTP)
		m.publish()
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Microsecond) // less than a millisecond is none on the wire
		defer cancel()
		r := m.request("GET", "http://product/", nil).WithContext(ctx)
		code, _, err := m.do(r)
		if code != 504 || m.seen.classes() != "504 ignorable" {
			t.Errorf("got %d, %v; verdict %q", code, err, m.seen.classes())
		}
	})
}

func TestRefusalWithRetryAfter(t *testing.T) {
	w := httptest.NewRecorder()
	inbound(nil).refuse(w, httptest.NewRequest("GET", "/", nil), &engine.Refusal{Reason: "RateLimited", RetryAfter: 1100 * time.Millisecond, Err: errors.New("too many")})
	if w.Code != 429 || w.Header().Get("Retry-After") != "2" || !strings.Contains(w.Body.String(), `"detail":"too many"`) {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
}

func TestPanicsPassThrough(t *testing.T) {
	var rec recording
	h := inbound(&rec).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		panic(http.ErrAbortHandler)
	}))
	func() {
		defer func() {
			if p := recover(); p != http.ErrAbortHandler {
				t.Errorf("recovered %v, want the handler's own panic", p)
			}
		}()
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	}()
	if len(rec.calls) != 1 || rec.calls[0].Class != telemetry.Failure || rec.calls[0].Code != 500 {
		t.Errorf("recorded %+v, want one failure", rec.calls)
	}
}

func TestStatusIsRecorded(t *testing.T) {
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		want    int
	}{
		"nothing":     {func(http.ResponseWriter, *http.Request) {}, 200},
		"Write":       {func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(nil) }, 200},
		"WriteString": {func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "x") }, 200},
		"WriteHeader": {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(404) }, 404},
		"early hints": {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(103); w.WriteHeader(404) }, 404},
		"twice":       {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(404); w.WriteHeader(500) }, 404},
		"after Write": {func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(nil); w.WriteHeader(500) }, 200},
		"Flush":       {func(w http.ResponseWriter, r *http.Request) { w.(http.Flusher).Flush(); w.WriteHeader(500) }, 200},
		"control Flush": {func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).Flush()
			w.WriteHeader(500)
		}, 200},
		"ReadFrom": {func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.(io.ReaderFrom).ReadFrom(strings.NewReader("x"))
			w.WriteHeader(500)
		}, 200},
		"Hijack": {func(w http.ResponseWriter, r *http.Request) {
			if c, _, err := w.(http.Hijacker).Hijack(); err == nil {
				c.Close()
			}
		}, 101},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, m *mesh) {
				var rec recording
				m.serve("a", inbound(&rec).Handler(c.handler).ServeHTTP, func(s *http.Server) { s.ErrorLog = quiet })
				m.publish()
				_, _, _ = m.do(m.request("POST", "http://product/", nil))
				synctest.Wait()
				if len(rec.calls) != 1 || rec.calls[0].Code != c.want {
					t.Errorf("recorded %+v, want %d", rec.calls, c.want)
				}
			})
		})
	}
}

// The wrapper claims exactly what the writer inside is able to do.
func TestWriterInterfaces(t *testing.T) {
	type f struct{ http.Flusher }
	type h struct{ http.Hijacker }
	type r struct{ io.ReaderFrom }
	type w = http.ResponseWriter
	inner := httptest.NewRecorder()
	for _, c := range []w{
		struct{ w }{inner},
		struct {
			w
			f
		}{w: plain{inner}, f: f{inner}},
		struct {
			w
			h
		}{w: plain{inner}, h: h{hijack{}}},
		struct {
			w
			r
		}{w: plain{inner}, r: r{readFrom{}}},
		struct {
			w
			f
			h
		}{plain{inner}, f{inner}, h{hijack{}}},
		struct {
			w
			f
			r
		}{plain{inner}, f{inner}, r{readFrom{}}},
		struct {
			w
			h
			r
		}{plain{inner}, h{hijack{}}, r{readFrom{}}},
		struct {
			w
			f
			h
			r
		}{plain{inner}, f{inner}, h{hijack{}}, r{readFrom{}}},
	} {
		got := (&recorder{ResponseWriter: c}).as(c)
		if diff := cmp.Diff(abilities(c), abilities(got)); diff != "" {
			t.Errorf("%T:\n%s", c, diff)
		}
		if u, ok := got.(interface{ Unwrap() http.ResponseWriter }); !ok || u.Unwrap() != c {
			t.Errorf("%T cannot be unwrapped to %T", got, c)
		}
		if _, isFlusher := c.(http.Flusher); isFlusher != (http.NewResponseController(got).Flush() == nil) {
			t.Errorf("%T: a ResponseController flushes %v", c, !isFlusher)
		}
	}
}

type plain struct{ http.ResponseWriter }

type hijack struct{}

func (hijack) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, errors.ErrUnsupported }

type readFrom struct{}

func (readFrom) ReadFrom(io.Reader) (int64, error) { return 0, nil }

type ability struct{ Flusher, Hijacker, ReaderFrom bool }

func abilities(w http.ResponseWriter) (a ability) {
	_, a.Flusher = w.(http.Flusher)
	_, a.Hijacker = w.(http.Hijacker)
	_, a.ReaderFrom = w.(io.ReaderFrom)
	return a
}

func TestListener(t *testing.T) {
	l := newNetwork().listen("a:80")
	defer l.Close()
	ours := inbound(nil).Listener(l)
	if _, ok := ours.(*Listener); !ok || ours.Addr() != l.Addr() {
		t.Errorf("got %T at %v", ours, ours.Addr())
	}
}

// A handler that calls on passes its deadline and the fact that its own call is a retry.
func TestValuesTravel(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		hops := 0
		m.serve("a", func(w http.ResponseWriter, r *http.Request) { hops++; w.WriteHeader(503) })
		m.plan.Retry.On.AddStatus(503, 503)
		m.publish()
		front := inbound(nil).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _, _ = m.do(m.request("GET", "http://product/", nil).WithContext(r.Context()))
		}))
		for attempt, want := range map[string]int{"1": 3, "2": 1} {
			hops = 0
			r := httptest.NewRequest("GET", "/", nil).WithContext(context.WithoutCancel(t.Context()))
			r.Header.Set("Weft-Attempt", attempt)
			front.ServeHTTP(httptest.NewRecorder(), r)
			if hops != want {
				t.Errorf("inbound attempt %s: %d tries below, want %d", attempt, hops, want)
			}
		}
	})
}

// What a handler finds out about its request is seen around it: net/http removes the files of a form by it.
func TestFormAndPatternAreSeenOutside(t *testing.T) {
	mux := http.NewServeMux()
	var file string
	mux.HandleFunc("POST /upload/{name}", func(w http.ResponseWriter, r *http.Request) {
		f, _, err := r.FormFile("f")
		if err != nil {
			t.Error(err)
			return
		}
		f.Close()
		if onDisk, ok := f.(*os.File); ok {
			file = onDisk.Name()
		}
	})
	var pattern string
	h := inbound(nil).Handler(mux)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r)
		pattern = r.Pattern
	}))
	defer srv.Close()
	pr, pw := io.Pipe()
	form := multipart.NewWriter(pw)
	go func() {
		part, _ := form.CreateFormFile("f", "f")
		_, _ = io.CopyN(part, zeros{}, 40<<20) // above the 32 MB that a form keeps in memory
		pw.CloseWithError(form.Close())
	}()
	resp, err := srv.Client().Post(srv.URL+"/upload/x", form.FormDataContentType(), pr)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	srv.Close() // waits for the handler's end
	if pattern != "POST /upload/{name}" {
		t.Errorf("pattern %q is lost", pattern)
	}
	if _, err := os.Stat(file); file == "" || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the form's file %q is left: %v", file, err)
	}
}
