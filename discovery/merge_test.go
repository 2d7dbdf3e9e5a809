package discovery

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// after is a source that delivers each snapshot at its time.
type after struct {
	at time.Duration
	s  Snapshot
}

func timed(steps ...after) Source {
	return SourceFunc(func(ctx context.Context, service string, apply func(Snapshot)) error {
		start := time.Now()
		for _, step := range steps {
			select {
			case <-time.After(step.at - time.Since(start)):
				apply(step.s)
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		<-ctx.Done()
		return ctx.Err()
	})
}

type delivery struct {
	At      time.Duration
	IDs     []string
	Removed []Removal
	Rev     uint64
	Missing bool
	Stale   bool
}

// watch collects what a source delivers in ten seconds.
func watch(t *testing.T, source Source) (got []delivery, err error) {
	start := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err = source.Watch(ctx, "product.shop", func(s Snapshot) {
		got = append(got, delivery{time.Since(start), ids(s.Instances), s.Removed, s.Revision.Number, s.Missing, s.Stale})
	})
	return got, err
}

func TestMerge(t *testing.T) {
	a := Snapshot{Instances: instances("a", "b"), Revision: Revision{1, 5}}
	b := Snapshot{Instances: instances("b", "c"), Revision: Revision{2, 9}}
	missing := Snapshot{Missing: true}
	never := timed()
	broken := failing(errors.New("broken"))
	for _, c := range []struct {
		name    string
		sources []Source
		want    []delivery
	}{
		{"both answer", []Source{timed(after{0, a}), timed(after{300 * time.Millisecond, b})},
			[]delivery{{At: 300 * time.Millisecond, IDs: []string{"a", "b", "c"}, Rev: 5}}},
		{"order decides, not time", []Source{timed(after{300 * time.Millisecond, b}), timed(after{0, a})},
			[]delivery{{At: 300 * time.Millisecond, IDs: []string{"a", "b", "c"}, Rev: 9}}},
		{"one never answers", []Source{never, timed(after{time.Second, a})},
			[]delivery{{At: 2 * time.Second, IDs: []string{"a", "b"}, Rev: 5}}},
		{"the slow one comes later", []Source{timed(after{0, missing}), timed(after{3 * time.Second, b})},
			[]delivery{{At: time.Second}, {At: 3 * time.Second, IDs: []string{"b", "c"}, Rev: 9}}},
		{"all say missing", []Source{timed(after{0, missing}), timed(after{0, missing})},
			[]delivery{{Missing: true}}},
		{"one fails for good", []Source{broken, timed(after{time.Millisecond, b})},
			[]delivery{{At: time.Millisecond, IDs: []string{"b", "c"}, Rev: 9}}},
		{"a removal counts when nobody has it", []Source{
			timed(after{0, a}, after{2 * time.Second, Snapshot{Removed: removed("a", "b"), Revision: Revision{1, 6}}}),
			timed(after{0, b})},
			[]delivery{{IDs: []string{"a", "b", "c"}, Rev: 5}, {At: 2 * time.Second, IDs: []string{"b", "c"}, Removed: removed("a"), Rev: 6}}},
		{"stale if any is", []Source{timed(after{0, Snapshot{Stale: true}}), timed(after{0, b})},
			[]delivery{{IDs: []string{"b", "c"}, Rev: 9, Stale: true}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got, err := watch(t, Merge(c.sources...))
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("error %v, want the ctx's", err)
				}
				if d := cmp.Diff(c.want, got); d != "" {
					t.Error(d)
				}
			})
		})
	}
}

func TestMergeFailsWhenAllFail(t *testing.T) {
	e1, e2 := errors.New("one"), errors.New("two")
	err := Merge(failing(e1), failing(e2)).Watch(t.Context(), "product.shop", func(Snapshot) {})
	if !errors.Is(err, e1) || !errors.Is(err, e2) {
		t.Errorf("error %v, want both", err)
	}
	if err := Merge().Watch(t.Context(), "product.shop", func(Snapshot) {}); err == nil {
		t.Error("no sources: no error")
	}
}

func TestMergeNamesTheFailedSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		_, err := watch(t, Merge(failing(broken), timed()))
		if !errors.Is(err, broken) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want %v and the ctx's", err, broken)
		}
	})
}

func ExampleMerge() {
	near := Static(map[string][]Instance{"product.shop": {{ID: "1", Address: "10.0.0.1:80"}}})
	far := Static(map[string][]Instance{"product.shop": {{ID: "1", Address: "192.0.2.1:80"}, {ID: "2", Address: "192.0.2.2:80"}}})

	ctx, cancel := context.WithCancel(context.Background())
	Merge(near, far).Watch(ctx, "product.shop", func(s Snapshot) {
		for _, in := range s.Instances {
			fmt.Println(in.ID, in.Address)
		}
		cancel()
	})
	// Output:
	// 1 10.0.0.1:80
	// 2 192.0.2.2:80
}
