package registry

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/session/sessiontest"
	"github.com/weftmesh/weft/rule"
)

func TestWatch(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.server.Start()
		s := w.source()
		seen := w.watch(s)
		w.wantSeen(seen)
		for _, step := range []struct {
			name string
			push *weftv1.Update
			want []string
		}{
			{"snapshot", snapshot(1, retry("r", 2), "b", "a"), []string{"rules r=2", "7-1 a b"}},
			{"change", &weftv1.Update{Revision: 2, Instances: wire("c", "a")}, []string{"7-2 a b c"}},
			{"removal", &weftv1.Update{Revision: 3, Removals: []*weftv1.Removal{{Id: "a", Reason: "expired"}}}, []string{"7-3 b c -a:expired"}},
			{"removed and back", &weftv1.Update{Revision: 4, Instances: wire("a"), Removals: []*weftv1.Removal{{Id: "a", Reason: "expired"}}}, []string{"7-4 a b c"}},
			{"rules alone", &weftv1.Update{Revision: 5, HasRules: true, Rules: [][]byte{[]byte(retry("r", 5))}}, []string{"rules r=5"}},
			{"rules with instances", &weftv1.Update{Revision: 6, HasRules: true, Instances: wire("d")}, []string{"rules", "7-6 a b c d"}},
			{"nothing", &weftv1.Update{Revision: 7}, nil},
			{"missing", &weftv1.Update{Revision: 8, Missing: true, Removals: []*weftv1.Removal{{Id: "b", Reason: "deleted"}}}, []string{"7-8 -b:deleted missing"}},
			{"another epoch", &weftv1.Update{Epoch: 8, Revision: 1, Snapshot: true, Instances: wire("x"), HasRules: true}, []string{"rules", "8-1 x"}},
		} {
			step.push.Service = product
			w.server.Push(step.push)
			settle(0)
			if d := cmp.Diff(step.want, seen.take()); d != "" {
				t.Errorf("%s: %s", step.name, d)
			}
		}
		late := w.watch(s)
		w.wantSeen(late, "rules", "8-1 x")
		w.close(s)
	})
}

func TestEpochChangeResyncs(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.server.Start()
		w.server.Push(snapshot(5, "", "a", "b"))
		s := w.source()
		seen := w.watch(s)
		settle(0)
		w.server.Stop()
		w.server.Reset(8)
		w.server.Push(snapshot(1, "", "c"))
		w.server.Start()
		settle(5 * time.Second)
		w.wantSeen(seen, "rules", "7-5 a b", "rules", "8-1 c")
		w.close(s)
	})
}

func TestOneSubscriptionAService(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.server.Start()
		s := w.source()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		for range 3 {
			go func() { done <- s.Watch(ctx, "product", func(discovery.Snapshot) {}) }()
		}
		go func() {
			done <- s.WatchRules(ctx, []string{product, "product", "stock"}, func([]rule.Rule) []rule.Nack { return nil })
		}()
		settle(time.Second)
		var names []string
		for _, m := range sessiontest.Heard(w.server, (*weftv1.ConnectRequest).GetSubscribe) {
			for _, i := range m.Interests {
				names = append(names, i.Service)
			}
		}
		if len(names) != 2 {
			t.Errorf("subscribed to %q, want each service once", names)
		}
		cancel()
		for range 4 {
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("error %v, want the ctx's", err)
			}
		}
		settle(0)
		gone := 0
		for _, m := range sessiontest.Heard(w.server, (*weftv1.ConnectRequest).GetUnsubscribe) {
			gone += len(m.Services)
		}
		if gone != 2 || len(s.entries) != 0 {
			t.Errorf("unsubscribed from %d, %d entries left", gone, len(s.entries))
		}
		w.close(s)
	})
}

func TestWatchEndsWithTheSource(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := w.source()
		done := make(chan error)
		go func() { done <- s.Watch(t.Context(), product, func(discovery.Snapshot) {}) }()
		go func() { done <- s.WatchRules(t.Context(), nil, func([]rule.Rule) []rule.Nack { return nil }) }()
		settle(0)
		w.close(s)
		w.close(s)
		for range 2 {
			if err := <-done; !errors.Is(err, ErrClosed) {
				t.Errorf("error %v, want ErrClosed", err)
			}
		}
		if err := s.Watch(t.Context(), "No Name", nil); !errors.Is(err, discovery.ErrInvalid) {
			t.Errorf("bad name: error %v", err)
		}
		if err := s.WatchRules(t.Context(), []string{product, "No Name"}, nil); !errors.Is(err, discovery.ErrInvalid) {
			t.Errorf("bad name: error %v", err)
		}
		if len(s.entries) != 0 {
			t.Errorf("%d entries left", len(s.entries))
		}
	})
}

func TestRulesOfSeveralServices(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.server.Start()
		s := w.source()
		seen := &record{}
		go s.WatchRules(t.Context(), []string{product, "stock.shop"}, seen.rules)
		settle(0)
		w.server.Push(snapshot(2, retry("all", 2)))
		settle(0)
		w.wantSeen(seen) // not before both are known
		newer := snapshot(3, retry("all", 3))
		newer.Service = "stock.shop"
		w.server.Push(newer)
		settle(0)
		w.wantSeen(seen, "rules all=3") // once, the newest
		w.close(s)
	})
}

func TestNacks(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.server.Start()
		s := w.source()
		seen := w.watch(s)
		nacks := func() (out []string) {
			settle(500 * time.Millisecond)
			for _, ack := range sessiontest.Heard(w.server, (*weftv1.ConnectRequest).GetAck) {
				for _, n := range ack.Nacks {
					if n.Reason == "" || n.Kind == "" {
						t.Errorf("nack %v lacks something", n)
					}
					out = append(out, n.Kind+"/"+n.Namespace+"/"+n.Name+"@"+n.Revision)
				}
			}
			return out
		}
		push := func(revision uint64, docs ...string) {
			u := snapshot(revision, "")
			for _, d := range docs {
				u.Rules = append(u.Rules, []byte(d))
			}
			w.server.Push(u)
		}
		unknown := `{"kind":"Wormhole","namespace":"shop","name":"w","service":"product","spec":{},"revision":"7-2"}`
		push(2, retry("a", 2), unknown, retry("bad", 99), "{")
		want := []string{"Wormhole/shop/w@7-2", "Retry/shop/bad@7-99"}
		// The document that is not JSON has no name; its nack says so by the reason alone.
		settle(500 * time.Millisecond)
		var got []string
		for _, ack := range sessiontest.Heard(w.server, (*weftv1.ConnectRequest).GetAck) {
			for _, n := range ack.Nacks {
				if n.Name != "" {
					got = append(got, n.Kind+"/"+n.Namespace+"/"+n.Name+"@"+n.Revision)
				}
			}
			if len(ack.Nacks) != 3 {
				t.Errorf("%d nacks, want 3", len(ack.Nacks))
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
		w.wantSeen(seen, "rules a=2", "7-2")

		push(3, retry("a", 77)) // its last good version stays
		if d := cmp.Diff([]string{"Retry/shop/a@7-77"}, nacks()); d != "" {
			t.Error(d)
		}
		w.wantSeen(seen, "rules a=2", "7-3")

		w.server.Push(&weftv1.Update{Service: product, Revision: 4}) // the nack stands
		if d := cmp.Diff([]string{"Retry/shop/a@7-77"}, nacks()); d != "" {
			t.Error(d)
		}

		seen.refuse = []rule.Nack{{Kind: "Retry", Namespace: "shop", Name: "a", Revision: "7-4", Reason: "does not compile"}, {Kind: "Retry", Name: "of another service"}}
		push(5, retry("a", 4))
		if d := cmp.Diff([]string{"Retry/shop/a@7-4"}, nacks()); d != "" {
			t.Error(d)
		}
		seen.refuse = nil
		push(6, retry("a", 4))
		if d := cmp.Diff([]string(nil), nacks()); d != "" {
			t.Error(d)
		}

		late := &record{refuse: []rule.Nack{{Kind: "Retry", Namespace: "shop", Name: "a", Revision: "7-4", Reason: "not for me"}}}
		go s.WatchRules(t.Context(), []string{product}, late.rules)
		if d := cmp.Diff([]string{"Retry/shop/a@7-4"}, nacks()); d != "" {
			t.Error(d)
		}
		w.close(s)
	})
}

func TestNacksAreBounded(t *testing.T) {
	long := strings.Repeat("é", maxText)
	n := wireNacks([]rule.Nack{{Kind: rule.Kind(long), Namespace: long, Name: long, Revision: long, Reason: "x" + long}})[0]
	if size := proto.Size(n); size > 5*maxText+32 {
		t.Errorf("%d bytes", size)
	}
	if _, err := proto.Marshal(n); err != nil { // half a character would make it fail
		t.Error(err)
	}
}

func TestFromWireLeavesOutWhatCannotBeUsed(t *testing.T) {
	in := append(wire("b", "a", ""), &weftv1.Instance{Id: "c"})
	again := wire("b")[0]
	again.Weight = 1 << 30
	got := fromWire(append(in, again))
	if len(got) != 2 || got[0].ID != "a" || got[1].ID != "b" || got[1].Weight != discovery.MaxWeight {
		t.Errorf("got %v", got)
	}
}

func TestWireKeepsEverything(t *testing.T) {
	want := &weftv1.Instance{
		Id: "i", Service: "product", Namespace: "shop", Process: "p", Address: "10.0.0.1:80", Protocol: "http", Http2: true, Tls: true,
		Labels: map[string]string{"version": "v1"}, Weight: 7, Region: "r", Zone: "z", State: "draining",
	}
	if d := cmp.Diff(want, toWire(fromWire([]*weftv1.Instance{want})[0]), protocmp.Transform()); d != "" {
		t.Error(d)
	}
}
