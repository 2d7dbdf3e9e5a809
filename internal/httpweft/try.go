package httpweft

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"

	"github.com/weftmesh/weft/internal/engine"
)

// A try is what one attempt needs: a clone of the request, its body, and the body of the response, in one
// allocation. It is never reused, as net/http may hold it longer than the application does.
type try struct {
	call    *call
	attempt *engine.Attempt
	peer    *peer

	request http.Request
	url     url.URL
	words   words
	upload  upload
	trace   httptrace.ClientTrace
	asked   bool // net/http found nothing wrong with the request and wanted a connection
	got     bool // it had one: from here on something may have been sent

	code   int         // of the response
	header http.Header // of the response
	body   upgraded
	last   bool        // its end is the end of the call
	ended  atomic.Bool // settled
}

// send runs the attempt until the response's header is there.
func (t *try) send() engine.Outcome {
	if err := t.clone(); err != nil {
		t.peer.release()
		return t.call.unsendable(err)
	}
	if t.peer.http2 && t.call.Stream {
		t.request.Body = nil // the call closes it
		t.peer.release()
		return t.call.unsendable(errNoUpgrade)
	}
	transport := t.call.client.http1
	if t.peer.http2 {
		transport = t.call.client.http2
	}
	response, err := transport.RoundTrip(&t.request) //nolint:bodyclose // the application or Discard closes it
	if err != nil {
		return t.failed(err)
	}
	return t.answered(response)
}

var errNoUpgrade = errors.New("weft: the endpoint is called over HTTP/2, which has no Upgrade")

// clone makes the request of this try: in the attempt's context, to the peer's key, with wire words and a body of
// its own.
func (t *try) clone() error {
	r := t.call.origin
	t.watch()
	t.request = *r.WithContext(httptrace.WithClientTrace(t.attempt.Context(), &t.trace))
	t.url = *r.URL
	t.url.Scheme, t.url.Host = "http", t.peer.key
	t.request.URL, t.request.Host = &t.url, host(r)
	t.request.Cancel = nil //nolint:staticcheck // deprecated, and http.Client sets it; the context follows it
	if forwarded := hasWireWord(r.Header); forwarded || t.attempt.HasHeaders() {
		t.words.header = maps.Clone(r.Header)
		if forwarded { // by a proxy: what a stranger claims must not become this process's word
			maps.DeleteFunc(t.words.header, func(name string, _ []string) bool { return isWireWord(name) })
		}
		t.attempt.WriteHeaders(&t.words)
		t.request.Header = t.words.header
	}
	return t.takeBody()
}

// watch finds out whether anything can have been sent. When net/http itself repeats a request that it would not
// repeat had the server seen any of it, then nothing had been written.
func (t *try) watch() {
	careful := !repeatable(t.call.origin)
	t.trace.GetConn = func(string) {
		t.asked = true
		t.got = t.got && !careful
	}
	t.trace.GotConn = func(httptrace.GotConnInfo) { t.got = true }
}

// repeatable reports whether net/http repeats a request of which something was written before its connection broke.
func repeatable(r *http.Request) bool {
	switch r.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	_, has := r.Header["Idempotency-Key"]
	_, hasX := r.Header["X-Idempotency-Key"]
	return has || hasX
}

// takeBody gives the try the application's body, or from the second one on a fresh one. A body that cannot be had
// anew is watched, so that it can go to the next try if this one left it untouched.
func (t *try) takeBody() (err error) {
	r := t.call.origin
	switch {
	case r.Body == nil || r.Body == http.NoBody:
	case r.GetBody == nil:
		t.upload.ReadCloser = r.Body
		t.request.Body = &t.upload
	case t.attempt.Number() > 1:
		t.request.Body, err = r.GetBody()
	}
	return err
}

// ownsBody reports whether the application's body is closed by this try rather than by the call.
func (t *try) ownsBody() bool {
	switch {
	case t.upload.ReadCloser != nil:
		return !t.upload.revoke()
	case t.call.origin.GetBody != nil:
		return t.call.first.request.Body != nil // net/http closes what it got
	}
	return false
}

// failed is the outcome of a try without a response.
func (t *try) failed(err error) engine.Outcome {
	c := t.call
	t.peer.release()
	if !t.asked && t.attempt.Context().Err() == nil {
		return c.unsendable(err)
	}
	c.err = err
	if t.upload.ReadCloser != nil {
		c.Replayable = t.upload.revoke()
	}
	return engine.Outcome{Protocol: engine.HTTP, Err: t.cause(err), Sent: t.got, Misused: t.upload.broken.Load()}
}

// cause makes a cancel of the caller be seen as one: net/http reports its cause alone, as errgroup sets one.
func (t *try) cause(err error) error {
	if err != nil && errors.Is(t.attempt.Context().Err(), context.Canceled) && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("%w: %w", context.Canceled, err)
	}
	return err
}

// answered is the outcome of a try with a response. If that has a body, the attempt ends with it.
func (t *try) answered(response *http.Response) engine.Outcome {
	response.Request = t.call.origin
	t.call.response = response
	out := engine.Outcome{Protocol: engine.HTTP, Code: response.StatusCode, Header: response.Header, Sent: true}
	if bodyless(response) {
		t.ended.Store(true)
		t.peer.release()
		return out
	}
	t.code, t.header = response.StatusCode, response.Header
	t.body.try, t.body.inner = t, response.Body
	response.Body = &t.body.body
	if _, ok := t.body.inner.(io.Writer); ok {
		response.Body = &t.body
	}
	out.Open = true
	return out
}

// handOver says that the application gets this try's response.
func (t *try) handOver() {
	t.last = true
	if t.ended.Load() {
		t.call.done()
	}
}

// settle ends an attempt whose response has a body. Whoever claimed the end says it, once.
func (t *try) settle(err error) {
	t.attempt.Settle(engine.Outcome{Protocol: engine.HTTP, Code: t.code, Header: t.header, Err: t.cause(err), Sent: true, Open: true})
	t.peer.release()
	if t.last {
		t.call.done()
	}
}

func (t *try) claim() bool { return t.ended.CompareAndSwap(false, true) }

// An upload is the body of a request that cannot be had anew, in the hands of one try.
type upload struct {
	io.ReadCloser // the application's; nil: the try has no such body
	state         atomic.Uint32
	broken        atomic.Bool // it failed: no fault of the server
}

// The states of an upload.
const (
	untouched = iota
	held      // net/http closed it without a Read: it stays open for the next try
	taken     // it was read, or no other try can come: all goes through
	revoked   // it went to another try
)

var errRevoked = errors.New("weft: the request body belongs to another attempt")

func (u *upload) Read(p []byte) (int, error) {
	if u.state.Load() != taken && !u.state.CompareAndSwap(untouched, taken) {
		return 0, errRevoked
	}
	n, err := u.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		u.broken.Store(true)
	}
	return n, err
}

func (u *upload) Close() error {
	if !u.state.CompareAndSwap(untouched, held) && u.state.Load() == taken {
		return u.ReadCloser.Close()
	}
	return nil
}

// revoke takes the body back and reports whether it is as new.
func (u *upload) revoke() bool {
	return u.state.CompareAndSwap(untouched, revoked) || u.state.CompareAndSwap(held, revoked) || u.state.Load() == revoked
}

// release lets net/http do what it likes with the body, as there will be no other try.
func (u *upload) release() {
	if u.ReadCloser != nil && !u.state.CompareAndSwap(untouched, taken) && u.state.CompareAndSwap(held, taken) {
		u.ReadCloser.Close()
	}
}
