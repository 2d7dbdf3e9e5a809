package peers

import (
	"crypto/tls"
	"net"
	"os"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/proto"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
	"github.com/weftmesh/weft/internal/registry/catalog"
	"github.com/weftmesh/weft/internal/registry/lease"
	sessions "github.com/weftmesh/weft/internal/registry/session"
	"github.com/weftmesh/weft/internal/registry/store"
)

// The environment of children.
const (
	childAddr    = "WEFT_PEERS_ADDR"
	childPEM     = "WEFT_PEERS_PEM"     // key and certificate; "": plaintext
	childMessage = "WEFT_PEERS_MESSAGE" // the file with what is fanned out
)

// children are the servers that this binary can be.
var children = map[string]func() error{
	"bare": func() error { return serveBare() },
	"bare static": func() error {
		return serveBare(grpc.StaticStreamWindowSize(window), grpc.StaticConnWindowSize(window))
	},
	"plain": servePlain,
}

// bare is the least that fans a message out with grpc-go: a goroutine for each stream, woken through a channel, sends it.
type bare struct {
	weftv1.UnimplementedSessionServiceServer
	message *weftv1.ConnectResponse

	mu      sync.Mutex
	streams map[chan struct{}]bool
}

func serveBare(options ...grpc.ServerOption) error {
	data, err := os.ReadFile(os.Getenv(childMessage))
	if err != nil {
		return err
	}
	b := &bare{message: &weftv1.ConnectResponse{}, streams: map[chan struct{}]bool{}}
	if err := proto.Unmarshal(data, b.message); err != nil {
		return err
	}
	certificate, err := tls.LoadX509KeyPair(os.Getenv(childPEM), os.Getenv(childPEM))
	if err != nil {
		return err
	}
	creds := credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{certificate}})
	g := grpc.NewServer(append(options, grpc.Creds(creds))...)
	weftv1.RegisterSessionServiceServer(g, b)
	return listenAndServe(g)
}

func listenAndServe(g *grpc.Server) error {
	lis, err := net.Listen("tcp", os.Getenv(childAddr))
	if err != nil {
		return err
	}
	return g.Serve(lis)
}

// Connect sends the message whenever it is woken. A Renew of any client wakes all.
func (b *bare) Connect(stream weftv1.SessionService_ConnectServer) error {
	if _, err := stream.Recv(); err != nil { // the Hello
		return err
	}
	if err := stream.Send(&weftv1.ConnectResponse{Message: &weftv1.ConnectResponse_Welcome{Welcome: &weftv1.Welcome{}}}); err != nil {
		return err
	}
	wake := make(chan struct{}, 100)
	go b.listen(stream, wake)
	for {
		select {
		case <-wake:
			if err := stream.Send(b.message); err != nil {
				return err
			}
		case <-stream.Context().Done():
			return nil
		}
	}
}

func (b *bare) listen(stream weftv1.SessionService_ConnectServer, wake chan struct{}) {
	for {
		m, err := stream.Recv()
		if err != nil {
			return
		}
		b.mu.Lock()
		switch {
		case m.GetSubscribe() != nil:
			b.streams[wake] = true
		case m.GetRenew() != nil:
			for wake := range b.streams {
				wake <- struct{}{}
			}
		}
		b.mu.Unlock()
	}
}

// servePlain is our session server without TLS, on a store in memory.
func servePlain() error {
	cat, err := catalog.Open(store.NewMemory(), nil)
	if err != nil {
		return err
	}
	g := grpc.NewServer(sessions.ServerOptions()...)
	sessions.New(cat, lease.New(cat, nil), sessions.Options{}).Register(g)
	return listenAndServe(g)
}
