package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if child() {
		return
	}
	goleak.VerifyTestMain(m)
}

// full reports whether proofs run in full size.
func full() bool { return os.Getenv("WEFT_PROVE") == "full" }

// kinds of store: each opens an empty one and can open it again.
var kinds = map[string]func(t *testing.T) (st Store, reopen func() Store){
	"memory": func(t *testing.T) (Store, func() Store) {
		m := NewMemory()
		return m, func() Store { m = m.Reopen(); return m }
	},
	"bolt": func(t *testing.T) (Store, func() Store) {
		dir := t.TempDir()
		open := func() Store {
			st, err := Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			return st
		}
		return open(), open
	},
}

func TestConformance(t *testing.T) {
	tests := map[string]func(t *testing.T, st Store, reopen func() Store){
		"round trip":      testRoundTrip,
		"order":           testOrder,
		"last write wins": testLastWrite,
		"all or nothing":  testAllOrNothing,
		"bounds":          testBounds,
		"families":        testFamilies,
		"revisions":       testRevisions,
		"any bytes":       testAnyBytes,
		"like a map":      testLikeAMap,
		"panic of fn":     testPanic,
		"undo":            testUndo,
		"backup":          testBackup,
		"backup in use":   testBackupMeanwhile,
		"watch":           testWatch,
		"watch resumes":   testWatchResumes,
		"watch compacts":  testWatchCompacts,
		"watch is slow":   testWatchSlow,
		"watch ends":      testWatchEnds,
		"group commit":    testGroup,
		"group failure":   testGroupFailure,
		"after close":     testAfterClose,
	}
	for kind, open := range kinds {
		for name, test := range tests {
			t.Run(kind+"/"+name, func(t *testing.T) {
				st, reopen := open(t)
				test(t, st, func() Store {
					if err := st.Close(); err != nil {
						t.Fatal(err)
					}
					st = reopen()
					return st
				})
				if err := st.Close(); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
}

func commit(t *testing.T, st Store, writes ...Write) {
	t.Helper()
	if err := st.Commit(writes); err != nil {
		t.Fatal(err)
	}
}

// content gives what is stored under a prefix, in order.
func content(t *testing.T, st Store, prefix string) (out []string) {
	t.Helper()
	err := st.Range(prefix, func(e Entry) error {
		key, value := e.Key, e.Value
		out = append(out, key+"="+string(value))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func put(key, value string) Write { return Write{Key: key, Value: []byte(value)} }

func wantContent(t *testing.T, st Store, prefix string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, content(t, st, prefix)); diff != "" {
		t.Errorf("content (-want +got):\n%s", diff)
	}
}

func testRoundTrip(t *testing.T, st Store, reopen func() Store) {
	if st.Epoch() == 0 {
		t.Error("epoch is 0")
	}
	commit(t, st, put("a", "1"), put("b", "2"), put("c", ""))
	commit(t, st, put("a", "3"), Write{Key: "b"}, Write{Key: "never there"})
	epoch := st.Epoch()
	st = reopen()
	if st.Epoch() != epoch {
		t.Errorf("epoch %x after reopening, want %x", st.Epoch(), epoch)
	}
	wantContent(t, st, "", "a=3", "c=")
}

func testOrder(t *testing.T, st Store, _ func() Store) {
	commit(t, st, put("b/2", "x"), put("a", "x"), put("b/10", "x"), put("b", "x"), put("c", "x"))
	wantContent(t, st, "b/", "b/10=x", "b/2=x")
	stop := errors.New("stop")
	n := 0
	err := st.Range("", func(Entry) error { n++; return stop })
	if err != stop || n != 1 {
		t.Errorf("Range gave %v after %d calls, want the callback's error after 1", err, n)
	}
}

func testLastWrite(t *testing.T, st Store, _ func() Store) {
	commit(t, st, put("a", "1"), put("b", "1"), put("a", "2"), Write{Key: "b"}, Write{Key: "c"}, put("c", "1"))
	wantContent(t, st, "", "a=2", "c=1")
}

func testAllOrNothing(t *testing.T, st Store, _ func() Store) {
	commit(t, st, put("a", "1"))
	if err := st.Commit([]Write{put("a", "2"), put("", "no key")}); err == nil {
		t.Error("a write without a key was taken")
	}
	wantContent(t, st, "", "a=1")
	commit(t, st, put("b", "1")) // a refused write breaks nothing
	wantContent(t, st, "", "a=1", "b=1")
}

func testBounds(t *testing.T, st Store, _ func() Store) {
	commit(t, st, Write{Key: strings.Repeat("k", maxKey), Value: bytes.Repeat([]byte("v"), maxValue)})
	for name, w := range map[string]Write{
		"key":   put(strings.Repeat("k", maxKey+1), "v"),
		"value": {Key: "k", Value: make([]byte, maxValue+1)},
	} {
		if err := st.Commit([]Write{w}); err == nil {
			t.Errorf("%s beyond its bound was taken", name)
		}
	}
}

func testFamilies(t *testing.T, st Store, reopen func() Store) {
	commit(t, st, put("b", "1"), put("a/2", "2"), put("a", "3"), put("a!/x", "4"), put("/x", "5"), put("c/", "6"),
		put("a/1/3", "7"), put("a0", "8"), put("bare/x", "9"), put("meta", "10"), put("meta/state", "11"), put("data", "12"))
	st = reopen()
	wantContent(t, st, "", "/x=5", "a=3", "a!/x=4", "a/1/3=7", "a/2=2", "a0=8", "b=1", "bare/x=9", "c/=6", "data=12", "meta=10", "meta/state=11")
	wantContent(t, st, "a", "a=3", "a!/x=4", "a/1/3=7", "a/2=2", "a0=8")
	wantContent(t, st, "a/", "a/1/3=7", "a/2=2")
	wantContent(t, st, "a/1/", "a/1/3=7")
	wantContent(t, st, "meta", "meta=10", "meta/state=11")
	wantContent(t, st, "nothing")
	commit(t, st, Write{Key: "a/2"}, Write{Key: "a/1/3"}, Write{Key: "unknown/family"})
	wantContent(t, st, "a/")
	wantContent(t, reopen(), "a", "a=3", "a!/x=4", "a0=8")
}

func testRevisions(t *testing.T, st Store, reopen func() Store) {
	if st.Revision() != 0 {
		t.Errorf("revision %d of an empty store, want 0", st.Revision())
	}
	commit(t, st, Write{"a/1", []byte("x"), 7}, Write{"a/2", []byte("x"), 9}, Write{"b", []byte("x"), 0})
	commit(t, st, Write{"b", nil, 12})
	commit(t, st, Write{"c", []byte("bookkeeping"), 0}, Write{"a/2", []byte("y"), 12})
	if err := st.Commit([]Write{{"d", []byte("x"), 20}, {"e", []byte("x"), 11}}); err == nil || !strings.Contains(err.Error(), "revision 11: want at least 12") {
		t.Errorf("Commit = %v, want a refusal that names both revisions", err)
	}
	for range 2 {
		if st.Revision() != 12 {
			t.Errorf("revision %d, want 12", st.Revision())
		}
		got := map[string]uint64{}
		if err := st.Range("", func(e Entry) error { got[e.Key] = e.Revision; return nil }); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[string]uint64{"a/1": 7, "a/2": 12, "c": 0}, got); diff != "" {
			t.Errorf("revisions (-want +got):\n%s", diff)
		}
		st = reopen()
	}
}

func testAnyBytes(t *testing.T, st Store, reopen func() Store) {
	keys := []string{"\x00", "\x00/\x00\xff", "i/\x00\x00\x00\x00\x00\x00\x00\x01", "i/\x00\x00\x00\x00\x00\x00\x01/", "\xff\xfe", "\xff/"}
	var writes []Write
	for _, key := range keys {
		writes = append(writes, put(key, "v"+key))
	}
	commit(t, st, writes...)
	st = reopen()
	n := 0
	err := st.Range("", func(e Entry) error {
		if n++; string(e.Value) != "v"+e.Key {
			t.Errorf("key %q has the value %q", e.Key, e.Value)
		}
		return nil
	})
	if err != nil || n != len(keys) {
		t.Errorf("%d keys, %v: want %d", n, err, len(keys))
	}
}

// testLikeAMap compares random transactions with a map.
func testLikeAMap(t *testing.T, st Store, reopen func() Store) {
	r := rand.New(rand.NewPCG(1, 2))
	want := map[string]string{}
	for round := range 60 {
		var writes []Write
		for range r.IntN(80) {
			key := fmt.Sprintf("%s%d", []string{"", "a/", "b/", "i/0"}[r.IntN(4)], r.IntN(200))
			if r.IntN(3) == 0 {
				writes = append(writes, Write{Key: key, Revision: uint64(round)})
				delete(want, key)
				continue
			}
			value := strings.Repeat(fmt.Sprint(round), r.IntN(120))
			writes = append(writes, Write{key, []byte(value), uint64(round)})
			want[key] = fmt.Sprintf("%d %s", round, value)
		}
		commit(t, st, writes...)
		if round%20 == 19 {
			st = reopen()
		}
		if got, err := allOf(st); err != nil || !maps.Equal(got, want) {
			t.Fatalf("round %d: %v: %s", round, err, cmp.Diff(want, got))
		}
	}
}

// testPanic panics in fn, which is not the store's fault.
func testPanic(t *testing.T, st Store, _ func() Store) {
	commit(t, st, put("a", "1"))
	func() {
		defer func() {
			if got := recover(); got != "fn's own" {
				t.Errorf("recovered %v", got)
			}
		}()
		_ = st.Range("", func(Entry) error { panic("fn's own") })
	}()
	commit(t, st, put("b", "1"))
	wantContent(t, st, "", "a=1", "b=1")
}

// testUndo lets operations and commits fail that have changed something in memory.
func testUndo(t *testing.T, st Store, _ func() Store) {
	f := &failing{Store: st}
	c := NewCommitter(f, nil)
	defer c.Close()
	var log []string
	op := func(name string, result error) func(*Batch) error {
		return func(b *Batch) error {
			for i := range 2 {
				b.Undo(func() { log = append(log, fmt.Sprint(name, i)) })
			}
			b.Put(name, []byte{})
			return result
		}
	}
	refused := errors.New("refused")
	if err := c.Do(t.Context(), op("a", refused)); !errors.Is(err, refused) {
		t.Fatal(err)
	}
	if err := c.Do(t.Context(), op("b", nil)); err != nil {
		t.Fatal(err)
	}
	f.err = ErrFull
	if err := c.Do(t.Context(), op("c", nil)); !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a1", "a0", "c1", "c0"}, log); diff != "" {
		t.Errorf("undone (-want +got):\n%s", diff)
	}
	wantContent(t, st, "", "b=")
}

// events is a group that counts.
type events struct {
	begun, ended, acked int
	errs                []error
}

func (e *events) Begin()        { e.begun++ }
func (e *events) End(err error) { e.ended++; e.errs = append(e.errs, err) }
func (e *events) Acked()        { e.acked++ }

func testGroup(t *testing.T, st Store, reopen func() Store) {
	e := &events{}
	c := NewCommitter(st, e)
	const writers = 200
	refused := errors.New("refused")
	order := 0 // operations run one at a time
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			err := c.Do(t.Context(), func(b *Batch) error {
				order++
				b.Put(fmt.Sprintf("k%03d", i), []byte("v"))
				if i%10 == 0 {
					return refused
				}
				return nil
			})
			if want := i%10 == 0; errors.Is(err, refused) != want || !want && err != nil {
				t.Errorf("writer %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	c.Close()
	if order != writers || e.begun != e.ended || e.ended != e.acked || e.begun == 0 {
		t.Errorf("%d operations in groups %+v", order, *e)
	}
	t.Logf("%d operations in %d commits", writers, e.begun)
	if got := len(content(t, reopen(), "k")); got != writers*9/10 {
		t.Errorf("%d keys, want %d: those of refused operations must not be there", got, writers*9/10)
	}
}

// failing is a store whose commits fail while err is set.
type failing struct {
	Store
	err error
}

func (f *failing) Commit(w []Write) error {
	if f.err != nil {
		return f.err
	}
	return f.Store.Commit(w)
}

func testGroupFailure(t *testing.T, st Store, _ func() Store) {
	f := &failing{st, ErrFull}
	c := NewCommitter(f, nil)
	defer c.Close()
	op := func(b *Batch) error { b.Put("k", []byte("v")); return nil }
	if err := c.Do(t.Context(), op); !errors.Is(err, ErrFull) {
		t.Errorf("Do = %v, want the commit's error", err)
	}
	if err := c.Do(t.Context(), func(*Batch) error { return nil }); err != nil {
		t.Errorf("an operation without writes waits for no disk, but got %v", err)
	}
	f.err = nil // happens before the next Do
	if err := c.Do(t.Context(), op); err != nil {
		t.Errorf("Do = %v after the store came back", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Do(ctx, op); !errors.Is(err, context.Canceled) {
		t.Errorf("Do = %v with a context that ended, want it", err)
	}
}

func testAfterClose(t *testing.T, st Store, _ func() Store) {
	c := NewCommitter(st, nil)
	for range 2 {
		c.Close()
	}
	if err := c.Do(t.Context(), func(*Batch) error { return nil }); !errors.Is(err, ErrClosed) {
		t.Errorf("Do = %v, want ErrClosed", err)
	}
	for range 2 {
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := st.Commit([]Write{put("k", "v")}); !errors.Is(err, ErrClosed) {
		t.Errorf("Commit = %v, want ErrClosed", err)
	}
	if err := st.Range("", func(Entry) error { return nil }); !errors.Is(err, ErrClosed) {
		t.Errorf("Range = %v, want ErrClosed", err)
	}
}

// TestCommitWhileClosing closes the committer in the middle of writes: each is acknowledged and there, or refused.
func TestCommitWhileClosing(t *testing.T) {
	st := NewMemory()
	c := NewCommitter(st, nil)
	var wg sync.WaitGroup
	var mu sync.Mutex
	acked := 0
	for i := range 100 {
		wg.Go(func() {
			err := c.Do(context.Background(), func(b *Batch) error { b.Put(fmt.Sprint(i), []byte{}); return nil })
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				acked++
			} else if !errors.Is(err, ErrClosed) {
				t.Error(err)
			}
		})
	}
	time.AfterFunc(50*time.Microsecond, func() { c.Close() })
	wg.Wait()
	c.Close()
	if got := len(content(t, st, "")); got < acked {
		t.Errorf("%d keys, but %d acknowledged", got, acked)
	}
}
