package store

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// fileName is the store's file in its data directory.
const fileName = "registry.db"

// lockWait is how long Open waits for a process that is just stopping.
const lockWait = 500 * time.Millisecond

// maxKey and maxValue bound a write.
const (
	maxKey   = 1024
	maxValue = 1 << 20
)

// The buckets and keys of the file.
var (
	dataBucket = []byte("data")
	metaBucket = []byte("meta")
	epochKey   = []byte("epoch")
)

// Bolt is a store in one file. It is made by [Open].
type Bolt struct {
	db     *bbolt.DB
	path   string
	epoch  uint64
	broken atomic.Bool // a commit failed: see ErrBroken; bbolt itself would go on and acknowledge
	stuck  atomic.Bool // bbolt panicked: its locks may be held for ever
	commit func(*bbolt.Tx) error
}

// Open opens the store in the data directory, or creates both; the directory is made with mode 0700. Its errors
// name the file, say what to do, and wrap [ErrInUse], [ErrCorrupt] or [ErrFull] where one of them is the cause.
func Open(dir string) (*Bolt, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory %s cannot be made: %w; choose another --data-dir", dir, err)
	}
	path := filepath.Join(dir, fileName)
	if err := inspect(path); err != nil {
		return nil, openError(path, err)
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout:        lockWait,
		NoFreelistSync: true, // rebuilt at the start; saves a write per commit
		FreelistType:   bbolt.FreelistMapType,
	})
	if err != nil {
		return nil, openError(path, err)
	}
	s := &Bolt{db: db, path: path, commit: (*bbolt.Tx).Commit}
	if err := errors.Join(s.loadEpoch(), syncDir(dir)); err != nil {
		return nil, openError(path, errors.Join(err, db.Close()))
	}
	return s, nil
}

// syncDir makes the name of a new file as durable as its content. Windows does so by itself, and cannot be asked.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// inspect checks the whole file before bbolt maps it, because bbolt meets a damaged page with a panic or a
// memory fault on a goroutine of its own, which nobody can recover. The read-only handle holds the lock
// meanwhile, so that another process cannot write. Reading also warms the page cache.
func inspect(path string) (err error) {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) || err == nil && info.Size() == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: lockWait})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return checkFile(path, db.Info().PageSize)
}

// openError makes one line that says what to do.
func openError(path string, err error) error {
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return fmt.Errorf("%s %w", path, ErrInUse)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%s cannot be opened: %w; run the server as the owner of the data directory", path, err)
	case isFull(err):
		return fmt.Errorf("%s cannot be opened: %w and start again", path, ErrFull)
	case errors.Is(err, ErrCorrupt):
		return fmt.Errorf("%s %w", path, err)
	case isDamage(err):
		return fmt.Errorf("%s %w (%v)", path, ErrCorrupt, err)
	}
	return fmt.Errorf("%s cannot be opened: %w", path, err)
}

// isDamage reports whether bbolt found the file unreadable; one of its errors has no name.
func isDamage(err error) bool {
	return errors.Is(err, berrors.ErrInvalid) || errors.Is(err, berrors.ErrChecksum) ||
		errors.Is(err, berrors.ErrVersionMismatch) || strings.Contains(err.Error(), "file size too small")
}

// loadEpoch reads the epoch, or chooses one in a new file.
func (s *Bolt) loadEpoch() error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		if b := tx.Bucket(metaBucket); b != nil && tx.Bucket(dataBucket) != nil {
			v := b.Get(epochKey)
			if len(v) != 8 || binary.BigEndian.Uint64(v) == 0 {
				return fmt.Errorf("%w (epoch %x, want 8 bytes, not 0)", ErrCorrupt, v)
			}
			s.epoch = binary.BigEndian.Uint64(v)
			return nil
		}
		return s.create(tx)
	})
}

func (s *Bolt) create(tx *bbolt.Tx) error {
	if k, _ := tx.Cursor().First(); k != nil {
		return fmt.Errorf("%w (not a store of this server: it has a bucket %q)", ErrCorrupt, k)
	}
	if _, err := tx.CreateBucket(dataBucket); err != nil {
		return err
	}
	meta, err := tx.CreateBucket(metaBucket)
	if err != nil {
		return err
	}
	s.epoch = newEpoch()
	return meta.Put(epochKey, binary.BigEndian.AppendUint64(nil, s.epoch))
}

// Epoch implements [Store].
func (s *Bolt) Epoch() uint64 { return s.epoch }

// Revision implements [Store].
func (s *Bolt) Revision() uint64 { return 0 }

// Watch implements [Store].
func (s *Bolt) Watch(context.Context, uint64, func([]Write) error) error { return ErrCompacted }

// Range implements [Store].
func (s *Bolt) Range(prefix string, fn func(Entry) error) (err error) {
	defer s.recoverFault(&err)()
	err = s.db.View(func(tx *bbolt.Tx) error {
		c := tx.Bucket(dataBucket).Cursor()
		for k, v := c.Seek([]byte(prefix)); k != nil && strings.HasPrefix(string(k), prefix); k, v = c.Next() {
			e := Entry{Key: string(k), Value: v[8:], Revision: binary.BigEndian.Uint64(v)}
			if err := fn(e); err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, berrors.ErrDatabaseNotOpen) {
		return ErrClosed
	}
	return err
}

// Commit implements [Store].
func (s *Bolt) Commit(writes []Write) (err error) {
	if s.broken.Load() {
		return ErrBroken
	}
	if err := check(writes); err != nil {
		return err
	}
	defer s.recoverFault(&err)()
	tx, err := s.db.Begin(true)
	if err != nil {
		return fmt.Errorf("%s: %w (%v)", s.path, ErrClosed, err)
	}
	if err := apply(tx.Bucket(dataBucket), writes); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return s.judge(s.commit(tx))
}

// apply makes the writes in the order of their keys, which costs bbolt a tenth of a random order.
func apply(b *bbolt.Bucket, writes []Write) error {
	sorted := slices.Clone(writes)
	slices.SortStableFunc(sorted, func(a, b Write) int { return cmp.Compare(a.Key, b.Key) })
	for i, w := range sorted {
		if i+1 < len(sorted) && sorted[i+1].Key == w.Key {
			continue // a later write of the same key wins
		}
		var err error
		if w.Value == nil {
			err = b.Delete([]byte(w.Key))
		} else {
			err = b.Put([]byte(w.Key), append(binary.BigEndian.AppendUint64(nil, w.Revision), w.Value...))
		}
		if err != nil {
			return fmt.Errorf("key %q: %w", w.Key, err)
		}
	}
	return nil
}

// judge tells a full disk, after which bbolt has rolled back, from a failure that leaves the outcome open.
func (s *Bolt) judge(err error) error {
	switch {
	case err == nil:
		return nil
	case isFull(err):
		return fmt.Errorf("%s: %w, the server goes on by itself", s.path, ErrFull)
	}
	s.broken.Store(true)
	return fmt.Errorf("%s: %w (%v)", s.path, ErrBroken, err)
}

// isFull reports whether a write or the growing of the file found no space. A sync that found none is a bare
// errno, and no such case: what was written before it may be lost or not. bbolt flattens the error of growing
// to text.
func isFull(err error) bool {
	if path, ok := errors.AsType[*os.PathError](err); ok {
		return path.Op != "sync" && errors.Is(path, syscall.ENOSPC)
	}
	text := err.Error()
	return strings.HasPrefix(text, "file resize error") && strings.Contains(text, syscall.ENOSPC.Error())
}

// recoverFault turns a panic of bbolt, and a fault in its memory map, into ErrCorrupt: the file can still be
// damaged while it is open. Used as: defer s.recoverFault(&err)().
func (s *Bolt) recoverFault(err *error) func() {
	old := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(old)
		if p := recover(); p != nil {
			s.broken.Store(true)
			s.stuck.Store(true)
			*err = fmt.Errorf("%s %w (%v)", s.path, ErrCorrupt, p)
		}
	}
}

// Close implements [Store]. After bbolt has panicked there is nothing left to close: the end of the process
// frees the file.
func (s *Bolt) Close() error {
	if s.stuck.Load() {
		return nil
	}
	return s.db.Close()
}

// check refuses writes that a store does not hold.
func check(writes []Write) error {
	for _, w := range writes {
		if len(w.Key) == 0 || len(w.Key) > maxKey {
			return fmt.Errorf("key of %d bytes: want 1 to %d", len(w.Key), maxKey)
		}
		if len(w.Value) > maxValue {
			return fmt.Errorf("key %q: value of %d bytes: want at most %d", w.Key, len(w.Value), maxValue)
		}
	}
	return nil
}
