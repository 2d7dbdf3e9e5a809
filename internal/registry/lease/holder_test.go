package lease

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/catalog"
	"github.com/weftmesh/weft/internal/registry/store"
)

func (f *fixture) hold(ids ...string) (*Holder, []catalog.InstanceKey) {
	f.t.Helper()
	h := f.Hold(SessionTTL)
	var keys []catalog.InstanceKey
	for _, id := range ids {
		in := discovery.Instance{ID: id, Service: "product", Address: "10.0.0.1:80", Protocol: discovery.HTTP}
		h.Add(catalog.KeyOf(in))
		if _, err := f.cat.PutOwned(f.t.Context(), []discovery.Instance{in}, SessionTTL); err != nil {
			f.t.Fatal(err)
		}
		keys = append(keys, catalog.KeyOf(in))
	}
	return h, keys
}

// TestOneRenewalForAll: a renewal of the holder keeps all of its instances, and no other.
func TestOneRenewalForAll(t *testing.T) {
	bubble(t, func(f *fixture) {
		h, _ := f.hold("a", "b", "c")
		f.hold("other")
		for range 20 {
			time.Sleep(RenewEvery(SessionTTL))
			if !h.Renew() {
				t.Fatal("not renewed")
			}
		}
		for _, id := range []string{"a", "b", "c"} {
			f.want(id, discovery.Up)
		}
		f.want("other", "")
	})
}

// TestSilentHolder: its instances go through all states; a renewal brings those back that are left, at once.
func TestSilentHolder(t *testing.T) {
	for _, tt := range []struct {
		silent time.Duration
		then   discovery.State
	}{{8100 * time.Millisecond, discovery.Suspect}, {16100 * time.Millisecond, discovery.Unhealthy}} {
		bubble(t, func(f *fixture) {
			h, _ := f.hold("a", "b")
			time.Sleep(tt.silent)
			f.want("a", tt.then)
			if !h.Renew() {
				t.Error("not renewed")
			}
			f.want("a", discovery.Up)
			f.want("b", discovery.Up)
		})
	}
}

// TestExpiredHolder: a process that was silent for too long is told, for good.
func TestExpiredHolder(t *testing.T) {
	bubble(t, func(f *fixture) {
		h, keys := f.hold("a")
		if !h.Has(keys[0]) {
			t.Error("it has its instance")
		}
		time.Sleep(32 * time.Second)
		f.want("a", "")
		for range 2 {
			if h.Renew() || h.Has(keys[0]) {
				t.Error("what expired was renewed")
			}
		}
	})
}

// TestLostHolder: suspect at once, for good, and renewals that come late change nothing.
func TestLostHolder(t *testing.T) {
	bubble(t, func(f *fixture) {
		h, keys := f.hold("a", "b")
		f.hold("other")
		time.Sleep(time.Second)
		h.Lost()
		f.want("a", discovery.Suspect)
		f.want("b", discovery.Suspect)
		f.want("other", discovery.Up)
		if h.Renew() {
			t.Error("renewed after its connection closed")
		}
		h.Lost()
		f.want("a", discovery.Suspect)
		if !f.Renew(keys[0].Service, keys[0].ID) { // somebody answers for it by REST
			t.Error("not renewed")
		}
		f.want("a", discovery.Up)
		f.want("b", discovery.Suspect)
		h.Add(keys[1]) // a registration that was under way when the connection closed
		time.Sleep(2 * time.Second)
		f.want("b", discovery.Suspect)
	})
}

// TestTakenOver: the last who registered an instance answers for it, and nobody else.
func TestTakenOver(t *testing.T) {
	for name, take := range map[string]func(*fixture, catalog.InstanceKey){
		"by a session": func(f *fixture, key catalog.InstanceKey) { f.hold(key.ID) },
		"by REST":      func(f *fixture, key catalog.InstanceKey) { f.register(key.ID, SessionTTL) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(f *fixture) {
				old, keys := f.hold("a", "b")
				time.Sleep(time.Second)
				take(f, keys[0])
				old.Lost() // late
				f.want("a", discovery.Up)
				f.want("b", discovery.Suspect)
				old.Remove(keys...)
				if old.Has(keys[0]) || old.Has(keys[1]) {
					t.Error("it still has what was taken, or removed")
				}
				time.Sleep(35 * time.Second)
				f.want("a", "") // it was not renewed: had Remove ended its lease it would stay
			})
		})
	}
}

// TestOldRenewalsDoNotCount: the control of the one above.
func TestOldRenewalsDoNotCount(t *testing.T) {
	bubble(t, func(f *fixture) {
		old, _ := f.hold("a", "b")
		f.hold("a")
		for range 12 {
			time.Sleep(RenewEvery(SessionTTL))
			if !old.Renew() {
				t.Fatal("not renewed")
			}
		}
		f.want("a", "")
		f.want("b", discovery.Up)
	})
}

// TestOperatorDeletes: a lease whose instance is deleted is over, without a word to its holder.
func TestOperatorDeletes(t *testing.T) {
	for _, soon := range []time.Duration{0, 2 * time.Second} { // before and after a scan has seen it
		testOperatorDeletes(t, soon)
	}
}

func testOperatorDeletes(t *testing.T, soon time.Duration) {
	bubble(t, func(f *fixture) {
		h, keys := f.hold("a", "b")
		time.Sleep(soon)
		if _, err := f.cat.DeleteInstances(f.t.Context(), keys[:1], discovery.Deleted); err != nil {
			t.Fatal(err)
		}
		for range 205 {
			time.Sleep(RenewEvery(SessionTTL))
			if !h.Renew() {
				t.Fatal("not renewed")
			}
		}
		f.want("b", discovery.Up)
		if h.Has(keys[0]) || !h.Has(keys[1]) {
			t.Error("want the lease of b alone")
		}
	})
}

// TestServicesOfAHolder: a process that registers here and there all day is remembered for what is left.
func TestServicesOfAHolder(t *testing.T) {
	bubble(t, func(f *fixture) {
		h := f.Hold(SessionTTL)
		for i := range 1000 {
			key := catalog.InstanceKey{Service: discovery.Name{Service: fmt.Sprintf("s%d", i), Namespace: "default"}, ID: "x"}
			h.Add(key)
			h.Remove(key)
		}
		if len(h.services) > 1 {
			t.Errorf("%d services remembered", len(h.services))
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.services) > 0 {
			t.Errorf("%d services without leases", len(f.services))
		}
	})
}

// stuck is a store whose disk hangs until it is let go.
type stuck struct {
	*store.Memory
	entered, leave chan struct{}
}

func (s *stuck) Commit(w []store.Write) error {
	if s.entered != nil {
		s.entered <- struct{}{}
		<-s.leave
	}
	return s.Memory.Commit(w)
}

// TestNothingWaitsForTheDisk: while a commit hangs, and the scan with it, everything that sessions and REST say is taken.
func TestNothingWaitsForTheDisk(t *testing.T) {
	st := &stuck{Memory: store.NewMemory()}
	cat, err := catalog.Open(st, nil)
	if err != nil {
		t.Fatal(err)
	}
	l := New(cat, nil)
	put(t, cat, SessionTTL)
	key := catalog.KeyOf(inst())
	h := l.Hold(SessionTTL)
	h.Add(key)
	st.leave, st.entered = make(chan struct{}), make(chan struct{})
	hung := make(chan struct{})
	go func() {
		defer close(hung)
		in := inst()
		in.ID = "y"
		cat.PutLeased(t.Context(), []discovery.Instance{in}, 0)
	}()
	<-st.entered
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 100 { // the goroutine of the scan waits for the commit from the first of them on
			h.Renew()
			l.Renew(key.Service, key.ID)
			l.Track(inst(), SessionTTL)
			h.Add(key)
			h.Remove(key)
			l.Protection()
		}
		h.Lost()
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Error("a renewal waits for the disk")
	}
	close(st.leave)
	go func() {
		for range st.entered {
		}
	}()
	<-hung
	l.Close()
	cat.Close()
	close(st.entered)
}

// TestUndo: a registration that was refused leaves an instance of a session with the session, also after its ttl.
func TestUndo(t *testing.T) {
	for _, undone := range []bool{true, false} { // the control: without the undo the instance expires
		bubble(t, func(f *fixture) {
			h, keys := f.hold("a")
			undo := f.Track(discovery.Instance{ID: "a", Service: "product", Namespace: keys[0].Service.Namespace}, time.Second)
			if undone {
				undo()
			}
			for range 10 {
				time.Sleep(RenewEvery(SessionTTL))
				h.Renew()
			}
			if undone {
				f.want("a", discovery.Up)
			} else {
				f.want("a", "")
			}
			if h.Has(keys[0]) != undone {
				t.Errorf("undone %v: the session has the instance: %v", undone, !undone)
			}
		})
	}
}
