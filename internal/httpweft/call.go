package httpweft

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/weftmesh/weft/balancer"
	"github.com/weftmesh/weft/internal/callerr"
	"github.com/weftmesh/weft/internal/engine"
)

// A call is one request of the application: the engine's call, its transport, and the attributes that rules look at,
// in one allocation with the first try.
type call struct {
	engine.Call
	client *Client
	target *target
	origin *http.Request // the application's; never changed
	query  url.Values    // parsed when a rule first asks
	done   context.CancelFunc

	first    try
	current  *try           // the last one that was begun
	response *http.Response // of the last try
	err      error          // of the last try
	down     *peer          // one that Ready refused
}

func (c *Client) roundTrip(s *engine.Service, r *http.Request) (*http.Response, error) {
	ctx, done := followCancel(r)
	path := r.URL.Path
	if path == "" {
		path = "/"
	}
	x := &call{client: c, target: c.target(s), origin: r, done: done, Call: engine.Call{
		Protocol:   engine.HTTP,
		Method:     method(r),
		Idempotent: idempotent(r.Method),
		Replayable: r.Body == nil || r.Body == http.NoBody || r.GetBody != nil,
		Stream:     wantsUpgrade(r.Header),
	}}
	x.Request.Path, x.Request.Method, x.Request.Attributes = path, x.Method, x
	refusal := s.Do(ctx, &x.Call, x)
	return x.result(refusal)
}

// result is what the application gets. Whatever it is, its request body gets closed.
func (c *call) result(refusal *engine.Refusal) (*http.Response, error) {
	if refusal == nil && c.response != nil {
		c.current.upload.release()
		c.current.handOver()
		return c.response, nil
	}
	c.done()
	if c.current == nil || !c.current.ownsBody() {
		closeBody(c.origin)
	}
	if refusal == nil {
		return nil, c.err
	}
	return nil, c.explain(refusal)
}

// explain makes the public error of a refusal.
func (c *call) explain(r *engine.Refusal) error {
	e := refuse(c.Service(), c.origin, r.Reason, r.Err)
	e.Rule, e.RetryAfter, e.Local = r.Rule, r.RetryAfter, r.Local
	for _, f := range c.Fates() {
		e.Attempts = append(e.Attempts, callerr.Attempt{Endpoint: f.Endpoint, Address: f.Address, Fate: fate(f), Latency: f.Latency})
	}
	return e
}

func fate(f engine.Fate) string {
	switch {
	case f.Err == nil:
		return strconv.Itoa(f.Code)
	case f.Code != 0:
		return fmt.Sprintf("%d, then %v", f.Code, f.Err)
	case !f.Sent:
		return fmt.Sprintf("not sent: %v", f.Err)
	}
	return f.Err.Error()
}

// Try sends the request once, to an endpoint that the engine selects.
func (c *call) Try(a *engine.Attempt) engine.Outcome {
	c.response, c.err = nil, nil
	ep, err := a.Select(c)
	if err != nil {
		return c.unselected(err)
	}
	t := &c.first
	if a.Number() > 1 {
		t = new(try)
	}
	c.current = t
	t.call, t.attempt, t.peer = c, a, c.target.acquire(ep)
	sent := false
	defer func() {
		if !sent { // GetBody panicked
			t.peer.release()
		}
	}()
	out := t.send()
	sent = true
	return out
}

// Discard drops the answer of an attempt that is followed by another. It reads the rest of a short one, so that the
// connection can be used again.
func (c *call) Discard(*engine.Attempt) {
	if c.response != nil {
		drain(c.response)
		c.response.Body.Close()
	}
}

// unselected is the outcome of an attempt without an endpoint. A transport of HTTP does not wait for readiness: the
// application learns why the last dial failed.
func (c *call) unselected(err error) engine.Outcome {
	if errors.Is(err, engine.ErrNotReady) && c.down != nil {
		err = fmt.Errorf("%w: %w", err, c.down.lastError())
	}
	c.err = err
	return engine.Outcome{Protocol: engine.HTTP, Err: err}
}

// Ready implements engine.Readiness.
func (c *call) Ready(ep *balancer.Endpoint) engine.Ready {
	ready, p := c.target.ready(ep)
	if ready == engine.NotReady {
		c.down = p
	}
	return ready
}

// unsendable is the outcome of a request that net/http, or its own GetBody, refused: the application learns it as it is.
func (c *call) unsendable(err error) engine.Outcome {
	c.err = err
	return engine.Outcome{Protocol: engine.HTTP, Err: err, Misused: true}
}

// Header implements routing.Attributes. name is in lower case; no memory is needed to find it.
func (c *call) Header(name string) []string {
	if name == "host" {
		return []string{host(c.origin)}
	}
	var buf [64]byte
	if len(name) > len(buf) {
		return c.origin.Header.Values(name)
	}
	upper := true
	for i := range len(name) {
		b := name[i]
		if upper && 'a' <= b && b <= 'z' {
			b -= 'a' - 'A'
		}
		buf[i], upper = b, b == '-'
	}
	return c.origin.Header[string(buf[:len(name)])]
}

// Query implements routing.Attributes.
func (c *call) Query(name string) []string {
	if c.query == nil {
		c.query = c.origin.URL.Query()
	}
	return c.query[name]
}

func host(r *http.Request) string {
	if r.Host != "" {
		return r.Host
	}
	return r.URL.Host
}

func method(r *http.Request) string {
	if r.Method == "" {
		return http.MethodGet
	}
	return r.Method
}

// label names a request for people.
func label(r *http.Request) string { return method(r) + " " + r.URL.Path }

// idempotent reports whether a method may be repeated (RFC 9110, section 9.2.2).
func idempotent(method string) bool {
	switch method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}

// wantsUpgrade reports whether a request asks for another protocol on its connection.
func wantsUpgrade(h http.Header) bool {
	if h.Get("Upgrade") == "" {
		return false
	}
	for _, v := range h["Connection"] {
		for token := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(token), "upgrade") {
				return true
			}
		}
	}
	return false
}

func nop() {}

// followCancel returns a context for the call that also ends when the deprecated Request.Cancel is closed, which
// http.Client does at its Timeout. net/http would watch it for each try anew.
func followCancel(r *http.Request) (context.Context, context.CancelFunc) {
	if r.Cancel == nil { //nolint:staticcheck // deprecated, and http.Client sets it at its Timeout
		return r.Context(), nop
	}
	ctx, cancel := context.WithCancel(r.Context())
	go func() {
		select {
		case <-ctx.Done():
		case <-r.Cancel: //nolint:staticcheck // as above
			if d, ok := ctx.Deadline(); ok && !time.Now().Before(d) {
				<-ctx.Done() // any moment now, and it says rightly that time ran out
				return
			}
			cancel()
		}
	}()
	return ctx, cancel
}
