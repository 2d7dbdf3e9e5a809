package session

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // the codec of all that is not a frame
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
	"google.golang.org/protobuf/proto"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
)

// frame is a message that is encoded already, so that any number of sessions send the same bytes. It is immutable: a
// [mem.SliceBuffer] is not counted, and stays as long as somebody has it.
type frame struct {
	bytes mem.BufferSlice
}

func newFrame(m *weftv1.ConnectResponse) (*frame, error) {
	b, err := proto.Marshal(m)
	if err != nil {
		return nil, err
	}
	return &frame{mem.BufferSlice{mem.SliceBuffer(b)}}, nil
}

func (f *frame) size() int { return f.bytes.Len() }

// codec is gRPC's own for protobuf, and passes frames through.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2("proto")} }

// Marshal implements [encoding.CodecV2].
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if f, ok := v.(*frame); ok {
		return f.bytes, nil
	}
	return c.CodecV2.Marshal(v)
}

type cancelKey struct{}

// cancellable gives each stream a context that its handler can end: gRPC has no other way to make a Recv return that
// waits for a message, or a Send that waits for room. Without it a session would need two more goroutines.
func cancellable(ctx context.Context, _ *tap.Info) (context.Context, error) {
	ctx, cancel := context.WithCancel(ctx)
	return context.WithValue(ctx, cancelKey{}, cancel), nil
}

// hangUp ends a stream with a status from outside its handler. gRPC tells the client "canceled" when a context ends under
// a handler that receives, so the status goes first, by a method that its streams have but do not promise: a gRPC without
// it would leave the client with that word alone, and the tests of this package with failures.
func hangUp(ctx context.Context, cancel context.CancelFunc, cause error) {
	if w, ok := grpc.ServerTransportStreamFromContext(ctx).(interface{ WriteStatus(*status.Status) error }); ok {
		_ = w.WriteStatus(status.Convert(cause)) // a stream that is gone has nobody to tell
	}
	cancel()
}

// canceller gives what ends the stream of a handler; nil if the gRPC server has not got [ServerOptions].
func canceller(ctx context.Context) context.CancelFunc {
	cancel, _ := ctx.Value(cancelKey{}).(context.CancelFunc)
	return cancel
}
