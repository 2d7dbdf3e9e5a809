package rest

import (
	"context"
	"io"
	"net/http"
	"net/netip"
	"time"

	"github.com/weftmesh/weft/internal/registry/access"
)

// call is what is known of one request while it is served. Only the goroutine that serves it changes it.
type call struct {
	w     http.ResponseWriter
	body  io.ReadCloser // of the request, for who reads it as it comes
	route string        // the pattern, for the metrics; "" before it is known that the caller may know it
	from  string        // the address of the client, without the port
	token string
	grant access.Grant
	place func() // gives up the place in its lane; nil: it has none
	leave func() // ends the rest of what admit began; nil: nothing
}

type callKey struct{}

// callOf gives the call of a request's context.
func callOf(ctx context.Context) *call { return ctx.Value(callKey{}).(*call) }

// newCall begins a call. The context is that of the request, so that whatever stands in it later is seen.
func newCall(w http.ResponseWriter, r *http.Request) (*call, *http.Request) {
	c := &call{w: w, body: r.Body, from: addressOf(r.RemoteAddr)}
	return c, r.WithContext(context.WithValue(r.Context(), callKey{}, c))
}

// addressOf gives the address without port and zone, IPv4 as such.
func addressOf(remote string) string {
	addr, err := netip.ParseAddrPort(remote)
	if err != nil {
		return remote
	}
	return addr.Addr().Unmap().WithZone("").String()
}

// stepAside gives up the place in the lane early: the work is done, and what remains is waiting.
func (c *call) stepAside() {
	if c.place != nil {
		c.place()
		c.place = nil
	}
}

// done undoes what admit did.
func (c *call) done() {
	c.stepAside()
	if c.leave != nil {
		c.leave()
	}
}

// allow lets the call last, where the server's timeouts would end it: reading has no deadline any more, and
// writing one after d.
func (c *call) allow(d time.Duration) {
	rc := http.NewResponseController(c.w)
	_ = rc.SetReadDeadline(time.Time{})
	c.extend(rc, d)
}

// extend moves the deadline of writing. A writer that has none, such as that of a test, needs none moved.
func (c *call) extend(rc *http.ResponseController, d time.Duration) {
	_ = rc.SetWriteDeadline(time.Now().Add(d))
}
