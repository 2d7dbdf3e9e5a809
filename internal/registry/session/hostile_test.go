package session

import (
	"context"
	"testing"
	"testing/synctest"

	"google.golang.org/protobuf/proto"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/session/sessiontest"
)

// Blank and extreme values in every field of every message that a client can send: the session goes on or ends with a
// status, other sessions hear of changes as before, and every instance that the catalog has is one that it may have.
func TestHostileClients(t *testing.T) {
	count := 0
	bubble(t, Options{}, func(f *fixture) {
		f.put("p1", nil)
		witness := f.used(1)[0]
		defer witness.close()
		for _, good := range sessiontest.Requests("proc-1") {
			for what, m := range sessiontest.Hostile(good) {
				count++
				c := f.dial(context.Background())
				c.proc = "proc-1"
				if good.GetHello() == nil {
					c.hello(&weftv1.Hello{Process: "proc-1", Service: "product", Namespace: "shop"})
				}
				if proto.Size(m) < 1<<20 {
					c.send(proto.CloneOf(m))
				}
				c.settle(77, 0, "product.shop")
				for answered := false; !answered; { // or it is over
					got, err := c.stream.Recv()
					answered = err != nil || got.GetSettled().GetSeq() == 77
				}
				f.put("p1", func(in *discovery.Instance) { in.Weight = count%1000 + 1 })
				u, _ := witness.update()
				for u.Revision != f.cat.At(product).Number {
					witness.ack(u)
					u, _ = witness.update()
				}
				witness.ack(u)
				c.close()
				if f.t.Failed() {
					f.t.Fatalf("after %T %s", good.Message, what)
				}
			}
		}
		synctest.Wait()
		for _, s := range f.cat.Services("") {
			ins, _ := f.cat.Instances(s.Name)
			for _, in := range ins {
				in.State = discovery.Up
				if err := in.Validate(); err != nil || in.ID == "" {
					t.Errorf("the catalog took %+v: %v", in, err)
				}
			}
		}
	})
	if count < 250 {
		t.Errorf("%d messages were tried: want all fields with all values", count)
	}
	t.Logf("%d messages", count)
}
