package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"

	"google.golang.org/grpc"

	"github.com/weftmesh/weft"
	"github.com/weftmesh/weft/examples/quickstart/shop"
)

// product serves the same answers over gRPC and HTTP and registers both listeners.
func product(ctx context.Context, log *slog.Logger, id, version string) error {
	spans := newSpans()
	m, err := weft.New(weft.WithService("product"), weft.WithLogger(log), weft.WithTracerProvider(spans.provider("product")))
	if err != nil {
		return err
	}
	defer m.Close(context.Background())

	p := &productServer{version: version, id: id}
	grpcLis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	grpcServer := grpc.NewServer(m.ServerOptions()...)
	shop.RegisterProductServer(grpcServer, p)
	go grpcServer.Serve(grpcLis)

	httpLis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /items", p)
	mux.Handle("POST /orders", p)
	outer := http.NewServeMux()
	outer.Handle("/", m.Handler(mux))
	outer.Handle("GET /spans", spans)
	httpServer := &http.Server{Handler: outer}
	go httpServer.Serve(m.Listener(httpLis))

	labels := map[string]string{"version": version}
	for _, in := range []weft.Instance{
		{ID: id + "-grpc", Address: grpcLis.Addr().String(), Protocol: weft.GRPC, Labels: labels},
		{ID: id + "-http", Address: httpLis.Addr().String(), Protocol: weft.HTTP, Labels: labels},
	} {
		if _, err := m.Register(ctx, in); err != nil {
			return err
		}
	}
	<-ctx.Done()
	err = m.Close(context.Background()) // drains and deregisters both
	grpcServer.GracefulStop()
	return errors.Join(err, httpServer.Shutdown(context.Background()))
}

type productServer struct {
	shop.UnimplementedProductServer
	version, id string
}

func (p *productServer) Get(context.Context, *shop.GetRequest) (*shop.Answer, error) {
	return &shop.Answer{Version: p.version, Instance: p.id}, nil
}

func (p *productServer) Buy(context.Context, *shop.BuyRequest) (*shop.Answer, error) {
	return &shop.Answer{Version: p.version, Instance: p.id}, nil
}

func (p *productServer) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(answer{Version: p.version, Instance: p.id})
}

// answer is the body of the HTTP side, the same as shop.Answer.
type answer struct {
	Version  string `json:"version"`
	Instance string `json:"instance"`
}
