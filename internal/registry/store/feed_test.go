package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// numbered is a commit that tells its revision.
func numbered(revision uint64) []Write {
	return []Write{{fmt.Sprintf("k/%d", revision%50), fmt.Appendf(nil, "%d", revision), revision}}
}

// watchUntil collects the revisions after one, up to the last.
func watchUntil(ctx context.Context, st Store, after, last uint64) (got []uint64, err error) {
	done := errors.New("done")
	if after >= last {
		return nil, nil
	}
	err = st.Watch(ctx, after, func(writes []Write) error {
		revision := writes[0].Revision
		if string(writes[0].Value) != fmt.Sprint(revision) {
			return fmt.Errorf("revision %d has the value %q", revision, writes[0].Value)
		}
		if got = append(got, revision); revision == last {
			return done
		}
		return nil
	})
	if errors.Is(err, done) {
		err = nil
	}
	return got, err
}

// beginToWatch makes the store keep its commits.
func beginToWatch(t *testing.T, st Store) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := st.Watch(ctx, st.Revision(), func([]Write) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func sequence(from, to uint64) (s []uint64) {
	for n := from; n <= to; n++ {
		s = append(s, n)
	}
	return s
}

// testWatch lets many watch while commits go on: each sees all of them, once and in order.
func testWatch(t *testing.T, st Store, _ func() Store) {
	const commits = 300
	beginToWatch(t, st)
	var wg sync.WaitGroup
	for after := range uint64(8) {
		wg.Go(func() {
			got, err := watchUntil(t.Context(), st, after, commits)
			if diff := cmp.Diff(sequence(after+1, commits), got); diff != "" || err != nil {
				t.Errorf("after %d: %v (-want +got):\n%s", after, err, diff)
			}
		})
	}
	for revision := range uint64(commits) {
		commit(t, st, numbered(revision+1)...)
		commit(t, st, put("bookkeeping", "is not told"))
	}
	wg.Wait()
}

// testWatchResumes watches in pieces.
func testWatchResumes(t *testing.T, st Store, _ func() Store) {
	const commits = 200
	beginToWatch(t, st)
	var got []uint64
	go func() {
		for revision := range uint64(commits) {
			_ = st.Commit(numbered(revision + 1)) // what is missing is noticed
		}
	}()
	for after := uint64(0); after < commits; {
		piece, err := watchUntil(t.Context(), st, after, min(after+7, commits))
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, piece...)
		after = piece[len(piece)-1]
	}
	if diff := cmp.Diff(sequence(1, commits), got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// feedOf reaches the bounds.
func feedOf(st Store) *feed {
	switch st := st.(type) {
	case *Memory:
		return st.feed
	case *Bolt:
		return st.feed
	}
	return nil
}

func testWatchCompacts(t *testing.T, st Store, reopen func() Store) {
	never := func([]Write) error { return errors.New("told") }
	f := feedOf(st)
	commit(t, st, numbered(1)...)
	if len(f.commits) > 0 {
		t.Error("commits are kept although nobody has ever watched")
	}
	if err := st.Watch(t.Context(), 0, never); !errors.Is(err, ErrCompacted) {
		t.Errorf("Watch of what was before the first Watch = %v, want ErrCompacted", err)
	}
	f.maxCommits = 10
	for revision := range uint64(24) {
		commit(t, st, numbered(revision+2)...)
	}
	if err := st.Watch(t.Context(), 14, never); !errors.Is(err, ErrCompacted) {
		t.Errorf("Watch of the 11th newest = %v, want ErrCompacted", err)
	}
	if got, err := watchUntil(t.Context(), st, 15, 25); len(got) != 10 || err != nil {
		t.Errorf("Watch of the 10 newest = %v, %v", got, err)
	}
	f.maxBytes = 3 * (writeOverhead + len("k/26") + len("26"))
	commit(t, st, numbered(26)...)
	if got, err := watchUntil(t.Context(), st, 23, 26); len(got) != 3 || err != nil {
		t.Errorf("Watch of what 3 fit = %v, %v", got, err)
	}
	if err := st.Watch(t.Context(), 22, never); !errors.Is(err, ErrCompacted) {
		t.Errorf("Watch of what was dropped for its bytes = %v, want ErrCompacted", err)
	}
	commit(t, st, Write{"k/27", make([]byte, 1000), 27}) // larger than all that is kept
	if err := st.Watch(t.Context(), 26, never); !errors.Is(err, ErrCompacted) {
		t.Errorf("Watch of what is too large = %v, want ErrCompacted", err)
	}
	st = reopen()
	if err := st.Watch(t.Context(), 26, never); !errors.Is(err, ErrCompacted) {
		t.Errorf("Watch of what was before the start = %v, want ErrCompacted", err)
	}
	beginToWatch(t, st)
	commit(t, st, numbered(28)...)
	if got, err := watchUntil(t.Context(), st, 27, 28); len(got) != 1 || err != nil {
		t.Errorf("Watch of the first commit after the start = %v, %v", got, err)
	}
}

// testWatchSlow commits while fn waits.
func testWatchSlow(t *testing.T, st Store, _ func() Store) {
	feedOf(st).maxCommits = 10
	beginToWatch(t, st)
	begun, released := make(chan struct{}), make(chan struct{})
	result := make(chan error)
	go func() {
		result <- st.Watch(t.Context(), 0, func([]Write) error {
			begun <- struct{}{}
			<-released
			return nil
		})
	}()
	commit(t, st, numbered(1)...)
	<-begun
	for revision := range uint64(20) {
		commit(t, st, numbered(revision+2)...)
	}
	close(released)
	if err := <-result; !errors.Is(err, ErrCompacted) {
		t.Errorf("Watch = %v, want ErrCompacted, as 20 commits went by and 10 are kept", err)
	}
}

func testWatchEnds(t *testing.T, st Store, _ func() Store) {
	ctx, cancel := context.WithCancel(t.Context())
	results := make(chan error, 2)
	beginToWatch(t, st)
	go func() { results <- st.Watch(ctx, 0, func([]Write) error { return nil }) }()
	cancel()
	if err := <-results; !errors.Is(err, context.Canceled) {
		t.Errorf("Watch = %v, want the context's error", err)
	}
	commit(t, st, numbered(1)...)
	stop := errors.New("stop")
	if err := st.Watch(t.Context(), 0, func([]Write) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("Watch = %v, want that of fn", err)
	}
	go func() { results <- st.Watch(t.Context(), 1, func([]Write) error { return nil }) }()
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-results; !errors.Is(err, ErrClosed) {
		t.Errorf("Watch = %v, want ErrClosed", err)
	}
}

// TestWatchTellsTheDisk fails commits: a watcher never hears of them.
func TestWatchTellsTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFeed(0)
		f.watched = true
		var told []uint64
		go func() {
			_ = f.Watch(t.Context(), 0, func(w []Write) error { told = append(told, w[0].Revision); return nil })
		}()
		synctest.Wait()
		if revision, err := f.after(numbered(1)); revision != 1 || err != nil {
			t.Fatal(revision, err)
		}
		time.Sleep(time.Second) // the commit is under way
		if len(told) > 0 || f.Revision() != 0 {
			t.Errorf("told %v before the commit was done", told)
		}
		f.publish(1, numbered(1))
		synctest.Wait()
		if diff := cmp.Diff([]uint64{1}, told); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		f.close()
	})
	st := mustOpen(t, t.TempDir())
	commit(t, st, numbered(1)...)
	real := st.commit
	st.commit = failCommit(ErrFull)
	if err := st.Commit(numbered(2)); err == nil {
		t.Fatal("committed")
	}
	st.commit = real
	if st.Revision() != 1 {
		t.Errorf("revision %d after a commit that failed, want 1", st.Revision())
	}
}
