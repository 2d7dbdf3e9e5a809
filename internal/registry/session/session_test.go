package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/testing/protocmp"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/access"
	"github.com/weftmesh/weft/internal/registry/catalog"
	"github.com/weftmesh/weft/internal/registry/lease"
	"github.com/weftmesh/weft/internal/registry/store"
	"github.com/weftmesh/weft/rule"
)

var product = discovery.Name{Service: "product", Namespace: "shop"}

// fixture is a server and what it stands on, in a bubble.
type fixture struct {
	t      *testing.T
	cat    *catalog.Catalog
	leases *lease.Leases
	srv    *Server
	grpc   *grpc.Server
	lis    *bufconn.Listener
}

func bubble(t *testing.T, opt Options, test func(*fixture)) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, opt)
		defer f.stop()
		test(f)
	})
}

func start(t *testing.T, opt Options) *fixture { return startOn(t, store.NewMemory(), opt) }

func startOn(t *testing.T, st store.Store, opt Options) *fixture {
	cat, err := catalog.Open(st, nil)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, cat: cat, leases: lease.New(cat, nil), grpc: grpc.NewServer(ServerOptions()...), lis: bufconn.Listen(1 << 20)}
	f.srv = New(cat, f.leases, opt)
	f.srv.Register(f.grpc)
	go f.grpc.Serve(f.lis)
	return f
}

func (f *fixture) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := f.srv.Close(ctx); err != nil {
		f.t.Error("close:", err)
	}
	f.grpc.Stop()
	f.leases.Close()
	if err := f.cat.Close(); err != nil {
		f.t.Error(err)
	}
}

// client is a process.
type client struct {
	t      *testing.T
	conn   *grpc.ClientConn
	stream weftv1.SessionService_ConnectClient
	proc   string
	seq    uint64
}

// dial opens a stream without a Hello.
func (f *fixture) dial(ctx context.Context) *client {
	f.t.Helper()
	conn, err := grpc.NewClient("passthrough:///registry",
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return f.lis.Dial() }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithStaticStreamWindowSize(window), grpc.WithStaticConnWindowSize(window))
	if err != nil {
		f.t.Fatal(err)
	}
	stream, err := weftv1.NewSessionServiceClient(conn).Connect(ctx)
	if err != nil {
		f.t.Fatal(err)
	}
	return &client{t: f.t, conn: conn, stream: stream}
}

// connect opens a session and takes its Welcome.
func (f *fixture) connect(process string) *client {
	f.t.Helper()
	c := f.dial(context.Background())
	c.proc = process
	c.hello(&weftv1.Hello{Process: process, Service: "product", Namespace: "shop", SdkVersion: "test"})
	w := c.recv().GetWelcome()
	if w == nil || w.Epoch != f.cat.Epoch() || w.RenewEveryMs != lease.RenewEvery(lease.SessionTTL).Milliseconds() {
		f.t.Fatalf("welcome %v", w)
	}
	return c
}

func (c *client) close() { c.conn.Close() }

func (c *client) send(m *weftv1.ConnectRequest) {
	c.t.Helper()
	if err := c.stream.Send(m); err != nil && !errors.Is(err, io.EOF) {
		c.t.Fatal(err)
	}
}

func (c *client) hello(h *weftv1.Hello) {
	c.send(&weftv1.ConnectRequest{Message: &weftv1.ConnectRequest_Hello{Hello: h}})
}

// recv gives the next message but for pleas to hurry.
func (c *client) recv() *weftv1.ConnectResponse {
	c.t.Helper()
	m := c.any()
	for m.GetHurry() != nil {
		m = c.any()
	}
	return m
}

func (c *client) any() *weftv1.ConnectResponse {
	c.t.Helper()
	m, err := c.stream.Recv()
	if err != nil {
		c.t.Fatal(err)
	}
	return m
}

// failure gives the status with which the session ends.
func (c *client) failure() *status.Status {
	c.t.Helper()
	for {
		if _, err := c.stream.Recv(); err != nil {
			return status.Convert(err)
		}
	}
}

func (c *client) wantFailure(code codes.Code, says string) {
	c.t.Helper()
	if got := c.failure(); got.Code() != code || !strings.Contains(got.Message(), says) {
		c.t.Errorf("ended with %v, want %v and %q", got, code, says)
	}
}

func (c *client) instance(id string) *weftv1.Instance {
	return &weftv1.Instance{Id: id, Service: "product", Namespace: "shop", Process: c.proc, Address: "10.0.0.1:80", Protocol: "http", Weight: 100, State: "up"}
}

// register sends a Register and gives the refusals of its Result. No updates may come in between.
func (c *client) register(ins ...*weftv1.Instance) []*weftv1.Refusal {
	c.t.Helper()
	c.seq++
	c.send(&weftv1.ConnectRequest{Message: &weftv1.ConnectRequest_Register{Register: &weftv1.Register{Seq: c.seq, Instances: ins}}})
	return c.result()
}

func (c *client) deregister(ids ...string) []*weftv1.Refusal {
	c.t.Helper()
	c.seq++
	c.send(&weftv1.ConnectRequest{Message: &weftv1.ConnectRequest_Deregister{Deregister: &weftv1.Deregister{Seq: c.seq, Ids: ids}}})
	return c.result()
}

func (c *client) result() []*weftv1.Refusal {
	c.t.Helper()
	r := c.recv().GetResult()
	if r == nil || r.Seq != c.seq {
		c.t.Fatalf("%v, want the result of %d", r, c.seq)
	}
	return r.Refusals
}

func (c *client) subscribe(service string, known discovery.Revision) {
	c.send(&weftv1.ConnectRequest{Message: &weftv1.ConnectRequest_Subscribe{Subscribe: &weftv1.Subscribe{
		Interests: []*weftv1.Interest{{Service: service, Epoch: known.Epoch, Revision: known.Number}},
	}}})
}

func (c *client) unsubscribe(service string) {
	c.send(&weftv1.ConnectRequest{Message: &weftv1.ConnectRequest_Unsubscribe{Unsubscribe: &weftv1.Unsubscribe{Services: []string{service}}}})
}

func (c *client) renew() {
	c.send(&weftv1.ConnectRequest{Message: &weftv1.ConnectRequest_Renew{Renew: &weftv1.Renew{}}})
}

// update takes the next update, in all its pieces.
func (c *client) update() (first *weftv1.Update, pieces int) {
	c.t.Helper()
	for {
		u := c.recv().GetUpdate()
		if u == nil {
			c.t.Fatal("not an update")
		}
		pieces++
		if first == nil {
			first = u
		} else {
			first.Instances = append(first.Instances, u.Instances...)
			first.Removals = append(first.Removals, u.Removals...)
			first.Rules = append(first.Rules, u.Rules...)
		}
		if !u.More {
			return first, pieces
		}
	}
}

func (c *client) ack(u *weftv1.Update, nacks ...*weftv1.Nack) {
	c.send(&weftv1.ConnectRequest{Message: &weftv1.ConnectRequest_Ack{Ack: &weftv1.Ack{
		Service: u.Service, Epoch: u.Epoch, Revision: u.Revision, Nacks: nacks,
	}}})
}

func (f *fixture) put(id string, change func(*discovery.Instance)) discovery.Revision {
	f.t.Helper()
	in := discovery.Instance{ID: id, Service: "product", Namespace: "shop", Address: "10.0.0.2:80", Protocol: discovery.HTTP}
	if change != nil {
		change(&in)
	}
	rev, err := f.cat.PutInstances(context.Background(), []discovery.Instance{in})
	if err != nil {
		f.t.Fatal(err)
	}
	return rev
}

func (f *fixture) state(id string) discovery.State {
	synctest.Wait()
	in, _, _ := f.cat.Instance(product, id)
	return in.State
}

func TestHello(t *testing.T) {
	tests := map[string]struct {
		hello *weftv1.Hello
		says  string
	}{
		"no process":   {&weftv1.Hello{Service: "product"}, `process ""`},
		"long process": {&weftv1.Hello{Process: strings.Repeat("p", 129)}, "1 to 128"},
		"service":      {&weftv1.Hello{Process: "p", Service: "A B"}, `service "A B"`},
		"namespace":    {&weftv1.Hello{Process: "p", Namespace: "a.b"}, `namespace "a.b"`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			bubble(t, Options{}, func(f *fixture) {
				c := f.dial(context.Background())
				defer c.close()
				c.hello(test.hello)
				c.wantFailure(codes.InvalidArgument, test.says)
			})
		})
	}
	t.Run("another message first", func(t *testing.T) {
		bubble(t, Options{}, func(f *fixture) {
			c := f.dial(context.Background())
			defer c.close()
			c.renew()
			c.wantFailure(codes.InvalidArgument, "not a Hello")
		})
	})
	t.Run("a second", func(t *testing.T) {
		bubble(t, Options{}, func(f *fixture) {
			c := f.connect("proc-1")
			defer c.close()
			c.hello(&weftv1.Hello{Process: "proc-1"})
			c.wantFailure(codes.InvalidArgument, "second Hello")
		})
	})
	t.Run("none", func(t *testing.T) {
		bubble(t, Options{}, func(f *fixture) {
			c := f.dial(context.Background())
			defer c.close()
			begin := time.Now()
			c.wantFailure(codes.DeadlineExceeded, "no Hello")
			if waited := time.Since(begin); waited != patience {
				t.Errorf("waited %v, want %v", waited, patience)
			}
		})
	})
}

func TestAuthorize(t *testing.T) {
	opt := Options{Authorize: func(_ context.Context, token, from string) (access.Grant, error) {
		switch token {
		case "good":
			return access.Grant{ID: "1", Name: "good", Role: access.Workload}, nil
		case "reader":
			return access.Grant{ID: "2", Name: "reader", Role: access.Reader}, nil
		case "forbidden":
			return access.Grant{}, status.Error(codes.PermissionDenied, "not here")
		}
		return access.Grant{}, errors.New("unknown token")
	}}
	for name, test := range map[string]struct {
		header string
		code   codes.Code
	}{
		"good":         {"Bearer good", codes.OK},
		"good, lower":  {"bearer good", codes.OK},
		"none":         {"", codes.Unauthenticated},
		"wrong":        {"Bearer bad", codes.Unauthenticated},
		"wrong scheme": {"Basic good", codes.Unauthenticated},
		"status":       {"Bearer forbidden", codes.PermissionDenied},
		"reader":       {"Bearer reader", codes.PermissionDenied},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, opt, func(f *fixture) {
				ctx := context.Background()
				if test.header != "" {
					ctx = metadata.AppendToOutgoingContext(ctx, "authorization", test.header)
				}
				c := f.dial(ctx)
				defer c.close()
				c.hello(&weftv1.Hello{Process: "proc-1"})
				m, err := c.stream.Recv()
				if status.Code(err) != test.code || test.code == codes.OK && m.GetWelcome() == nil {
					t.Errorf("%v, %v, want %v", m, err, test.code)
				}
			})
		})
	}
}

func TestRegister(t *testing.T) {
	bubble(t, Options{}, func(f *fixture) {
		c := f.connect("proc-1")
		defer c.close()
		foreign := c.instance("p3")
		foreign.Process = "proc-2"
		invalid := c.instance("p2")
		invalid.Weight = 20000
		got := c.register(c.instance("p1"), invalid, foreign)
		if len(got) != 2 || got[0].Id != "p2" || got[0].Code != codeInvalid || got[1].Id != "p3" || got[1].Code != codeForbidden {
			t.Errorf("refusals %v", got)
		}
		in, _, ok := f.cat.Instance(product, "p1")
		if diff := cmp.Diff(catalog.FromWire(c.instance("p1")), in); !ok || diff != "" {
			t.Errorf("registered (-want +got):\n%s", diff)
		}
		if got := c.register(); len(got) != 0 {
			t.Errorf("an empty Register: %v", got)
		}
		if got := c.deregister("p1", "never"); len(got) != 0 {
			t.Errorf("deregister: %v", got)
		}
		if _, _, ok := f.cat.Instance(product, "p1"); ok {
			t.Error("p1 is still there")
		}
		u := f.cat.Update(product, discovery.Revision{Epoch: f.cat.Epoch(), Number: f.cat.Revision().Number - 1})
		if diff := cmp.Diff([]*weftv1.Removal{{Id: "p1", Reason: "deregistered"}}, u.GetRemovals(), protocmp.Transform()); diff != "" {
			t.Errorf("removals (-want +got):\n%s", diff)
		}
	})
}

// TestSameID: an id belongs to the process that registered it, as long as that lives.
func TestSameID(t *testing.T) {
	bubble(t, Options{}, func(f *fixture) {
		a, b := f.connect("proc-a"), f.connect("proc-b")
		defer b.close()
		a.register(a.instance("p1"))
		got := b.register(b.instance("p1"), b.instance("p2"))
		if len(got) != 1 || got[0].Id != "p1" || got[0].Code != codeForbidden || !strings.Contains(got[0].Message, "proc-a") {
			t.Errorf("refusals %v", got)
		}
		b.deregister("p1") // not its own
		if in, _, _ := f.cat.Instance(product, "p1"); in.Process != "proc-a" {
			t.Errorf("p1 belongs to %q", in.Process)
		}
		a.close()
		synctest.Wait()
		if got := b.register(b.instance("p1")); len(got) != 0 { // the control
			t.Errorf("after proc-a has gone: %v", got)
		}
	})
}

func TestOwnedBound(t *testing.T) {
	bubble(t, Options{}, func(f *fixture) {
		c := f.connect("proc-1")
		defer c.close()
		var ins []*weftv1.Instance
		for i := range maxOwned + 1 {
			ins = append(ins, c.instance(fmt.Sprintf("p%04d", i)))
		}
		got := c.register(ins...)
		if len(got) != 1 || got[0].Id != "p1000" || got[0].Code != codeInvalid || !strings.Contains(got[0].Message, "1000") {
			t.Errorf("refusals %v", got)
		}
	})
}

// TestIsolatedStays: what an operator isolated is not brought back by the process that reconnects.
func TestIsolatedStays(t *testing.T) {
	bubble(t, Options{}, func(f *fixture) {
		c := f.connect("proc-1")
		defer c.close()
		c.register(c.instance("p1"))
		key := catalog.InstanceKey{Service: product, ID: "p1"}
		if _, _, err := f.cat.OrderInstance(f.t.Context(), key, catalog.Order{State: discovery.Isolated}); err != nil {
			f.t.Fatal(err)
		}
		c.register(c.instance("p1"))
		if got := f.state("p1"); got != discovery.Isolated {
			t.Errorf("state %s after it registered again, want isolated", got)
		}
		draining := c.instance("p1")
		draining.State = "draining"
		c.register(draining)
		if got := f.state("p1"); got != discovery.Draining {
			t.Errorf("state %s, want draining", got)
		}
	})
}

// TestDeletedStays: what an operator removed is not brought back by the process that reconnects.
func TestDeletedStays(t *testing.T) {
	bubble(t, Options{}, func(f *fixture) {
		c := f.connect("proc-1")
		defer func() { c.close() }()
		c.register(c.instance("p1"))
		remove := func() {
			keys := []catalog.InstanceKey{{Service: product, ID: "p1"}}
			if _, err := f.cat.DeleteInstances(context.Background(), keys, discovery.Deleted); err != nil {
				t.Fatal(err)
			}
		}
		remove()
		c.close()
		c = f.connect("proc-1")
		if got := c.register(c.instance("p1")); len(got) != 1 || got[0].Code != codeDeleted {
			t.Errorf("refusals %v, want deleted", got)
		}
		f.put("p1", func(in *discovery.Instance) { in.Process = "proc-1" }) // the operator changes their mind
		if got := c.register(c.instance("p1")); len(got) != 0 {
			t.Errorf("after it was put back: %v", got)
		}
		remove()
		other := f.connect("proc-2")
		defer other.close()
		if got := other.register(other.instance("p1")); len(got) != 0 {
			t.Errorf("a new process: %v", got)
		}
		if got := other.deregister("p1"); len(got) != 0 {
			t.Fatal(got)
		}
		if got := other.register(other.instance("p1")); len(got) != 0 { // the control: it left by itself
			t.Errorf("after it deregistered itself: %v", got)
		}
	})
}

func TestLiveness(t *testing.T) {
	bubble(t, Options{}, func(f *fixture) {
		c := f.connect("proc-1")
		c.register(c.instance("p1"))
		for range 10 {
			time.Sleep(lease.RenewEvery(lease.SessionTTL))
			c.renew()
		}
		if got := f.state("p1"); got != discovery.Up {
			t.Errorf("renewed: %s", got)
		}
		c.close()
		if got := f.state("p1"); got != discovery.Suspect {
			t.Errorf("closed: %s, want suspect at once", got)
		}
		c = f.connect("proc-1")
		c.register(c.instance("p1"))
		if got := f.state("p1"); got != discovery.Up {
			t.Errorf("back: %s", got)
		}
		time.Sleep(8 * time.Second) // silent, with the stream open
		if got := f.state("p1"); got != discovery.Suspect {
			t.Errorf("silent: %s", got)
		}
		c.renew()
		if got := f.state("p1"); got != discovery.Up {
			t.Errorf("renewed again: %s", got)
		}
		c.close()
		time.Sleep(32 * time.Second)
		if got := f.state("p1"); got != "" {
			t.Errorf("gone for 32 s: %s", got)
		}
	})
}

// TestTakeover: a new session of the process replaces the old one, whose end is then no loss.
func TestTakeover(t *testing.T) {
	bubble(t, Options{}, func(f *fixture) {
		old := f.connect("proc-1")
		defer old.close()
		old.register(old.instance("p1"))
		c := f.connect("proc-1")
		defer c.close()
		old.wantFailure(codes.Aborted, "took over")
		if got := f.state("p1"); got != discovery.Up {
			t.Errorf("state %s, want up", got)
		}
		c.deregister("p1") // though this session did not register it
		if got := f.state("p1"); got != "" {
			t.Errorf("state %s, want gone", got)
		}
		if got := f.srv.Clients(); len(got) != 1 {
			t.Errorf("%d clients, want 1", len(got))
		}
	})
}

func TestPush(t *testing.T) {
	bubble(t, Options{}, func(f *fixture) {
		c := f.connect("proc-1")
		defer c.close()
		c.subscribe("product.shop", discovery.Revision{})
		u, _ := c.update()
		if !u.Snapshot || !u.Missing {
			t.Fatalf("first %v, want a snapshot that says missing", u)
		}
		at := f.put("p1", nil)
		u, _ = c.update()
		if u.Snapshot || u.Missing || len(u.Instances) != 1 || u.Revision != at.Number {
			t.Errorf("%v, want a delta with p1 at %v", u, at)
		}
		r := rule.Rule{Kind: rule.KindRoute, Namespace: "shop", Name: "all", Service: "*", Spec: &rule.Route{
			Subsets: map[string]map[string]string{"v1": {"version": "v1"}},
			Rules:   []rule.RouteRule{{Split: []rule.Destination{{Subset: "v1", Weight: 100}}}},
		}}
		if _, err := f.cat.ApplyRules(context.Background(), catalog.Change{Puts: []rule.Rule{r}}); err != nil {
			t.Fatal(err)
		}
		u, _ = c.update()
		if !u.HasRules || len(u.Rules) != 1 || len(u.Instances) != 0 {
			t.Errorf("%v, want the rule alone", u)
		}
		got, err := rule.ParseOne(u.Rules[0])
		if err != nil || got.Name != "all" || got.Revision == "" {
			t.Errorf("pushed rule %+v, %v", got, err)
		}
		c.unsubscribe("product.shop")
		synctest.Wait()
		f.put("p2", nil)
		c.subscribe("product.shop", discovery.Revision{Epoch: u.Epoch, Number: u.Revision})
		u, _ = c.update()
		if u.Snapshot || len(u.Instances) != 1 || u.Instances[0].Id != "p2" {
			t.Errorf("resumed with %v, want a delta with p2", u)
		}
		c.subscribe("product.shop", discovery.Revision{Epoch: u.Epoch, Number: u.Revision})
		f.put("p3", nil)
		if u, _ = c.update(); len(u.Instances) != 1 || u.Instances[0].Id != "p3" {
			t.Errorf("%v, want p3 alone: nothing is sent to who knows it all", u)
		}
	})
}

func TestBadSubscription(t *testing.T) {
	bubble(t, Options{}, func(f *fixture) {
		c := f.connect("proc-1")
		defer c.close()
		c.subscribe("product", discovery.Revision{})
		c.wantFailure(codes.InvalidArgument, `"product"`)
	})
}

// fill registers instances that are large enough for many pieces.
func (f *fixture) fill(n int) {
	f.t.Helper()
	var ins []discovery.Instance
	for i := range n {
		ins = append(ins, discovery.Instance{
			ID: fmt.Sprintf("p%04d", i), Service: "product", Namespace: "shop", Address: "10.0.0.2:80", Protocol: discovery.HTTP,
			Labels: map[string]string{"filler": strings.Repeat("x", 1000)},
		})
	}
	if _, err := f.cat.PutInstances(context.Background(), ins); err != nil {
		f.t.Fatal(err)
	}
}

func TestPieces(t *testing.T) {
	bubble(t, Options{}, func(f *fixture) {
		f.fill(500)
		c := f.connect("proc-1")
		defer c.close()
		c.subscribe("product.shop", discovery.Revision{})
		u, pieces := c.update()
		if len(u.Instances) != 500 || pieces < 500/32 || !u.Snapshot {
			t.Errorf("%d instances in %d pieces", len(u.Instances), pieces)
		}
	})
}

// TestWindow: an unacknowledged process gets no more, and then the latest state at once.
func TestWindow(t *testing.T) {
	bubble(t, Options{}, func(f *fixture) {
		f.fill(60)
		c := f.connect("proc-1")
		defer c.close()
		c.subscribe("product.shop", discovery.Revision{})
		u, _ := c.update()
		for i := range 20 {
			f.put("p0000", func(in *discovery.Instance) { in.Weight = i + 1 })
			time.Sleep(100 * time.Millisecond)
		}
		ss := f.srv.sessions["proc-1"]
		if sent := ss.outbox.subscriptions()[0].Sent; sent.Number != u.Revision {
			t.Errorf("sent up to %v without an acknowledgement of %d", sent, u.Revision)
		}
		c.ack(u)
		got, _ := c.update()
		if len(got.Instances) != 1 || got.Instances[0].Weight != 20 {
			t.Errorf("%v, want the last change alone", got)
		}
		c.ack(got)
		synctest.Wait()
		ss.outbox.mu.Lock()
		defer ss.outbox.mu.Unlock()
		if ss.outbox.unacked != 0 || len(ss.outbox.dirty) != 0 {
			t.Errorf("%d bytes unacknowledged, %v dirty", ss.outbox.unacked, ss.outbox.dirty)
		}
	})
}

func TestSlowIsEvicted(t *testing.T) {
	for name, test := range map[string]struct {
		size  int
		reads bool
	}{
		"reads but never acknowledges": {60, true},
		"does not read":                {500, false},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, Options{}, func(f *fixture) {
				f.fill(test.size)
				c := f.connect("proc-1")
				defer c.close()
				c.register(c.instance("own"))
				c.subscribe("product.shop", discovery.Revision{})
				if test.reads {
					c.update()
				}
				synctest.Wait()
				f.put("p0000", nil)
				time.Sleep(patience - time.Second)
				c.renew()
				if got := f.state("own"); got != discovery.Up {
					t.Errorf("before: %s", got)
				}
				time.Sleep(2 * time.Second)
				if got := f.state("own"); got != discovery.Suspect || len(f.srv.Clients()) != 0 {
					t.Errorf("after: %s, %d clients, want it evicted", got, len(f.srv.Clients()))
				}
				c.wantFailure(codes.ResourceExhausted, "10 s")
				if sent := f.srv.Traffic(); sent.Evictions != 1 || sent.Pushes == 0 || sent.PushBytes < sent.Pushes {
					t.Errorf("counted %+v, want one eviction and what was pushed", sent)
				}
			})
		})
	}
	t.Run("control: acknowledges", func(t *testing.T) {
		bubble(t, Options{}, func(f *fixture) {
			f.fill(60)
			c := f.connect("proc-1")
			defer c.close()
			c.subscribe("product.shop", discovery.Revision{})
			for i := range 10 {
				u, _ := c.update()
				time.Sleep(patience / 2)
				c.ack(u)
				f.put("p0000", func(in *discovery.Instance) { in.Weight = i + 1 })
			}
			if len(f.srv.Clients()) != 1 {
				t.Error("evicted")
			}
		})
	})
}

func TestClients(t *testing.T) {
	bubble(t, Options{}, func(f *fixture) {
		begin := time.Now()
		c := f.connect("proc-1")
		defer c.close()
		c.register(c.instance("p1"))
		c.subscribe("product.shop", discovery.Revision{})
		u, _ := c.update()
		var many []*weftv1.Nack
		for i := range maxNacks + 5 {
			many = append(many, &weftv1.Nack{Kind: "Route", Namespace: "shop", Name: fmt.Sprint(i), Revision: "1-2", Reason: strings.Repeat("r", maxReason+1)})
		}
		c.ack(u, many...)
		synctest.Wait()
		got := f.srv.Clients()
		nacks := got[0].Services[0].Nacks
		if len(nacks) != maxNacks || len(nacks[0].Reason) != maxReason {
			t.Errorf("%d nacks are kept", len(nacks))
		}
		at := discovery.Revision{Epoch: u.Epoch, Number: u.Revision}
		got[0].Services[0].Nacks = nacks[:1]
		want := []Client{{
			Process: "proc-1", Service: product, SDKVersion: "test", Address: "bufconn", Since: begin,
			Instances: []catalog.InstanceKey{{Service: product, ID: "p1"}},
			Services: []Subscription{{
				Name: product, Sent: at, Acked: at, Latest: at,
				Nacks: []rule.Nack{{Kind: "Route", Namespace: "shop", Name: "0", Revision: "1-2", Reason: strings.Repeat("r", maxReason)}},
			}},
		}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("clients (-want +got):\n%s", diff)
		}
		c.ack(u)
		synctest.Wait()
		if got := f.srv.Clients()[0].Services[0].Nacks; len(got) != 0 {
			t.Errorf("nacks %v stay after an acknowledgement without", got)
		}
	})
}

// TestNothingIsKept: what sessions leave behind.
func TestNothingIsKept(t *testing.T) {
	bubble(t, Options{}, func(f *fixture) {
		for i := range 20 {
			c := f.connect(fmt.Sprintf("proc-%d", i))
			c.subscribe("product.shop", discovery.Revision{})
			c.subscribe(fmt.Sprintf("s%d.shop", i), discovery.Revision{})
			c.update()
			if i%2 == 0 {
				c.unsubscribe("product.shop")
			}
			c.close()
		}
		synctest.Wait()
		f.srv.mu.Lock()
		defer f.srv.mu.Unlock()
		if len(f.srv.live) != 0 || len(f.srv.sessions) != 0 || len(f.srv.interests) != 0 {
			t.Errorf("%d sessions, %d interests are left", len(f.srv.sessions), len(f.srv.interests))
		}
	})
}

func TestClose(t *testing.T) {
	bubble(t, Options{}, func(f *fixture) {
		c := f.connect("proc-1")
		defer c.close()
		c.register(c.instance("p1"))
		silent := f.dial(context.Background()) // no Hello yet
		defer silent.close()
		synctest.Wait()
		for range 2 {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			if err := f.srv.Close(ctx); err != nil {
				t.Error(err)
			}
			cancel()
		}
		c.wantFailure(codes.Unavailable, "stopping")
		silent.wantFailure(codes.Unavailable, "stopping")
		if got := f.state("p1"); got != discovery.Up {
			t.Errorf("state %s: a server that stops knows nothing of its processes", got)
		}
		late := f.dial(context.Background())
		defer late.close()
		late.wantFailure(codes.Unavailable, "stopping")
	})
}

// TestManySubscribers: all hear of every change in the end, whatever was coalesced.
func TestManySubscribers(t *testing.T) {
	bubble(t, Options{}, func(f *fixture) {
		const clients, changes = 50, 30
		done := make(chan uint32, clients)
		for i := range clients {
			c := f.connect(fmt.Sprintf("proc-%d", i))
			defer c.close()
			c.subscribe("product.shop", discovery.Revision{})
			go func() {
				weight := uint32(0)
				for weight != changes {
					u, _ := c.update()
					for _, in := range u.Instances {
						weight = in.Weight
					}
					c.ack(u)
				}
				done <- weight
			}()
		}
		for i := range changes {
			f.put("p1", func(in *discovery.Instance) { in.Weight = i + 1 })
		}
		for range clients {
			select {
			case <-done:
			case <-time.After(time.Minute):
				t.Fatal("a client did not hear of the last change")
			}
		}
	})
}
