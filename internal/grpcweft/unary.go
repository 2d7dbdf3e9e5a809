package grpcweft

import (
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/weftmesh/weft/internal/engine"
)

// unary is one unary call.
type unary struct {
	rpc
	req, reply any
	invoker    grpc.UnaryInvoker
	err        error // of the last try
}

// Try implements engine.Transport.
func (u *unary) Try(a *engine.Attempt) engine.Outcome {
	t := u.begin(a)
	if a.Number() > 1 {
		reset(u.reply)
	}
	u.err = u.invoker(t.context(), u.method, u.req, u.reply, u.cc, u.opts...)
	return t.outcome(u.err)
}

// Discard implements engine.Transport: the next try decodes over the reply.
func (u *unary) Discard(*engine.Attempt) {}

// reset takes out of a reply what an earlier try may have decoded. grpc's own codec does that too, but one that
// merges would not.
func reset(reply any) {
	if m, ok := reply.(proto.Message); ok {
		proto.Reset(m)
	}
}
