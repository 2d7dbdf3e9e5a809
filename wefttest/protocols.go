package wefttest

import (
	"context"
	"net/http"
	"net/textproto"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// connection is the key of a request's context as it is without the deadline that came with the request.
type connection struct{}

// keepConnection wraps all of the handler of a fake that is called over HTTP: at the deadline the caller is the one who
// gives up. If the fake hung up at the same moment, the caller would see now this, now that.
func keepConnection(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), connection{}, r.Context())))
	})
}

// recording wraps the handler of a fake that is called over HTTP.
func (s *Service) recording(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		delay, fail := s.record(Call{Method: r.Method, Path: r.URL.Path, Header: r.Header.Clone()})
		caller, _ := r.Context().Value(connection{}).(context.Context)
		if dawdle(caller, delay) != nil {
			panic(http.ErrAbortHandler) // nobody is there to be answered
		}
		if fail {
			http.Error(w, failure, http.StatusServiceUnavailable)
			return
		}
		next.ServeHTTP(w, r)
	})
}

const failure = "wefttest: the test asked for this failure"

// before records a gRPC call, and gives the error with which it is to fail.
func (s *Service) before(ctx context.Context, method string) error {
	md, _ := metadata.FromIncomingContext(ctx)
	header := make(http.Header, len(md))
	for name, values := range md {
		header[textproto.CanonicalMIMEHeaderKey(name)] = values
	}
	delay, fail := s.record(Call{Method: method, Header: header})
	if err := dawdle(ctx, delay); err != nil {
		return status.FromContextError(err).Err()
	}
	if fail {
		return status.Error(codes.Unavailable, failure)
	}
	return nil
}

func (s *Service) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if err := s.before(ctx, info.FullMethod); err != nil {
		return nil, err
	}
	return handler(ctx, req)
}

func (s *Service) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if err := s.before(ss.Context(), info.FullMethod); err != nil {
		return err
	}
	return handler(srv, ss)
}
