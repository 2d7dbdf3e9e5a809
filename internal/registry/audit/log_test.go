package audit

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/weftmesh/weft/internal/registry/store"
)

var noon = time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)

// room is a log with its store and committer.
type room struct {
	*Log

	t         *testing.T
	st        store.Store
	committer *store.Committer
}

func newRoom(t *testing.T, st store.Store) *room {
	t.Helper()
	log, err := Open(st)
	if err != nil {
		t.Fatal(err)
	}
	r := &room{Log: log, t: t, st: st, committer: store.NewCommitter(st, nil)}
	t.Cleanup(r.committer.Close)
	return r
}

func (r *room) append(entries ...Entry) {
	r.t.Helper()
	err := r.committer.Do(r.t.Context(), func(b *store.Batch) error {
		for _, e := range entries {
			r.Append(b, e)
		}
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *room) numbers(f Filter) (numbers []uint64) {
	r.t.Helper()
	entries, err := r.List(f)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, e := range entries {
		numbers = append(numbers, e.Number)
	}
	return numbers
}

func (r *room) want(f Filter, want ...uint64) {
	r.t.Helper()
	if diff := cmp.Diff(want, r.numbers(f)); diff != "" {
		r.t.Errorf("%+v (-want +got):\n%s", f, diff)
	}
}

func TestList(t *testing.T) {
	st := store.NewMemory()
	r := newRoom(t, st)
	r.want(Filter{})
	first := Entry{
		At: noon, Actor: Actor{"alice", "10.0.0.1"}, Action: "put", Kind: "Route", Namespace: "shop",
		Target: "product-canary", Revision: "a-7", Detail: "weight 10",
	}
	r.append(first, Entry{Actor: Actor{Who: "bob"}, Kind: "Route"}, Entry{Actor: Actor{Who: "alice"}, Kind: "instance", Target: "product/p1"})
	r.want(Filter{}, 3, 2, 1)
	r.want(Filter{Limit: 2}, 3, 2)
	r.want(Filter{Before: 3}, 2, 1)
	r.want(Filter{Before: 1})
	r.want(Filter{Before: 99}, 3, 2, 1)
	r.want(Filter{Who: "alice"}, 3, 1)
	r.want(Filter{Kind: "Route"}, 2, 1)
	r.want(Filter{Namespace: "shop"}, 1)
	r.want(Filter{Target: "product/p1", Who: "alice"}, 3)
	r.want(Filter{Who: "nobody"})

	again := newRoom(t, st.Reopen())
	again.append(Entry{})
	again.want(Filter{Limit: 2}, 4, 3)
	got, err := again.List(Filter{Before: 2})
	first.Number = 1
	if diff := cmp.Diff([]Entry{first}, got); diff != "" || err != nil {
		t.Errorf("the first entry after a restart: %v (-want +got):\n%s", err, diff)
	}
}

// TestBlocks lists across the blocks in which the store is read.
func TestBlocks(t *testing.T) {
	r := newRoom(t, store.NewMemory())
	r.append(make([]Entry, 1300)...)
	for _, c := range []struct{ before, limit, from, to uint64 }{
		{0, 0, 1300, 301}, // the default limit
		{0, 5000, 1300, 301},
		{1025, 2, 1024, 1023},
		{257, 600, 256, 1},
		{256, 1, 255, 255},
		{1299, 1000, 1298, 299},
	} {
		var want []uint64
		for n := c.from; n >= c.to; n-- {
			want = append(want, n)
		}
		r.want(Filter{Before: c.before, Limit: int(c.limit)}, want...)
	}
}

func TestBound(t *testing.T) {
	st := store.NewMemory()
	r := newRoom(t, st)
	if r.max != 100_000 {
		t.Errorf("%d entries are kept, want 100000", r.max)
	}
	for range maxEntries / 5000 {
		r.append(make([]Entry, 5000)...)
	}
	if n := r.stored(); n != maxEntries {
		t.Fatalf("%d entries are stored, want %d", n, maxEntries)
	}
	r.append(make([]Entry, 7)...)
	if n := r.stored(); n != maxEntries {
		t.Errorf("%d entries are stored after 7 more, want %d", n, maxEntries)
	}
	r.want(Filter{Before: 10}, 9, 8)

	lower := newRoom(t, st.Reopen())
	lower.max = maxEntries - 20 // as if the bound had been lowered
	lower.append(Entry{})
	lower.append(Entry{})
	if n := lower.stored(); n != maxEntries-20 {
		t.Errorf("%d entries are stored under a lower bound, want %d", n, maxEntries-20)
	}
}

func (r *room) stored() (n int) {
	r.t.Helper()
	if err := r.st.Range("", func(store.Entry) error { n++; return nil }); err != nil {
		r.t.Fatal(err)
	}
	return n
}

// full is a store whose commits fail while full is set.
type full struct {
	*store.Memory

	full bool
}

func (f *full) Commit(w []store.Write) error {
	if f.full {
		return store.ErrFull
	}
	return f.Memory.Commit(w)
}

// TestNoGap lets operations and commits fail that had appended: their numbers are given again.
func TestNoGap(t *testing.T) {
	st := &full{Memory: store.NewMemory()}
	r := newRoom(t, st)
	r.max = 2
	r.append(Entry{}, Entry{})
	refused := errors.New("refused")
	err := r.committer.Do(t.Context(), func(b *store.Batch) error { r.Append(b, Entry{}); return refused })
	if !errors.Is(err, refused) {
		t.Fatal(err)
	}
	r.want(Filter{}, 2, 1)
	st.full = true
	err = r.committer.Do(t.Context(), func(b *store.Batch) error { r.Append(b, Entry{}); r.Append(b, Entry{}); return nil })
	if !errors.Is(err, store.ErrFull) {
		t.Fatal(err)
	}
	st.full = false
	r.want(Filter{}, 2, 1)
	r.append(Entry{})
	r.want(Filter{}, 3, 2)
	if n := r.stored(); n != 2 {
		t.Errorf("%d entries are stored, want 2", n)
	}
}

func TestClip(t *testing.T) {
	r := newRoom(t, store.NewMemory())
	long := strings.Repeat("ü", 3000)
	r.append(Entry{
		At: time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC), Actor: Actor{long, long}, Action: long, Kind: long,
		Namespace: long, Target: long, Revision: long, Detail: "\xff" + long,
	})
	got, err := r.List(Filter{})
	if err != nil || len(got) != 1 {
		t.Fatal(got, err)
	}
	e := got[0]
	for name, f := range map[string]struct {
		text string
		want int
	}{
		"who": {e.Who, 128}, "from": {e.From, 64}, "action": {e.Action, 64}, "kind": {e.Kind, 64}, "namespace": {e.Namespace, 64},
		"target": {e.Target, 512}, "revision": {e.Revision, 64}, "detail": {e.Detail, 1023},
	} {
		if len(f.text) != f.want || !utf8.ValidString(f.text) {
			t.Errorf("%s has %d bytes, want %d", name, len(f.text), f.want)
		}
	}
	if !e.At.IsZero() {
		t.Errorf("a year that JSON cannot write became %s", e.At)
	}
}

func TestUnreadable(t *testing.T) {
	for _, w := range []store.Write{
		{Key: "a/1", Value: []byte("{}")},
		{Key: "a/000000000000000G", Value: []byte("{}")},
		{Key: "a/0000000000000000", Value: []byte("{}")},
	} {
		st := store.NewMemory()
		if err := st.Commit([]store.Write{w}); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(st); !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), w.Key) {
			t.Errorf("%s: %v, want ErrCorrupt with the key", w.Key, err)
		}
	}
	st := store.NewMemory()
	key := fmt.Sprintf("a/%016x", 1)
	if err := st.Commit([]store.Write{{Key: key, Value: []byte("no JSON")}}); err != nil {
		t.Fatal(err)
	}
	log, err := Open(st)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := log.List(Filter{}); !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), key) {
		t.Errorf("List = %v, want ErrCorrupt with the key", err)
	}
}

func TestActor(t *testing.T) {
	alice := Actor{"alice", "10.0.0.1"}
	if got, ok := Of(With(t.Context(), alice)); got != alice || !ok {
		t.Errorf("Of = %v, %t", got, ok)
	}
	if _, ok := Of(t.Context()); ok {
		t.Error("a context without an actor has one")
	}
}
