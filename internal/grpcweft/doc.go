// Package grpcweft carries gRPC calls through the engine, outbound and inbound. It translates and decides nothing.
//
//	client := grpcweft.NewClient(directory, grpcweft.ClientOptions{})
//	conn, err := grpc.NewClient("weft:///stock", client.DialOptions()...)
//
//	server := grpcweft.NewServer(inbound, "stock.default", nil)
//	s := grpc.NewServer(server.ServerOptions()...)
//
// # Outbound
//
// Three parts of grpc are replaced. An interceptor runs the engine around each call. A resolver hands the endpoints
// of the service's plan to the balancer. The balancer keeps one connection to each endpoint and asks the attempt
// of the call, in Pick, where to go.
//
// Whether an endpoint can be reached belongs to one grpc.ClientConn; what was learned about it (pending calls,
// latency, errors) belongs to the endpoint and is shared by all of them.
//
// # Inbound
//
// An interceptor takes each call through the engine's phases before its handler, and takes the wire words off the
// metadata that the handler sees.
package grpcweft
