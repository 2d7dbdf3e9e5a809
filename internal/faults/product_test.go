//go:build unix

package faults

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	pb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/weftmesh/weft"
)

// productID, set in the environment, makes the test binary an instance of product.
const productID = "WEFT_FAULTS_PRODUCT"

// abrupt, set in the environment of an instance, makes it break off everything under way once it has closed its mesh;
// hurried makes it do so without waiting for what closing waits for.
const (
	abrupt  = "WEFT_FAULTS_ABRUPT"
	hurried = "WEFT_FAULTS_HURRIED"
)

// work is how long a call takes at an instance, so that some are always under way.
const work = 10 * time.Millisecond

// startProduct starts an instance of product in a process of its own, over both protocols.
func startProduct(t *testing.T, r *registry, id string, environment ...string) *process {
	t.Helper()
	p := spawnProducts(t, r, id, environment...)
	eventually(t, id+" is up", 20*time.Second, func() error {
		if !p.running() {
			t.Fatalf("%s does not start: %s", id, p.said())
		}
		states, err := r.states(t.Context(), "product")
		if err != nil {
			return err
		}
		return errorUnless(states[id+"-grpc"] == "up" && states[id+"-http"] == "up", "its states are %v", states)
	})
	return p
}

func spawnProducts(t *testing.T, r *registry, id string, environment ...string) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), productID+"="+id, "WEFT_REGISTRY="+r.grpc)
	cmd.Env = append(cmd.Env, environment...)
	return spawn(t, id, cmd)
}

// serveProducts is the process: one instance, or as many meshes with one each as the id says after a colon. It ends at
// SIGTERM, and with its parent.
func serveProducts(id string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	id, count, several := strings.Cut(id, ":")
	if !several {
		return serveProduct(ctx, id)
	}
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	ended := make(chan error)
	for i := range n {
		go func() { ended <- serveProduct(ctx, fmt.Sprintf("%s%d", id, i)) }()
	}
	for range n {
		err = errors.Join(err, <-ended)
	}
	return err
}

func serveProduct(ctx context.Context, id string) error {
	m, err := weft.New(weft.WithService("product"))
	if err != nil {
		return err
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	g := grpc.NewServer(m.ServerOptions()...)
	pb.RegisterTestServiceServer(g, product{})
	go g.Serve(lis)
	web, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: m.Handler(product{})}
	go srv.Serve(m.Listener(web))
	for _, in := range []weft.Instance{
		{ID: id + "-grpc", Address: lis.Addr().String(), Protocol: weft.GRPC},
		{ID: id + "-http", Address: web.Addr().String(), Protocol: weft.HTTP},
	} {
		if _, err := m.Register(ctx, in); err != nil {
			return err
		}
	}
	<-ctx.Done()
	closing, cancel := context.WithCancel(context.Background())
	defer cancel()
	if os.Getenv(hurried) != "" {
		cancel()
	}
	err = m.Close(closing)
	if os.Getenv(abrupt) != "" {
		g.Stop()
		return srv.Close()
	}
	g.GracefulStop()
	return errors.Join(err, srv.Shutdown(context.Background()))
}

// product answers everything after a while.
type product struct {
	pb.UnimplementedTestServiceServer
}

func (product) EmptyCall(context.Context, *pb.Empty) (*pb.Empty, error) {
	time.Sleep(work)
	return &pb.Empty{}, nil
}

func (product) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	time.Sleep(work)
	io.WriteString(w, "here you are")
}
