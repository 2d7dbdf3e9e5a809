package session

import (
	"context"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
	"github.com/weftmesh/weft/discovery"
	sdk "github.com/weftmesh/weft/internal/session"
)

// process is a process with the SDK's end of the session, which mirrors one service.
type process struct {
	*sdk.Session

	mu        sync.Mutex
	instances map[string]*weftv1.Instance
	updates   int
}

func (f *fixture) process(id string) *process {
	p := &process{instances: make(map[string]*weftv1.Instance)}
	p.Session = sdk.New(sdk.Config{
		Endpoint: func(context.Context) (sdk.Endpoint, error) {
			return sdk.Endpoint{Target: "registry:1", Insecure: true}, nil
		},
		Process: id, Service: "product", Namespace: "shop",
		Dial: func(context.Context, string) (net.Conn, error) { return f.lis.Dial() },
	})
	p.Subscribe("product.shop", sdk.Revision{}, p.apply)
	return p
}

func (p *process) apply(u *weftv1.Update) []*weftv1.Nack {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.updates++
	if u.GetSnapshot() {
		clear(p.instances)
	}
	for _, r := range u.GetRemovals() {
		delete(p.instances, r.GetId())
	}
	for _, in := range u.GetInstances() {
		p.instances[in.GetId()] = in
	}
	return nil
}

// sees gives the state in which the process sees an instance; "" if it does not.
func (p *process) sees(id string) string {
	time.Sleep(100 * time.Millisecond)
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.instances[id].GetState()
}

// TestInterop lets the SDK's end of the session talk to the server's: register, stay alive, see each other, lose a
// connection, leave.
func TestInterop(t *testing.T) {
	bubble(t, Options{}, func(f *fixture) {
		f.fill(300) // a snapshot of many pieces
		a, b := f.process("proc-a"), f.process("proc-b")
		defer a.Close()
		wire := (&client{proc: "proc-b"}).instance("own")
		reg, err := b.Register(f.t.Context(), wire)
		if err != nil {
			t.Fatal(err)
		}
		if got := a.sees("own"); got != string(discovery.Up) || len(a.instances) != 301 {
			t.Fatalf("registered: %q among %d instances", got, len(a.instances))
		}
		time.Sleep(time.Minute)
		if got := a.sees("own"); got != string(discovery.Up) {
			t.Errorf("after a minute of renewals: %q", got)
		}
		f.srv.owner("proc-b").end(errSlow) // the connection breaks
		if f.srv.owner("proc-b"); a.sees("own") == "" {
			t.Error("a broken connection removed it")
		}
		time.Sleep(10 * time.Second)
		if got := a.sees("own"); got != string(discovery.Up) {
			t.Errorf("after the reconnect: %q", got)
		}
		if clients := f.srv.Clients(); len(clients) != 2 || len(clients[1].Instances) != 1 || clients[1].Services[0].Acked != clients[1].Services[0].Sent {
			t.Errorf("clients %+v", clients)
		}
		if err := reg.Close(f.t.Context()); err != nil {
			t.Error(err)
		}
		if got := a.sees("own"); got != "" {
			t.Errorf("after Close: %q", got)
		}
		if _, err := b.Register(f.t.Context(), wire); err != nil {
			t.Fatal(err)
		}
		b.Close()
		if got := a.sees("own"); got != string(discovery.Suspect) {
			t.Errorf("after the process died: %q", got)
		}
		time.Sleep(32 * time.Second)
		if got := a.sees("own"); got != "" {
			t.Errorf("half a minute later: %q", got)
		}
	})
}
