package grpcweft

import (
	"context"
	"errors"
	"log/slog"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/weftmesh/weft/internal/callerr"
	"github.com/weftmesh/weft/internal/engine"
)

// Server is the inbound side.
type Server struct {
	inbound *engine.Inbound
	service string
	log     *slog.Logger
}

// NewServer returns the inbound side of a process, which answers as service, a full name or "" if it has none. With
// a nil log nothing is logged.
func NewServer(in *engine.Inbound, service string, log *slog.Logger) *Server {
	return &Server{inbound: in, service: service, log: logOrNone(log)}
}

// ServerOptions returns what makes a grpc.Server go through Weft. Interceptors of options that follow run inside:
// they see neither refused calls nor wire words.
func (s *Server) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(s.unary),
		grpc.ChainStreamInterceptor(s.stream),
	}
}

// errPanicked stands for the handler's error until it returns.
var errPanicked = errors.New("the handler panicked")

func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	in, refusal := s.begin(ctx, info.FullMethod)
	err = errPanicked
	defer func() { in.end(err, refusal) }()
	if refusal != nil {
		_ = grpc.SetTrailer(ctx, reason(refusal)) // fails for contexts that are not grpc's only
		return nil, in.refuse(refusal)
	}
	return handler(in.handlerContext(), req)
}

func (s *Server) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	in, refusal := s.begin(ss.Context(), info.FullMethod)
	err = errPanicked
	defer func() { in.end(err, refusal) }()
	if refusal != nil {
		ss.SetTrailer(reason(refusal))
		return in.refuse(refusal)
	}
	return handler(srv, &serverStream{ss, in.handlerContext()})
}

// serverStream is a stream with the handler's context.
type serverStream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context implements grpc.ServerStream.
func (s *serverStream) Context() context.Context { return s.ctx }

// inboundCall is one call under way.
type inboundCall struct {
	server *Server
	method string
	md     metadata.MD
	served *engine.Served
}

func (s *Server) begin(ctx context.Context, method string) (inboundCall, *engine.Refusal) {
	in := inboundCall{server: s, method: method, md: incoming(ctx)}
	var refusal *engine.Refusal
	in.served, refusal = s.inbound.Begin(ctx, engine.Request{Protocol: engine.GRPC, Method: method, Service: s.service, Header: carrier(in.md)})
	return in, refusal
}

func (in inboundCall) handlerContext() context.Context { return withoutWords(in.served.Context, in.md) }

// reason is the trailer of a refused call.
func reason(r *engine.Refusal) metadata.MD {
	return metadata.MD{engine.HeaderReason[engine.GRPC]: {string(r.Reason)}}
}

// refuse gives the status that answers a refused call.
func (in inboundCall) refuse(r *engine.Refusal) error {
	e := &callerr.Error{Service: in.server.service, Method: in.method, Reason: callerr.Reason(r.Reason), Rule: r.Rule,
		RetryAfter: r.RetryAfter, Err: r.Err, Local: true}
	in.server.log.Debug("refused an inbound call", "method", in.method, "reason", string(r.Reason), "error", r.Err)
	return e.GRPCStatus().Err()
}

func (in inboundCall) end(err error, refusal *engine.Refusal) {
	out := engine.Outcome{Protocol: engine.GRPC, Code: int(codeOf(err)), Err: err, Sent: true}
	if err == errPanicked {
		out.Code = int(codes.Internal)
	}
	if refusal != nil {
		out.Header = trailer(reason(refusal)) // so that it is classified here as it is at the caller
	}
	in.served.End(out)
}
