package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// Beside the store's file.
const (
	restoringName  = fileName + ".restoring"
	replacedPrefix = fileName + ".replaced-"
	keptReplaced   = 3
)

// stamp is how times stand in names of files: in UTC, sorted as text.
const stamp = "20060102T150405.000Z"

// Restore replaces the store in a data directory, which nobody may have open, by a backup. The new store has the
// backup's revision and a new epoch. The replaced file stays as registry.db.replaced-<time>; of those the newest three
// are kept. Nothing is replaced if there is an error: it wraps [ErrBackup] if the backup is at fault, or [ErrInUse] or
// [ErrFull]. The Info is the backup's.
//
// Keys with one of the prefixes in keep are taken over from the replaced store, over those of the backup. If it cannot be
// read they are lost, and Info.Lost says why.
func Restore(dir string, r io.Reader, keep ...string) (Info, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Info{}, fmt.Errorf("data directory %s cannot be made: %w", dir, err)
	}
	path := filepath.Join(dir, fileName)
	kept, lost := survivors(dir, keep)
	unlock, err := lock(path)
	if err != nil {
		return Info{}, err
	}
	info, err := build(filepath.Join(dir, restoringName), r, kept)
	info.Lost = lost
	if err == nil {
		err = replace(dir, time.Now())
	}
	if err := errors.Join(err, unlock()); err != nil {
		if isFull(err) {
			err = fmt.Errorf("%w (%w)", ErrFull, err)
		}
		return Info{}, fmt.Errorf("%s cannot be restored: %w", path, err)
	}
	return info, nil
}

// survivors reads what is taken over from the store that is about to be replaced.
func survivors(dir string, keep []string) (kept []Entry, err error) {
	if info, err := os.Stat(filepath.Join(dir, fileName)); len(keep) == 0 || err != nil || info.Size() == 0 {
		return nil, nil
	}
	st, err := Open(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	for _, prefix := range keep {
		err := st.Range(prefix, func(e Entry) error {
			kept = append(kept, Entry{Key: e.Key, Value: slices.Clone(e.Value)}) // its revision is of another epoch
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return kept, nil
}

// lock keeps servers away from the file that is about to be replaced, which may be damaged or missing.
func lock(path string) (unlock func() error, err error) {
	unlock = func() error { return nil }
	if info, err := os.Stat(path); err == nil && info.Size() > 0 {
		db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: lockWait})
		if errors.Is(err, berrors.ErrTimeout) {
			return nil, fmt.Errorf("%s %w", path, ErrInUse)
		}
		if err == nil { // else nobody can open it
			unlock = db.Close
		}
	}
	return unlock, nil
}

// build makes a store of a backup in a new file, and adds what is kept.
func build(path string, r io.Reader, kept []Entry) (info Info, err error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Info{}, err
	}
	b, err := newBuilder(path, newEpoch())
	if err != nil {
		return Info{}, err
	}
	info, err = newBackupReader(r).run(b.add)
	for i := 0; err == nil && i < len(kept); i++ {
		err = b.add(kept[i])
	}
	if err == nil {
		err = b.finish(info.Revision)
	}
	if err = errors.Join(err, b.db.Close()); err != nil {
		return Info{}, errors.Join(err, os.Remove(path))
	}
	return info, nil
}

// replace puts the new file in the place of the old, which keeps a second name. There is no moment without a file.
func replace(dir string, now time.Time) error {
	path := filepath.Join(dir, fileName)
	old := filepath.Join(dir, replacedPrefix+nextStamp(dir, replacedPrefix, now))
	if err := os.Link(path, old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		if err := copyFile(path, old); err != nil {
			return err
		}
	}
	if err := os.Rename(filepath.Join(dir, restoringName), path); err != nil {
		return err
	}
	return errors.Join(syncDir(dir), prune(dir, replacedPrefix, keptReplaced))
}

// copyFile is for file systems without links.
func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	return writeFile(to, func(w io.Writer) error { _, err := io.Copy(w, in); return err })
}

// writeFile makes a new file, 0600 and on disk.
func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(write(f), f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// prune removes the files of a prefix but for the newest.
func prune(dir, prefix string, keep int) error {
	var errs []error
	for i, name := range newestFirst(dir, prefix) {
		if i < keep {
			continue
		}
		if err := os.Remove(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// nextStamp gives the time for the next file of a prefix. Stamps only grow, also when the clock is set back, so that the
// newest file is the last that was made.
func nextStamp(dir, prefix string, now time.Time) string {
	next := now.UTC().Format(stamp)
	if names := newestFirst(dir, prefix); len(names) > 0 {
		last := names[0][len(prefix):][:len(stamp)]
		if at, err := time.Parse(stamp, last); err == nil && next <= last {
			return at.Add(time.Millisecond).Format(stamp)
		}
	}
	return next
}

// newestFirst lists the files whose names start with the prefix and go on with the time.
func newestFirst(dir, prefix string) (names []string) {
	entries, _ := os.ReadDir(dir) // one that cannot be read has none
	for _, e := range slices.Backward(entries) {
		if rest, ok := strings.CutPrefix(e.Name(), prefix); ok && len(rest) >= len(stamp) && e.Type().IsRegular() {
			if _, err := time.Parse(stamp, rest[:len(stamp)]); err == nil {
				names = append(names, e.Name())
			}
		}
	}
	return names
}

// What a builder writes in one transaction.
const (
	chunkKeys  = 4000
	chunkBytes = 8 << 20
)

// builder fills a new file with entries in the order of their keys, in chunks: one transaction with all of them would
// hold them in memory and be slow. The file is nobody's until it is renamed, so it needs one sync, at the end.
type builder struct {
	db    *bbolt.DB
	state *state
	chunk []Write
	bytes int
}

func newBuilder(path string, epoch uint64) (*builder, error) {
	db, err := openFile(path, &bbolt.Options{Timeout: lockWait, NoSync: true, NoGrowSync: true, InitialMmapSize: initialMap()})
	if err != nil {
		return nil, err
	}
	b := &builder{db: db, state: newState(epoch)}
	if err := db.Update(func(tx *bbolt.Tx) error { return create(tx, b.state) }); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return b, nil
}

func (b *builder) add(e Entry) error {
	e.Value = append([]byte{}, e.Value...) // never nil, which would delete
	b.chunk = append(b.chunk, Write(e))
	b.bytes += len(e.Value)
	if len(b.chunk) >= chunkKeys || b.bytes >= chunkBytes {
		return b.flush()
	}
	return nil
}

func (b *builder) flush() error {
	err := b.db.Update(func(tx *bbolt.Tx) error { return apply(tx, b.state, b.chunk) })
	b.chunk, b.bytes = b.chunk[:0], 0
	return err
}

func (b *builder) finish(revision uint64) error {
	b.state.revision = revision
	return errors.Join(b.flush(), b.db.Sync())
}
