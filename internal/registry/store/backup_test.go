package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// sample fills a store with some of everything, under more keys than a chunk has.
func sample(t testing.TB, st Store) {
	t.Helper()
	var writes []Write
	for i := range chunkKeys + 500 {
		writes = append(writes, Write{fmt.Sprintf("i/%08d", i), fmt.Appendf(nil, "instance %d", i), uint64(i)})
	}
	writes = append(writes, put("ceiling", "1"), Write{"r/a", []byte{}, 9000}, Write{"r/b", make([]byte, 50_000), 4},
		put("z/\x00\xff", "bytes"), Write{"gone", nil, 9001})
	if err := st.Commit(writes); err != nil {
		t.Fatal(err)
	}
}

func backupOf(t testing.TB, st Store) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Backup(st, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func mustAll(t *testing.T, st Store) map[string]string {
	t.Helper()
	content, err := allOf(st)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func testBackup(t *testing.T, st Store, _ func() Store) {
	sample(t, st)
	backup := backupOf(t, st)
	if !bytes.Equal(backup, backupOf(t, st)) {
		t.Error("two backups of one store differ")
	}
	want := Info{Epoch: st.Epoch(), Revision: 9001, Entries: chunkKeys + 504, Bytes: int64(len(backup))}
	copy(want.SHA256[:], backup[len(backup)-sha256.Size:])
	for name, read := range map[string]func(io.Reader) io.Reader{"whole": func(r io.Reader) io.Reader { return r }, "in halves": iotest.HalfReader} {
		if got, err := CheckBackup(read(bytes.NewReader(backup))); got != want || err != nil {
			t.Errorf("%s: CheckBackup = %+v, %v: want %+v", name, got, err, want)
		}
	}
	dir := t.TempDir()
	if got, err := Restore(dir, bytes.NewReader(backup)); got != want || err != nil {
		t.Errorf("Restore = %+v, %v: want %+v", got, err, want)
	}
	restored := mustOpen(t, dir)
	if restored.Epoch() == st.Epoch() || restored.Epoch() == 0 {
		t.Errorf("epoch %x of the restored store, of %x: want another one", restored.Epoch(), st.Epoch())
	}
	if restored.Revision() != 9001 {
		t.Errorf("revision %d of the restored store, want 9001", restored.Revision())
	}
	if !maps.Equal(mustAll(t, st), mustAll(t, restored)) {
		t.Error("the restored store has other entries")
	}
	commit(t, restored, Write{"i/00000001", []byte("goes on"), 9002})
	wantContent(t, restored, "i/00000001", "i/00000001=goes on")
}

// blocked is a writer that waits in its first write.
type blocked struct {
	bytes.Buffer

	begun, released chan struct{}
}

func (b *blocked) Write(p []byte) (int, error) {
	if b.Len() == 0 {
		close(b.begun)
		<-b.released
	}
	return b.Buffer.Write(p)
}

// testBackupMeanwhile commits while a backup is written to somebody slow.
func testBackupMeanwhile(t *testing.T, st Store, _ func() Store) {
	sample(t, st)
	before := mustAll(t, st)
	w := &blocked{begun: make(chan struct{}), released: make(chan struct{})}
	result := make(chan error)
	go func() { result <- Backup(st, w) }()
	<-w.begun
	for i := range 20 {
		commit(t, st, Write{fmt.Sprintf("i/%08d", i), make([]byte, 500_000), 10_000}, Write{fmt.Sprintf("i/%08d", 1000+i), nil, 10_000})
	}
	close(w.released)
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := Restore(dir, &w.Buffer); err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(before, mustAll(t, mustOpen(t, dir))) {
		t.Error("the backup is not of one moment")
	}
}

func TestBackupOfDamage(t *testing.T) {
	st := mustOpen(t, t.TempDir())
	commit(t, st, put("a/1", "x"))
	st.now.families["a/"] = total{}
	commit(t, st, put("b", "x"))
	wantError(t, Backup(st, io.Discard), ErrCorrupt, st.path)
	full := &os.PathError{Op: "write", Path: "x", Err: errors.New("full")}
	if err := Backup(NewMemory(), iotestWriter{full}); !errors.Is(err, full) {
		t.Errorf("Backup = %v, want the writer's error", err)
	}
}

type iotestWriter struct{ err error }

func (w iotestWriter) Write([]byte) (int, error) { return 0, w.err }

// resealed puts the right SHA-256 at the end, as somebody with malice would.
func resealed(backup []byte) []byte {
	body := backup[:len(backup)-sha256.Size]
	sum := sha256.Sum256(body)
	return append(bytes.Clone(body), sum[:]...)
}

// handmade writes a backup of any entries.
func handmade(revision uint64, entries ...Entry) []byte {
	b := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32([]byte(backupMagic), backupFormat), 7)
	for _, e := range entries {
		b = appendEntry(b, e)
	}
	b = append(b, 0, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(len(entries)))
	b = binary.BigEndian.AppendUint64(b, revision)
	return resealed(append(b, make([]byte, sha256.Size)...))
}

func TestBadBackups(t *testing.T) {
	good := handmade(5, Entry{"a/1", []byte("x"), 5}, Entry{"a/2", []byte("y"), 4})
	if _, err := CheckBackup(bytes.NewReader(good)); err != nil {
		t.Fatal(err)
	}
	with := func(at int, to ...byte) []byte { b := bytes.Clone(good); copy(b[at:], to); return resealed(b) }
	families := make([]Entry, maxFamilies+1)
	for i := range families {
		families[i] = Entry{Key: fmt.Sprintf("%03d/x", i)}
	}
	for name, c := range map[string]struct {
		backup []byte
		says   string
	}{
		"empty":        {nil, "cut off"},
		"text":         {[]byte(strings.Repeat("hello ", 20)), "does not begin"},
		"format":       {with(8, 0, 0, 0, 2), "format 2: want 1"},
		"epoch":        {with(12, make([]byte, 8)...), "epoch is 0"},
		"flipped":      {with(40, 0xff), "checksum"},
		"large key":    {with(20, 4, 1), "a key of 1025"},
		"large value":  {with(22, 0, 16, 0, 1), "value of 1048577"},
		"huge value":   {with(22, 255, 255, 255, 255), "value of 4294967295"},
		"unordered":    {handmade(5, Entry{Key: "b"}, Entry{Key: "a"}), `key "a" after "b"`},
		"twice":        {handmade(5, Entry{Key: "b"}, Entry{Key: "b"}), `key "b" after "b"`},
		"family":       {handmade(5, Entry{Key: strings.Repeat("f", 65) + "/"}), "want at most 64"},
		"families":     {handmade(5, families...), "a family more than 64"},
		"revision":     {handmade(5, Entry{"a", nil, 6}), "revision 5, but an entry has 6"},
		"count":        {with(len(good)-sha256.Size-9, 3), "want 3"},
		"sum":          {append(bytes.Clone(good[:len(good)-1]), good[len(good)-1]^1), "SHA-256"},
		"more follows": {append(bytes.Clone(good), 0), "more follows"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := CheckBackup(bytes.NewReader(c.backup))
			wantError(t, err, ErrBackup, c.says)
		})
	}
	for n := range good {
		if _, err := CheckBackup(bytes.NewReader(good[:n])); !errors.Is(err, ErrBackup) {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
	for bit := range 8 * len(good) {
		flipped := bytes.Clone(good)
		flipped[bit/8] ^= 1 << (bit % 8)
		if _, err := CheckBackup(bytes.NewReader(flipped)); !errors.Is(err, ErrBackup) {
			t.Fatalf("bit %d: %v", bit, err)
		}
	}
	if _, err := CheckBackup(iotest.ErrReader(io.ErrClosedPipe)); !errors.Is(err, io.ErrClosedPipe) || errors.Is(err, ErrBackup) {
		t.Errorf("CheckBackup = %v, want the reader's error", err)
	}
}

// endless gives entries for ever, with ascending keys.
type endless struct {
	n    int
	rest []byte
}

func (e *endless) Read(p []byte) (int, error) {
	if len(e.rest) == 0 {
		e.rest = appendEntry(nil, Entry{Key: fmt.Sprintf("%010d", e.n), Value: make([]byte, maxValue)})
		e.n++
	}
	n := copy(p, e.rest)
	e.rest = e.rest[n:]
	return n, nil
}

func TestEndlessBackup(t *testing.T) {
	head := handmade(0)[:20]
	source := &endless{}
	b := newBackupReader(io.MultiReader(bytes.NewReader(head), source))
	if b.max != 1<<30 {
		t.Errorf("%d bytes are read, want at most 1 GiB", b.max)
	}
	b.max = 16 << 20
	_, err := b.run(func(Entry) error { return nil })
	wantError(t, err, ErrBackup, fmt.Sprintf("more than %d bytes", b.max))
	if source.n > 17 {
		t.Errorf("%d MiB were read", source.n)
	}
}

// names lists a directory.
func names(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestRestore(t *testing.T) {
	backup := handmade(5, Entry{"a", []byte("restored"), 5})
	t.Run("keeps what it replaces", func(t *testing.T) {
		dir := t.TempDir()
		for i := range keptReplaced + 2 {
			st := mustOpen(t, dir)
			commit(t, st, Write{"b", fmt.Append(nil, i), 10})
			if err := st.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := Restore(dir, bytes.NewReader(backup)); err != nil {
				t.Fatal(err)
			}
		}
		wantContent(t, mustOpen(t, dir), "", "a=restored")
		replaced := newestFirst(dir, replacedPrefix)
		if len(replaced) != keptReplaced || len(names(t, dir)) != keptReplaced+1 {
			t.Fatalf("%q in the directory, want the newest %d that were replaced", names(t, dir), keptReplaced)
		}
		other := t.TempDir()
		if err := os.Rename(filepath.Join(dir, replaced[0]), filepath.Join(other, fileName)); err != nil {
			t.Fatal(err)
		}
		wantContent(t, mustOpen(t, other), "", "a=restored", fmt.Sprint("b=", keptReplaced+1))
	})
	t.Run("takes over what it is told to", func(t *testing.T) {
		dir := t.TempDir()
		st := mustOpen(t, dir)
		commit(t, st, Write{"a", []byte("old"), 10}, Write{"k/1", []byte("kept"), 10}, Write{"k/2", []byte("kept"), 11}, Write{"l/1", []byte("lost"), 11})
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
		both := handmade(5, Entry{"a", []byte("restored"), 5}, Entry{"k/2", []byte("of the backup"), 5}, Entry{"k/3", []byte("of the backup"), 5})
		if info, err := Restore(dir, bytes.NewReader(both), "k/"); err != nil || info.Lost != nil {
			t.Fatal(err, info.Lost)
		}
		st = mustOpen(t, dir)
		wantContent(t, st, "", "a=restored", "k/1=kept", "k/2=kept", "k/3=of the backup")
		if st.Revision() != 5 {
			t.Errorf("revision %d, want that of the backup", st.Revision())
		}
	})
	t.Run("says if it cannot", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, fileName), bytes.Repeat([]byte("no store "), 4000), 0o600); err != nil {
			t.Fatal(err)
		}
		if info, err := Restore(dir, bytes.NewReader(backup), "k/"); err != nil || info.Lost == nil {
			t.Error(err, info.Lost)
		}
		wantContent(t, mustOpen(t, dir), "", "a=restored")
	})
	t.Run("refuses a bad backup before it replaces anything", func(t *testing.T) {
		dir := t.TempDir()
		st := mustOpen(t, dir)
		commit(t, st, put("a", "old"))
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
		bad := bytes.Clone(backup)
		bad[len(bad)-1] ^= 1 // all entries are good
		_, err := Restore(dir, bytes.NewReader(bad))
		wantError(t, err, ErrBackup, "SHA-256")
		if diff := cmp.Diff([]string{fileName}, names(t, dir)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		wantContent(t, mustOpen(t, dir), "", "a=old")
	})
	t.Run("refuses a store in use", func(t *testing.T) {
		dir := t.TempDir()
		mustOpen(t, dir)
		_, err := Restore(dir, bytes.NewReader(backup))
		wantError(t, err, ErrInUse, fileName)
	})
	t.Run("heals a damaged store", func(t *testing.T) {
		for name, content := range map[string]string{"empty": "", "text": strings.Repeat("x", 10_000)} {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, fileName), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, restoringName), []byte("left behind"), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Restore(dir, bytes.NewReader(backup)); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			wantContent(t, mustOpen(t, dir), "", "a=restored")
		}
	})
	t.Run("makes the directory", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "new")
		if _, err := Restore(dir, bytes.NewReader(handmade(0))); err != nil {
			t.Fatal(err)
		}
		wantContent(t, mustOpen(t, dir), "")
		if err := Loose(dir); err != nil {
			t.Error(err)
		}
	})
}

// keptBackups is how many the tests keep.
const keptBackups = 7

var noon = time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)

func save(t *testing.T, st Store, dir string, now time.Time) string {
	t.Helper()
	path, err := SaveBackup(st, dir, now, keptBackups)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSaveBackup(t *testing.T) {
	dir, st := t.TempDir(), NewMemory()
	commit(t, st, numbered(1)...)
	first := save(t, st, dir, noon)
	if want := filepath.Join(BackupDir(dir), "registry-20270301T120000.000Z.weftbackup"); first != want {
		t.Errorf("saved as %s, want %s", first, want)
	}
	for path, want := range map[string]os.FileMode{BackupDir(dir): 0o700, first: 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v: want %o", path, info.Mode(), err, want)
		}
	}
	if again := save(t, st, dir, noon.Add(time.Hour)); again != first || len(names(t, BackupDir(dir))) != 1 {
		t.Errorf("saved as %s although nothing had changed", again)
	}
	commit(t, st, put("bookkeeping", "counts as a change"))
	last := first
	for i := range 20 {
		now := noon.Add(time.Duration(i) * time.Hour)
		if i > 10 {
			now = noon.AddDate(-1, 0, i) // the clock was set back
		}
		commit(t, st, numbered(uint64(2+i))...)
		path := save(t, st, dir, now)
		if path <= last {
			t.Errorf("%s is not above %s", path, last)
		}
		last = path
	}
	kept := names(t, BackupDir(dir))
	if len(kept) != keptBackups || kept[keptBackups-1] != filepath.Base(last) {
		t.Errorf("%q are kept, want %d up to %s", kept, keptBackups, last)
	}
	for _, name := range kept {
		if _, err := checkBackupFile(filepath.Join(BackupDir(dir), name)); err != nil {
			t.Error(name, err)
		}
	}
}

// TestSaveBackupLeavesAGoodOne damages all backups: the next one is written although nothing has changed.
func TestSaveBackupLeavesAGoodOne(t *testing.T) {
	dir, st := t.TempDir(), NewMemory()
	commit(t, st, numbered(1)...)
	first := save(t, st, dir, noon)
	if err := os.Truncate(first, 30); err != nil {
		t.Fatal(err)
	}
	second := save(t, st, dir, noon.Add(time.Hour))
	if second == first || newestGood(dir) != second {
		t.Errorf("saved as %s, the newest good one is %q", second, newestGood(dir))
	}
	stale := filepath.Join(BackupDir(dir), savingPrefix+noon.Format(stamp))
	other := filepath.Join(BackupDir(dir), "a file of somebody else")
	for _, path := range []string{stale, other} {
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, noon, noon); err != nil {
			t.Fatal(err)
		}
	}
	commit(t, st, numbered(2)...)
	third := save(t, st, dir, noon.Add(2*time.Hour))
	want := []string{filepath.Base(other), filepath.Base(first), filepath.Base(second), filepath.Base(third)}
	if diff := cmp.Diff(want, names(t, BackupDir(dir))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestAdvice damages a store that has backups: the refusal names the newest good one, and the command it names works.
func TestAdvice(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a directory")
	st := mustOpen(t, dir)
	commit(t, st, put("a", "good"))
	good := save(t, st, dir, noon)
	commit(t, st, put("a", "newer"))
	if err := os.Truncate(save(t, st, dir, noon.Add(time.Hour)), 50); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(st.Close(), os.Truncate(st.path, 10_000)); err != nil {
		t.Fatal(err)
	}
	_, err := Open(dir)
	wantError(t, err, ErrCorrupt, fmt.Sprintf("registry-server restore --data-dir '%s' --from '%s'", dir, good))
	f, err := os.Open(good)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := Restore(dir, f); err != nil {
		t.Fatal(err)
	}
	wantContent(t, mustOpen(t, dir), "", "a=good")
}

// FuzzRestore gives Restore what anybody may send: it is refused, or what was made of it has all its entries.
func FuzzRestore(f *testing.F) {
	f.Add(handmade(5, Entry{"a/1", []byte("x"), 5}, Entry{"a/2", []byte("y"), 4}, Entry{"b", nil, 0}))
	f.Add(handmade(0))
	f.Add(handmade(5, Entry{"a/1", []byte("x"), 5})[:40])
	f.Add([]byte(backupMagic))
	dir := memoryDir(f)
	f.Fuzz(func(t *testing.T, backup []byte) {
		for _, b := range [][]byte{backup, resealed(append(bytes.Clone(backup), make([]byte, sha256.Size)...))} {
			checked, checkErr := CheckBackup(bytes.NewReader(b))
			info, err := Restore(dir, bytes.NewReader(b))
			if (checkErr == nil) != (err == nil) || info != checked {
				t.Fatalf("CheckBackup = %+v, %v, but Restore = %+v, %v", checked, checkErr, info, err)
			}
			if err != nil {
				continue
			}
			st, err := Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			content, err := allOf(st)
			if err := errors.Join(err, st.Close()); err != nil || len(content) != info.Entries {
				t.Fatalf("%d entries, %v: want %d", len(content), err, info.Entries)
			}
		}
	})
}
