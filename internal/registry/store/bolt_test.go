package store

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"go.etcd.io/bbolt"
)

func mustOpen(t *testing.T, dir string) *Bolt {
	t.Helper()
	st, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return st
}

// wantError checks that err wraps want, is one line, and says what to do.
func wantError(t *testing.T, err, want error, says string) {
	t.Helper()
	if !errors.Is(err, want) || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %q, want one line that wraps %q and says %q", err, want, says)
	}
}

func TestOpenErrors(t *testing.T) {
	t.Run("in use", func(t *testing.T) {
		dir := t.TempDir()
		mustOpen(t, dir)
		_, err := Open(dir)
		wantError(t, err, ErrInUse, filepath.Join(dir, "registry.db")+" is in use by another process; stop it or choose another --data-dir")
	})
	t.Run("not a directory", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(file)
		wantError(t, err, syscall.ENOTDIR, "choose another --data-dir")
	})
	for name, text := range map[string]string{
		"short":       "hello",
		"text":        strings.Repeat("this is not a store. ", 1000),
		"zeros":       string(make([]byte, 64<<10)),
		"exactly one": string(make([]byte, 4096)),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, fileName), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Open(dir)
			wantError(t, err, ErrCorrupt, "restore it from a backup, or move it away to start empty")
		})
	}
	t.Run("somebody else's", func(t *testing.T) {
		dir := t.TempDir()
		db, err := bbolt.Open(filepath.Join(dir, fileName), 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = db.Update(func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("theirs")); return err })
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
		_, err = Open(dir)
		wantError(t, err, ErrCorrupt, "theirs")
	})
}

func TestModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "weft-data")
	mustOpen(t, dir)
	for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, fileName): 0o600} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", path, got, want)
		}
	}
}

// filled makes a store with several levels of pages and gives its file's content.
func filled(tb testing.TB) (dir string, content []byte) {
	tb.Helper()
	dir = tb.TempDir()
	st, err := Open(dir)
	if err != nil {
		tb.Fatal(err)
	}
	for round := range 3 {
		var writes []Write
		for i := range 1500 {
			writes = append(writes, put(fmt.Sprintf("i/default/service-%d/%06d", i%7, i*(round+1)), strings.Repeat("v", i%90)))
		}
		writes = append(writes, Write{Key: fmt.Sprintf("big-%d", round), Value: make([]byte, 20_000)}) // overflow pages
		if err := st.Commit(writes); err != nil {
			tb.Fatal(err)
		}
	}
	if err := st.Close(); err != nil {
		tb.Fatal(err)
	}
	path := filepath.Join(dir, fileName)
	content, err = os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	content = used(tb, content)
	if err := os.Truncate(path, int64(len(content))); err != nil {
		tb.Fatal(err)
	}
	return dir, content
}

// used cuts off what a file has set aside.
func used(tb testing.TB, content []byte) []byte {
	tb.Helper()
	p, err := newPages(bytes.NewReader(content), int64(len(content)), pageSizeOf(content), false)
	if err != nil {
		tb.Fatal(err)
	}
	return content[:p.high*p.pageSize]
}

// tryOpen opens a file with the content given and reads all of it.
func tryOpen(tb testing.TB, content []byte) error {
	tb.Helper()
	dir := tb.TempDir()
	if err := os.WriteFile(filepath.Join(dir, fileName), content, 0o600); err != nil {
		tb.Fatal(err)
	}
	st, err := Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(st.Range("", func(Entry) error { return nil }), st.Close())
}

// TestDamage breaks pages one after the other.
func TestDamage(t *testing.T) {
	_, whole := filled(t)
	if err := tryOpen(t, whole); err != nil {
		t.Fatalf("the control, undamaged: %v", err)
	}
	pageSize := pageSizeOf(whole)
	t.Run("cut off", func(t *testing.T) {
		for _, n := range []int{len(whole) / 2, 3 * pageSize, 2 * pageSize} {
			wantError(t, tryOpen(t, whole[:n]), ErrCorrupt, "")
		}
	})
	t.Run("garbage in every page in use", func(t *testing.T) {
		used := pagesInUse(t, whole)
		for id := range used {
			broken := append([]byte(nil), whole...)
			for i := range 64 {
				broken[int(id)*pageSize+i] ^= 0xA5
			}
			if err := tryOpen(t, broken); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("page %d: %v, want ErrCorrupt", id, err)
			}
		}
		t.Logf("%d pages", len(used))
	})
	t.Run("a meta page", func(t *testing.T) {
		for id := range 2 {
			broken := append([]byte(nil), whole...)
			clear(broken[id*pageSize : (id+1)*pageSize])
			wantError(t, tryOpen(t, broken), ErrCorrupt, fmt.Sprintf("meta page %d is invalid", id))
		}
	})
}

// rawFile names a file that a child process opens with bbolt alone.
const rawFile = "WEFT_STORE_TEST_RAW"

// TestDamageControl opens a damaged file without the check: the process dies, which no caller could prevent.
func TestDamageControl(t *testing.T) {
	_, whole := filled(t)
	path := filepath.Join(t.TempDir(), fileName)
	for _, id := range slices.Sorted(maps.Keys(pagesInUse(t, whole))) {
		broken := append([]byte(nil), whole...)
		for i := range 64 {
			broken[int(id)*pageSizeOf(whole)+i] ^= 0xA5
		}
		if err := os.WriteFile(path, broken, 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), rawFile+"="+path)
		out, err := cmd.CombinedOutput()
		if err != nil && bytes.Contains(out, []byte("panic")) {
			return
		}
	}
	t.Error("bbolt opened every damaged file, or refused it in good order: the check is not needed")
}

func openRaw(path string) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoFreelistSync: true})
	if err == nil {
		err = db.Close()
	}
	fmt.Println(err)
}

// pageSizeOf reads the size of the pages from the first meta page.
func pageSizeOf(content []byte) int { return int(u32(content[headerSize+8:])) }

// pagesInUse lists the first pages of what the tree consists of.
func pagesInUse(t *testing.T, content []byte) map[uint64]bool {
	t.Helper()
	size := uint64(pageSizeOf(content))
	p, err := newPages(bytes.NewReader(content), int64(len(content)), int(size), false)
	if err == nil {
		err = p.check()
	}
	if err != nil {
		t.Fatal(err)
	}
	first := make(map[uint64]bool)
	for id := range p.seen {
		if u64(content[id*size:]) == id { // overflow pages have no header
			first[id] = true
		}
	}
	return first
}

// failCommit takes a transaction back and fails.
func failCommit(cause error) func(*bbolt.Tx) error {
	return func(tx *bbolt.Tx) error {
		if err := tx.Rollback(); err != nil {
			return err
		}
		return cause
	}
}

func TestLatch(t *testing.T) {
	dir := t.TempDir()
	st := mustOpen(t, dir)
	commit(t, st, put("before", "1"))
	real := st.commit
	st.commit = failCommit(syscall.EIO)
	wantError(t, st.Commit([]Write{put("failed", "1")}), ErrBroken, "until the server is restarted")
	st.commit = real // the disk works again, but what it lost is not known
	wantError(t, st.Commit([]Write{put("after", "1")}), ErrBroken, "until the server is restarted")
	wantContent(t, st, "", "before=1")
	st.broken.Store(false) // the control: bbolt itself would go on
	commit(t, st, put("control", "1"))
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	again := mustOpen(t, dir)
	commit(t, again, put("restarted", "1"))
	wantContent(t, again, "", "before=1", "control=1", "restarted=1")
}

func TestFullIsNotLatched(t *testing.T) {
	for name, cause := range map[string]error{
		"write": &os.PathError{Op: "write", Path: "registry.db", Err: syscall.ENOSPC},
		"quota": &os.PathError{Op: "write", Path: "registry.db", Err: syscall.EDQUOT},
		"limit": fmt.Errorf("file resize error: %s", &os.PathError{Op: "truncate", Path: "registry.db", Err: syscall.EFBIG}),
		"grow":  fmt.Errorf("file resize error: %s", &os.PathError{Op: "truncate", Path: "registry.db", Err: syscall.ENOSPC}),
	} {
		t.Run(name, func(t *testing.T) {
			st := mustOpen(t, t.TempDir())
			real := st.commit
			st.commit = failCommit(cause)
			wantError(t, st.Commit([]Write{put("full", "1")}), ErrFull, "free some space")
			st.commit = real
			commit(t, st, put("freed", "1"))
			wantContent(t, st, "", "freed=1")
		})
	}
	for name, cause := range map[string]error{
		"a sync":             syscall.ENOSPC,
		"the sync of growth": fmt.Errorf("file sync error: %s", &os.PathError{Op: "sync", Path: "registry.db", Err: syscall.ENOSPC}),
	} {
		t.Run(name+" that finds no space is latched", func(t *testing.T) {
			st := mustOpen(t, t.TempDir())
			st.commit = failCommit(cause)
			wantError(t, st.Commit([]Write{put("a", "1")}), ErrBroken, "restarted")
		})
	}
}

// TestFault damages the file under an open store: what the memory map meets is an error.
func TestFault(t *testing.T) {
	dir, whole := filled(t)
	st := mustOpen(t, dir)
	if err := os.Truncate(filepath.Join(dir, fileName), int64(len(whole)/4)); err != nil {
		t.Fatal(err)
	}
	err := st.Range("", func(Entry) error { return nil })
	wantError(t, err, ErrCorrupt, "is damaged")
	wantError(t, st.Commit([]Write{put("a", "1")}), ErrBroken, "restarted")
}

// FuzzOpen gives Open damaged files. A panic on a goroutine of bbolt would end the process.
func FuzzOpen(f *testing.F) {
	_, whole := filled(f)
	f.Add(0, []byte{}, len(whole))
	f.Add(2*4096, []byte{1, 2, 3}, len(whole))
	f.Add(3*4096+16, []byte{255, 255, 255, 255}, len(whole))
	f.Add(0, []byte{}, 3*4096)
	f.Fuzz(func(t *testing.T, at int, with []byte, length int) {
		content := append([]byte(nil), whole...)
		if at < 0 || at > len(content) || length < 0 || length > len(content) {
			return
		}
		copy(content[at:], with)
		_ = tryOpen(t, content[:length])
	})
}
