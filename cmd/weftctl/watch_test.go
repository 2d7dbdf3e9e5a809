package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// stream is what a server of events writes to one connection.
type stream struct {
	after  string // the Last-Event-ID that it wants
	text   string
	status int  // 0: 200
	hang   bool // say nothing more, but stay
}

// feed serves one stream after the other.
func feed(t *testing.T, streams ...stream) {
	t.Helper()
	var mu sync.Mutex
	next := 0
	done := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if next == len(streams) {
			w.WriteHeader(http.StatusNotFound)
			io.WriteString(w, `{"status": 404, "detail": "that was all"}`)
			return
		}
		one := streams[next]
		next++
		if got := r.Header.Get("Last-Event-ID"); got != one.after || r.URL.Path != "/v1/watch" || r.URL.RawQuery != "namespace=shop&service=product" {
			t.Errorf("connection %d: asked %s after %q, want after %q", next, r.URL, got, one.after)
		}
		if one.status != 0 {
			w.WriteHeader(one.status)
			io.WriteString(w, one.text)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, one.text)
		http.NewResponseController(w).Flush()
		if one.hang {
			select {
			case <-r.Context().Done():
			case <-done:
			}
		}
	}))
	t.Cleanup(s.Close)
	t.Cleanup(func() { close(done) })
	t.Setenv("WEFT_HTTP", s.URL)
	t.Setenv("WEFT_TOKEN", "secret")
}

const (
	putEvent  = "id: 1f-5\nevent: instance\ndata: {\"revision\":\"1f-5\",\"service\":\"product\",\"namespace\":\"shop\",\"id\":\"p1\",\"instance\":{\"id\":\"p1\",\"address\":\"10.0.0.7:1\",\"state\":\"up\",\"weight\":100}}\n\n"
	goneEvent = "event: instance\ndata: {\"revision\":\"1f-6\",\"removed\":\"expired\",\"service\":\"product\",\"id\":\"p2\"}\n\nid: 1f-6\nevent: rule\ndata: {\"revision\":\"1f-6\",\"kind\":\"Route\",\"name\":\"canary\",\ndata: \"service\":\"product\",\"rule\":{\"service\":\"product\",\"updatedBy\":\"alice\"}}\n\n"
	restEvent = "id: 20-9\nevent: reset\ndata: {\"revision\":\"20-9\"}\n\n: a comment\nid: 20-10\nevent: alias\n: within an event\ndata: {\"revision\":\"20-10\",\"name\":\"64001:17\",\"alias\":{\"service\":\"product.shop\"}}\n\n"
)

// TestWatchGoesOn loses the connection again and again, and goes on after what it has seen.
func TestWatchGoesOn(t *testing.T) {
	tr := &transcript{t: t}
	for _, output := range outputs {
		args := []string{"watch", "-n", "shop", "--service", "product", "-o", output}
		feed(t,
			stream{after: "", text: ": watching\nid: 1f-4\n\n"},
			stream{after: "1f-4", text: putEvent + "id: 1f-6\nevent: instance\nda"}, // cut off: not seen
			stream{after: "1f-5", text: goneEvent},
			stream{after: "1f-6", text: `{"status": 503, "detail": "starting"}`, status: 503},
			stream{after: "1f-6", text: restEvent})
		tr.write(args, func() (int, string, string) { return ctl(t, "", args...) })
	}
	tr.compare("watch.txt")
}

func TestWatchIsInterrupted(t *testing.T) {
	feed(t, stream{text: putEvent, hang: true})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var stderr bytes.Buffer
	args := []string{"watch", "-n", "shop", "--service", "product", "-o", "name"}
	seen := writer(func(p []byte) (int, error) {
		cancel() // as soon as there is something
		return len(p), nil
	})
	if code := run(ctx, args, world{strings.NewReader(""), seen, &stderr, time.Now}); code != 0 || stderr.Len() > 0 {
		t.Error(code, stderr.String())
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// TestWatchEnds at what trying again would not mend.
func TestWatchEnds(t *testing.T) {
	args := []string{"watch", "-n", "shop", "--service", "product"}
	for _, c := range []struct {
		name    string
		streams []stream
		says    string
	}{
		{"refused", []stream{{status: 403, text: `{"status": 403, "detail": "not for workloads"}`}}, "not for workloads"},
		{"revoked", []stream{{text: putEvent}, {after: "1f-5", status: 401, text: `{"status": 401, "detail": "revoked"}`}}, "revoked"},
		{"down from the start", []stream{{status: 503, text: `{"status": 503, "detail": "starting"}`}}, "starting"},
	} {
		t.Run(c.name, func(t *testing.T) {
			feed(t, c.streams...)
			if code, _, stderr := ctl(t, "", args...); code != exitFailed || !strings.Contains(stderr, c.says) {
				t.Error(code, stderr)
			}
		})
	}
	t.Run("nobody reads", func(t *testing.T) {
		feed(t, stream{text: putEvent, hang: true})
		broken := writer(func([]byte) (int, error) { return 0, io.ErrClosedPipe })
		var stderr bytes.Buffer
		if code := run(t.Context(), args, world{strings.NewReader(""), broken, &stderr, time.Now}); code == 0 || !strings.Contains(stderr.String(), "nobody reads") {
			t.Error(code, stderr.String())
		}
	})
	t.Run("another server", func(t *testing.T) {
		s := httptest.NewServer(http.NotFoundHandler())
		defer s.Close()
		t.Setenv("WEFT_HTTP", s.URL)
		t.Setenv("WEFT_TOKEN", "secret")
		if code, _, stderr := ctl(t, "", args...); code != exitFailed || !strings.Contains(stderr, "is not a registry server") {
			t.Error(code, stderr)
		}
	})
}

// TestSilenceIsALoss opens a connection again on which nothing comes.
func TestSilenceIsALoss(t *testing.T) {
	feed(t, stream{text: putEvent, hang: true})
	o := &options{output: asName, namespace: "shop", now: time.Now, silence: 200 * time.Millisecond}
	cmd := newWatch(o)
	var out, errs bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	cmd.SetArgs([]string{"--service", "product"})
	err := cmd.ExecuteContext(t.Context())
	if err == nil || !strings.Contains(err.Error(), "that was all") || !strings.Contains(errs.String(), "nothing came for 200ms") || out.String() != "product/p1\n" {
		t.Error(err, errs.String(), out.String())
	}
}

func TestEvents(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []event
		err        string
	}{
		{"several lines", "data: a\ndata:b\ndata:  c\n\n", []event{{data: "a\nb\n c"}}, "ended"},
		{"comments", ": x\n: y\ndata: a\n:\n\n", []event{{data: "a"}}, "ended"},
		{"unknown fields", "retry: 5\nwhatever\nid: 7\nevent: e\n\n", []event{{id: "7", name: "e"}}, "ended"},
		{"carriage returns", "id: 7\r\ndata: a\r\n\r\n", []event{{id: "7", data: "a"}}, "ended"},
		{"cut off", "id: 7\ndata: a\n", nil, "ended"},
		{"as many lines as may be", strings.Repeat("data: a\n", maxLines) + "\n", []event{{data: strings.TrimSuffix(strings.Repeat("a\n", maxLines), "\n")}}, "ended"},
		{"too many lines", strings.Repeat("data: a\n", maxLines+1), nil, "more than 100 lines"},
		{"too long a line", "data: " + strings.Repeat("a", maxEvent), nil, "token too long"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []event
			err := events(strings.NewReader(c.text), func(e event) error {
				got = append(got, e)
				return nil
			})
			if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(event{})); diff != "" || !strings.Contains(fmt.Sprint(err), c.err) {
				t.Error(diff, err)
			}
		})
	}
}

// FuzzEvents wants any stream to end, and what it says to be shown on one line.
func FuzzEvents(f *testing.F) {
	for _, seed := range []string{putEvent, goneEvent, restEvent, "data: {\"id\": \"\\u001b[2J\"}\nevent: instance\n\n", "data: 7\n\n"} {
		f.Add(seed)
	}
	stop := errors.New("stop")
	f.Fuzz(func(t *testing.T, text string) {
		w := &watcher{o: &options{output: asTable}}
		err := events(strings.NewReader(text), func(e event) error {
			line, err := w.text(e)
			if strings.ContainsAny(line, "\n\r\x1b\x07") {
				t.Errorf("%q", line)
			}
			if err != nil {
				return stop
			}
			return nil
		})
		if err == nil {
			t.Error("no end")
		}
	})
}
