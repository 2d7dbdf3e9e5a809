package call

import (
	"context"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/weftmesh/weft"
)

// GRPC starts the variants over gRPC. Each call is one unary call with one header and a small request and reply;
// over grpc-go alone round_robin spreads them.
func GRPC(variants ...Variant) (*World, error) { return start("gRPC", variants, (*World).grpc) }

func (w *World) grpc(v Variant) (func() error, error) {
	var addresses []string
	for range servers {
		a, err := w.grpcServer(v)
		if err != nil {
			return nil, err
		}
		addresses = append(addresses, a)
	}
	conn, err := w.grpcConn(v, addresses)
	if err != nil {
		return nil, err
	}
	w.onClose(conn.Close)
	client := grpc_health_v1.NewHealthClient(conn)
	request := &grpc_health_v1.HealthCheckRequest{Service: "product"}
	return func() error {
		ctx, cancel := v.context()
		defer cancel()
		_, err := client.Check(metadata.AppendToOutgoingContext(ctx, "x-user-id", "user-1"), request)
		return err
	}, nil
}

// grpcConn is a connection to all the addresses.
func (w *World) grpcConn(v Variant, addresses []string) (*grpc.ClientConn, error) {
	if v.Client {
		m, err := w.caller(v, weft.GRPC, addresses)
		if err != nil {
			return nil, err
		}
		return grpc.NewClient("weft:///product", m.DialOptions()...)
	}
	r := manual.NewBuilderWithScheme("bench")
	state := resolver.State{}
	for _, a := range addresses {
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: a}}})
	}
	r.InitialState(state)
	return grpc.NewClient("bench:///product", grpc.WithResolvers(r), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`), grpc.WithNoProxy())
}

func (w *World) grpcServer(v Variant) (address string, err error) {
	var options []grpc.ServerOption
	if v.Server {
		m, err := w.callee(v)
		if err != nil {
			return "", err
		}
		options = m.ServerOptions()
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	s := grpc.NewServer(options...)
	grpc_health_v1.RegisterHealthServer(s, answer{})
	go s.Serve(l) //nolint:errcheck // it ends when the world is closed
	w.onClose(func() error { s.Stop(); return nil })
	return l.Addr().String(), nil
}

// answer is a service that does nothing.
type answer struct {
	grpc_health_v1.UnimplementedHealthServer
}

func (answer) Check(context.Context, *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	return &grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVING}, nil
}
