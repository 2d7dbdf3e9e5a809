package grpcweft

import (
	"context"
	"sync/atomic"

	"google.golang.org/grpc"

	"github.com/weftmesh/weft/internal/engine"
)

// stream is one stream. It is tried again only if it could not be created; from then on it belongs to the
// application, and its attempt settles when grpc says that it is over.
type stream struct {
	rpc
	desc     *grpc.StreamDesc
	streamer grpc.Streamer

	opened grpc.ClientStream
	open   bool // the last try has chosen an endpoint and created a stream
	end    *ending
	err    error // of the last try
}

// Try implements engine.Transport.
func (s *stream) Try(a *engine.Attempt) engine.Outcome {
	t := s.begin(a)
	ctx, cancel := context.WithCancel(t.context())
	s.end = &ending{try: t, cancel: cancel}
	opts := append(s.opts[:len(s.opts):len(s.opts)], grpc.OnFinish(s.end.finished))
	s.opened, s.err = s.streamer(ctx, s.desc, s.cc, s.method, opts...)
	if s.open = s.err == nil && t.asked; s.open {
		return engine.Outcome{Protocol: engine.GRPC, Sent: true, Open: true}
	}
	if s.err != nil {
		cancel() // else the stream is an interceptor's own, and may need the context
	}
	return t.outcome(s.err)
}

// Discard implements engine.Transport.
func (s *stream) Discard(*engine.Attempt) { s.end.cancel() }

// handOver gives the stream to the application.
func (s *stream) handOver() grpc.ClientStream {
	if !s.open {
		return s.opened
	}
	s.end.meet()
	return &listener{ClientStream: s.opened, attempt: s.end.try.attempt}
}

// listener tells the engine of the first message, the first proof that the server works: a stream may live for days.
type listener struct {
	grpc.ClientStream
	attempt *engine.Attempt
	heard   bool // only the application's one receiving goroutine looks at it
}

func (l *listener) RecvMsg(m any) error {
	err := l.ClientStream.RecvMsg(m)
	if err == nil && !l.heard {
		l.heard = true
		l.attempt.Opened()
	}
	return err
}

// ending settles an attempt when two things have happened, in any order: the application got the stream, and the
// stream is over. A stream can end before the engine has seen that it was created.
type ending struct {
	try    *try
	cancel context.CancelFunc
	out    engine.Outcome
	met    atomic.Bool
}

// finished is called by grpc exactly once: after an error or EOF of RecvMsg, an error of SendMsg or Header, and
// when the context ends or the ClientConn is closed.
func (e *ending) finished(err error) {
	e.out = e.try.outcome(err)
	e.out.Open = true
	e.cancel()
	e.meet()
}

func (e *ending) meet() {
	if e.met.Swap(true) {
		e.try.attempt.Settle(e.out)
	}
}
