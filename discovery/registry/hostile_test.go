package registry

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/session/sessiontest"
)

// Blank and extreme values in every field of every message that a server can send: the source goes on, what it delivers
// can be used, and the next good update is applied.
func TestHostileServer(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.server.Start()
		s := w.source()
		var last discovery.Snapshot
		go s.Watch(t.Context(), product, func(got discovery.Snapshot) {
			last = got
			for _, in := range got.Instances {
				if in.ID == "" || in.Address == "" || in.Weight < 0 || in.Weight > discovery.MaxWeight {
					t.Errorf("delivered %+v", in)
				}
			}
			if !slices.IsSortedFunc(got.Instances, byID) {
				t.Errorf("delivered unsorted: %v", got.Instances)
			}
		})
		settle(time.Second)
		if _, err := s.Register(t.Context(), discovery.Instance{ID: "own", Address: "10.0.0.1:80", Protocol: discovery.HTTP}); err != nil {
			t.Fatal(err)
		}
		update := &weftv1.Update{
			Service: product, Epoch: 7, Revision: 3, Instances: []*weftv1.Instance{sessiontest.Instance("x", "p")},
			Removals: []*weftv1.Removal{{Id: "b", Reason: "expired"}}, HasRules: true, Rules: [][]byte{[]byte(retry("r", 2))},
		}
		count, revision := 0, uint64(10)
		for _, good := range sessiontest.Responses(update) {
			for what, m := range sessiontest.Hostile(good) {
				count++
				revision += 2
				if u := m.GetUpdate(); u != nil && u.Revision == 3 {
					u.Revision = revision
				}
				w.server.Send(proto.CloneOf(m))
				want := fmt.Sprint("good-", count)
				w.server.Push(snapshot(revision+1, retry("r", 3), want, "a"))
				settle(5 * time.Second) // time for a reconnect
				if len(last.Instances) != 2 || last.Instances[1].ID != want || last.Alias != "" {
					t.Fatalf("after %T %s: has %+v, want %s; state %s, %v", good.Message, what, last, want, s.State(), s.LastError())
				}
			}
		}
		if count < 150 {
			t.Errorf("%d messages were tried: want all fields with all values", count)
		}
		t.Logf("%d messages", count)
		w.close(s)
		w.server.Stop()
	})
}
