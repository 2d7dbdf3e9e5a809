package session

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/catalog"
)

// A process whose instance an operator deleted cannot take it from its new owner.
func TestADeposedProcessCannotDeregister(t *testing.T) {
	bubble(t, Options{}, func(f *fixture) {
		a, b := f.connect("a"), f.connect("b")
		defer a.close()
		defer b.close()
		a.register(a.instance("x"))
		if _, err := f.cat.DeleteInstances(f.t.Context(), []catalog.InstanceKey{{Service: product, ID: "x"}}, discovery.Deleted); err != nil {
			t.Fatal(err)
		}
		if no := b.register(b.instance("x")); len(no) > 0 {
			t.Fatal(no)
		}
		a.deregister("x")
		synctest.Wait()
		if _, _, ok := f.cat.Instance(product, "x"); !ok {
			t.Error("a's Deregister removed the instance of b, which is alive")
		}
	})
}

// Nor do its renewals keep the instance of the new owner alive.
func TestADeposedProcessDoesNotRenew(t *testing.T) {
	bubble(t, Options{}, func(f *fixture) {
		a, b := f.connect("a"), f.connect("b")
		defer a.close()
		a.register(a.instance("x"))
		if _, err := f.cat.DeleteInstances(f.t.Context(), []catalog.InstanceKey{{Service: product, ID: "x"}}, discovery.Deleted); err != nil {
			t.Fatal(err)
		}
		b.register(b.instance("x"))
		b.close()
		for range 100 {
			time.Sleep(3 * time.Second)
			a.renew()
		}
		if s := f.state("x"); s != "" {
			t.Errorf("5 minutes after b died its instance is %q", s)
		}
	})
}

// Of two live processes that register one id at the same moment one is refused.
func TestTwoProcessesRegisterOneIDAtOnce(t *testing.T) {
	both := 0
	for range 200 {
		bubble(t, Options{}, func(f *fixture) {
			a, b := f.connect("a"), f.connect("b")
			defer a.close()
			defer b.close()
			for _, c := range []*client{a, b} {
				c.seq++
				c.send(&weftv1.ConnectRequest{Message: &weftv1.ConnectRequest_Register{Register: &weftv1.Register{Seq: c.seq, Instances: []*weftv1.Instance{c.instance("x")}}}})
			}
			if len(a.result()) == 0 && len(b.result()) == 0 {
				both++
			}
		})
	}
	if both > 0 {
		t.Errorf("%d of 200 times both processes were told that the id is theirs", both)
	}
}

// A process that was silent for longer than its lease on a connection that lived is told that its instances are gone.
func TestASilentProcessIsToldThatItsInstancesAreGone(t *testing.T) {
	bubble(t, Options{}, func(f *fixture) {
		a := f.connect("a")
		defer a.close()
		a.register(a.instance("x"))
		time.Sleep(33 * time.Second)
		told := make(chan error, 1)
		go func() { _, err := a.stream.Recv(); told <- err }()
		for range 100 {
			a.renew()
			time.Sleep(3 * time.Second)
		}
		synctest.Wait()
		select {
		case err := <-told:
			t.Log("told:", err)
		default:
			t.Errorf("renewing for 5 minutes; state in the catalog %q; nothing was said", f.state("x"))
			a.close()
			<-told
		}
	})
}

// A process that takes a large update slowly, but takes it, is let be.
func TestAProcessThatIsSlowIsNotCutOff(t *testing.T) {
	bubble(t, Options{}, func(f *fixture) {
		for i := range 2500 {
			f.put(fmt.Sprintf("i%d", i), func(in *discovery.Instance) {
				in.Labels = map[string]string{"l": strings.Repeat("x", 250)}
			})
		}
		a := f.connect("a")
		defer a.close()
		a.subscribe("product.shop", discovery.Revision{})
		for n := 1; ; n++ {
			time.Sleep(time.Second) // 32 KiB a second
			m, err := a.stream.Recv()
			if err != nil {
				t.Errorf("after %d pieces: %v", n, err)
				return
			}
			if !m.GetUpdate().GetMore() {
				t.Logf("%d pieces", n)
				return
			}
		}
	})
}
