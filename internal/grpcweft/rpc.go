package grpcweft

import (
	"context"
	"maps"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	weftbalancer "github.com/weftmesh/weft/balancer"
	"github.com/weftmesh/weft/internal/engine"
)

// rpc is what unary calls and streams have in common. With the engine's call and the first attempt in it, a call
// that is not retried costs one allocation.
type rpc struct {
	call   engine.Call
	ctx    context.Context // the caller's
	cc     *grpc.ClientConn
	method string
	opts   []grpc.CallOption

	first try
	last  *try // nil before the first
}

func (r *rpc) init(ctx context.Context, c *Client, cc *grpc.ClientConn, method string, opts []grpc.CallOption) {
	r.ctx, r.cc, r.method, r.opts = ctx, cc, method, opts
	r.call.Protocol = engine.GRPC
	r.call.Method = method
	r.call.Idempotent = c.methods.idempotent(method)
	r.call.Replayable = true // a request message can be sent again, and no stream is retried after its first
	r.call.Request.Path = method
	r.call.Request.Method = "POST"
	r.call.Request.Attributes = r
}

// Header gives the caller's outgoing metadata to the router.
func (r *rpc) Header(name string) []string { return metadata.ValueFromOutgoingContext(r.ctx, name) }

// Query gives nothing: gRPC has no query.
func (r *rpc) Query(string) []string { return nil }

// begin makes the try of an attempt.
func (r *rpc) begin(a *engine.Attempt) *try {
	r.last = &r.first
	if a.Number() > 1 {
		r.last = new(try)
	}
	r.last.Context, r.last.attempt = a.Context(), a
	return r.last
}

// try is one attempt as grpc sees it: the context it is sent in, in which the balancer finds it, and leaves what
// became of it. It is never used again, as grpc may read the context after the call has returned.
type try struct {
	context.Context
	attempt *engine.Attempt

	slots    map[*weftbalancer.Stats]*child
	waitable bool  // the last Select saw an endpoint that may become ready soon
	lastErr  error // and this of one that could not be reached

	asked    bool // Pick was called
	sent     bool // the request may have reached a server
	received bool // something came back
	trailer  metadata.MD
}

type tryKey struct{}

func (t *try) Value(key any) any {
	if key == (tryKey{}) {
		return t
	}
	return t.Context.Value(key)
}

// context is the context to send in, with the wire words if there are any.
func (t *try) context() context.Context {
	forwarded := forwardsWords(t)
	if !forwarded && !t.attempt.HasHeaders() {
		return t
	}
	md, ok := metadata.FromOutgoingContext(t)
	if !ok {
		md = metadata.MD{}
	}
	if forwarded { // by a proxy: what a stranger claims must not become this process's word
		maps.DeleteFunc(md, isWord)
	}
	t.attempt.WriteHeaders(carrier(md))
	return metadata.NewOutgoingContext(t, md)
}

// Ready implements engine.Readiness with what one ClientConn knows. An endpoint without a child is one of a plan
// that the balancer will get soon.
func (t *try) Ready(ep *weftbalancer.Endpoint) engine.Ready {
	c := t.slots[ep.Stats]
	if c == nil {
		t.waitable = true
		return engine.NotReady
	}
	switch s := c.state.Load(); s.state {
	case connectivity.Ready:
		return engine.Connected
	case connectivity.TransientFailure:
		t.lastErr = s.err
	default:
		t.waitable = true
	}
	return engine.NotReady
}

// done is told how the stream of the last Pick ended. BytesSent is false if there never was one: then nothing of
// the request left the process.
func (t *try) done(info balancer.DoneInfo) {
	t.sent, t.received, t.trailer = info.BytesSent, info.BytesReceived, info.Trailer
}

// outcome tells the engine how the attempt ended.
func (t *try) outcome(err error) engine.Outcome {
	out := engine.Outcome{Protocol: engine.GRPC, Code: int(codeOf(err)), Err: err, Sent: t.sent, Answered: t.received,
		Misused: !t.received && unsendable(err)}
	if len(t.trailer) > 0 {
		out.Header = trailer(t.trailer)
	}
	return out
}

// unsendable reports whether grpc could not encode the message. Its code is Internal, which would count against the
// server; only the text tells.
func unsendable(err error) bool {
	s, ok := status.FromError(err)
	return ok && s.Code() == codes.Internal && strings.HasPrefix(s.Message(), "grpc: error while ")
}

// codeOf reads an error as grpc does.
func codeOf(err error) codes.Code {
	if s, ok := status.FromError(err); ok {
		return s.Code()
	}
	return status.FromContextError(err).Code()
}
