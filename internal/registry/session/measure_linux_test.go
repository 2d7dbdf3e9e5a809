package session

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/catalog"
	"github.com/weftmesh/weft/internal/registry/lease"
	"github.com/weftmesh/weft/internal/registry/store"
)

// childEnv makes the test binary a server of sessions on a memory store, so that it can be measured without its clients.
const childEnv = "WEFT_TEST_SESSION_SERVER"

// serveChild answers commands on standard input: "stats" with goroutines, anonymous bytes and CPU nanoseconds, "change" with
// the nanosecond at which the write began.
func serveChild() {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	cat, err := catalog.Open(store.NewMemory(), nil)
	if err != nil {
		panic(err)
	}
	var g *grpc.Server
	switch os.Getenv(childEnv) {
	case "bare":
		g = serveBare(cat)
	case "bare, static windows":
		g = serveBare(cat, grpc.StaticStreamWindowSize(window), grpc.StaticConnWindowSize(window))
	default:
		g = grpc.NewServer(ServerOptions()...)
		New(cat, lease.New(cat, nil), Options{}).Register(g)
	}
	go g.Serve(lis)
	fmt.Println(lis.Addr())
	weight := 0
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		switch in.Text() {
		case "stats":
			var use syscall.Rusage
			_ = syscall.Getrusage(syscall.RUSAGE_SELF, &use)
			for range 3 { // an idle server collects every two minutes, and each time a stack that is too large loses half
				runtime.GC()
			}
			debug.FreeOSMemory()
			fmt.Println(runtime.NumGoroutine(), anonymous(), use.Utime.Nano()+use.Stime.Nano())
		case "change":
			weight++
			begin := time.Now()
			_, err := cat.PutInstances(context.Background(), []discovery.Instance{{
				ID: "p1", Service: "product", Namespace: "shop", Address: "10.0.0.1:80", Protocol: discovery.HTTP, Weight: weight,
			}})
			if err != nil {
				panic(err)
			}
			fmt.Println(begin.UnixNano())
		}
	}
}

// bare is what one would write with grpc-go alone: a goroutine for each session that sends what is new.
type bare struct {
	weftv1.UnimplementedSessionServiceServer
	cat *catalog.Catalog

	mu   sync.Mutex
	wake map[chan struct{}]bool
}

func serveBare(cat *catalog.Catalog, opts ...grpc.ServerOption) *grpc.Server {
	b := &bare{cat: cat, wake: map[chan struct{}]bool{}}
	cat.Subscribe(func([]discovery.Name) {
		b.mu.Lock()
		defer b.mu.Unlock()
		for c := range b.wake {
			select {
			case c <- struct{}{}:
			default:
			}
		}
	})
	g := grpc.NewServer(opts...)
	weftv1.RegisterSessionServiceServer(g, b)
	return g
}

func (b *bare) Connect(stream weftv1.SessionService_ConnectServer) error {
	if _, err := stream.Recv(); err != nil {
		return err
	}
	if err := stream.Send(&weftv1.ConnectResponse{Message: &weftv1.ConnectResponse_Welcome{Welcome: &weftv1.Welcome{Epoch: 1}}}); err != nil {
		return err
	}
	wake := make(chan struct{}, 1)
	b.mu.Lock()
	b.wake[wake] = true
	b.mu.Unlock()
	go func() {
		var known discovery.Revision
		for first := true; ; first = false {
			if !first {
				select {
				case <-wake:
				case <-stream.Context().Done():
					return
				}
			}
			if u := b.cat.Update(discovery.Name{Service: "product", Namespace: "shop"}, known); u != nil {
				known = discovery.Revision{Epoch: u.Epoch, Number: u.Revision}
				if stream.Send(&weftv1.ConnectResponse{Message: &weftv1.ConnectResponse_Update{Update: u}}) != nil {
					return
				}
			}
		}
	}()
	for {
		if _, err := stream.Recv(); err != nil {
			b.mu.Lock()
			defer b.mu.Unlock()
			delete(b.wake, wake)
			return err
		}
	}
}

// anonymous gives the anonymous memory of this process in bytes.
func anonymous() int {
	data, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kb, _ := strconv.Atoi(strings.Fields(rest)[0])
			return kb << 10
		}
	}
	return 0
}

// child is a server in a process of its own.
type child struct {
	t       *testing.T
	addr    string
	windows bool // static ones, as the server's
	in      io.Writer
	out     *bufio.Scanner
}

func startChild(t *testing.T, kind string) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+kind)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close() // which ends it
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	c := &child{t: t, windows: kind != "bare", in: in, out: bufio.NewScanner(out)}
	c.addr = c.read()
	return c
}

func (c *child) read() string {
	c.t.Helper()
	if !c.out.Scan() {
		c.t.Fatal("the server has ended")
	}
	return c.out.Text()
}

func (c *child) say(command string) string {
	c.t.Helper()
	fmt.Fprintln(c.in, command)
	return c.read()
}

type stats struct {
	goroutines, anonymous int
	cpu                   time.Duration
}

func (c *child) stats() (s stats) {
	c.t.Helper()
	if _, err := fmt.Sscan(c.say("stats"), &s.goroutines, &s.anonymous, &s.cpu); err != nil {
		c.t.Fatal(err)
	}
	return s
}

// open opens a session on a connection of its own and takes the Welcome.
func (c *child) open(process string) weftv1.SessionService_ConnectClient {
	c.t.Helper()
	opts := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithReadBufferSize(4 << 10), grpc.WithWriteBufferSize(4 << 10)}
	if c.windows {
		opts = append(opts, grpc.WithStaticStreamWindowSize(window), grpc.WithStaticConnWindowSize(window))
	}
	conn, err := grpc.NewClient("passthrough:///"+c.addr, opts...)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { conn.Close() })
	stream, err := weftv1.NewSessionServiceClient(conn).Connect(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	hello := &weftv1.Hello{Process: process, Service: "product", Namespace: "shop"}
	if err := stream.Send(&weftv1.ConnectRequest{Message: &weftv1.ConnectRequest_Hello{Hello: hello}}); err != nil {
		c.t.Fatal(err)
	}
	if m, err := stream.Recv(); err != nil || m.GetWelcome() == nil {
		c.t.Fatal(m, err)
	}
	return stream
}

// watcher is a session that uses product and tells when it hears of something.
func (c *child) watcher(process string, heard func(time.Time)) {
	c.t.Helper()
	stream := c.open(process)
	subscribe := &weftv1.Subscribe{Interests: []*weftv1.Interest{{Service: "product.shop"}}}
	if err := stream.Send(&weftv1.ConnectRequest{Message: &weftv1.ConnectRequest_Subscribe{Subscribe: subscribe}}); err != nil {
		c.t.Fatal(err)
	}
	if m, err := stream.Recv(); err != nil || m.GetUpdate() == nil {
		c.t.Fatal(m, err)
	}
	go func() { // it acknowledges as the SDK does: merged, after a while
		var latest atomic.Pointer[weftv1.Ack]
		for {
			m, err := stream.Recv()
			if err != nil {
				return
			}
			if u := m.GetUpdate(); u != nil {
				heard(time.Now())
				if latest.Swap(&weftv1.Ack{Service: u.Service, Epoch: u.Epoch, Revision: u.Revision}) == nil {
					time.AfterFunc(100*time.Millisecond+rand.N(400*time.Millisecond), func() {
						_ = stream.Send(&weftv1.ConnectRequest{Message: &weftv1.ConnectRequest_Ack{Ack: latest.Swap(nil)}})
					})
				}
			}
		}
	}()
}

// sized gives a number for the full proof, and one for every day.
func sized(full, daily int) int {
	if os.Getenv("WEFT_PROVE") == "full" {
		return full
	}
	return daily
}

// An idle session costs the server four goroutines and, on a plain connection, at most 36 KB of anonymous memory.
func TestIdleSession(t *testing.T) {
	n := sized(2000, 400)
	c := startChild(t, "weft")
	c.watcher("first", func(time.Time) {})
	before := c.stats()
	for i := range n {
		c.watcher(fmt.Sprint("p", i), func(time.Time) {})
	}
	after := c.stats()
	goroutines := float64(after.goroutines-before.goroutines) / float64(n)
	bytes := (after.anonymous - before.anonymous) / n
	t.Logf("%d idle sessions: %.2f goroutines and %d bytes of anonymous memory each", n, goroutines, bytes)
	if goroutines > 4.01 {
		t.Errorf("%.2f goroutines a session, want 4", goroutines)
	}
	if most := sized(36<<10, 40<<10); bytes > most && !raced { // what all share counts for more among few
		t.Errorf("%d bytes a session, want at most %d", bytes, most)
	}
}

// One change reaches all sessions: for the record, beside what grpc-go does alone with the same bytes in the same run.
func TestPushFigures(t *testing.T) {
	if os.Getenv("WEFT_PROVE") == "" {
		t.Skip("a measurement: WEFT_PROVE=full")
	}
	for _, kind := range []string{"bare", "bare, static windows", "weft"} {
		pushFigures(t, kind)
	}
}

func pushFigures(t *testing.T, kind string) {
	const n, changes = 1000, 30
	c := startChild(t, kind)
	var mu sync.Mutex
	var times []time.Time
	got := make(chan struct{}, n)
	for i := range n {
		c.watcher(fmt.Sprint("p", i), func(at time.Time) {
			mu.Lock()
			times = append(times, at)
			mu.Unlock()
			got <- struct{}{}
		})
	}
	var all []time.Duration
	before := c.stats()
	for range changes {
		nano, err := strconv.ParseInt(c.say("change"), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		for range n {
			<-got
		}
		for _, at := range times {
			all = append(all, at.Sub(time.Unix(0, nano)))
		}
		times = nil
		time.Sleep(100 * time.Millisecond)
	}
	cpu := c.stats().cpu - before.cpu
	slices.Sort(all)
	t.Logf("%s: %d changes to %d sessions: p50 %v, p99 %v, %v of server CPU a message", kind, changes, n,
		all[len(all)/2], all[len(all)*99/100], cpu/time.Duration(changes*n))
}

// Registrations by 64 clients, on a memory store; for the record.
func TestRegistrationFigures(t *testing.T) {
	if os.Getenv("WEFT_PROVE") == "" {
		t.Skip("a measurement: WEFT_PROVE=full")
	}
	for _, outstanding := range []int{1, 32} {
		c := startChild(t, "weft")
		var count atomic.Int64
		var clients sync.WaitGroup
		before, begin := c.stats(), time.Now()
		for i := range 64 {
			process := fmt.Sprint("p", i)
			stream := c.open(process)
			clients.Go(func() {
				for sent, answered := uint64(0), uint64(0); time.Since(begin) < 5*time.Second; {
					for ; sent < answered+uint64(outstanding); sent++ {
						in := &weftv1.Instance{Id: fmt.Sprint(process, "-", sent%900), Service: fmt.Sprint("product", i%8), Namespace: "shop", Process: process,
							Address: "10.0.0.1:80", Protocol: "http", Weight: uint32(sent/900%10000 + 1)}
						m := &weftv1.Register{Seq: sent + 1, Instances: []*weftv1.Instance{in}}
						if stream.Send(&weftv1.ConnectRequest{Message: &weftv1.ConnectRequest_Register{Register: m}}) != nil {
							return
						}
					}
					m, err := stream.Recv()
					if err != nil || len(m.GetResult().GetRefusals()) > 0 {
						t.Error(m, err)
						return
					}
					count.Add(int64(m.GetResult().GetSeq() - answered))
					answered = m.GetResult().GetSeq()
				}
			})
		}
		clients.Wait()
		took, cpu := time.Since(begin), c.stats().cpu-before.cpu
		t.Logf("%d outstanding: %.0f registrations/s, %v of server CPU each", outstanding, float64(count.Load())/took.Seconds(), cpu/time.Duration(count.Load()))
	}
}
