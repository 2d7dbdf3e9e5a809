package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// fileName is the store's file in its data directory.
const fileName = "registry.db"

// lockWait is how long Open waits for a process that is just stopping.
const lockWait = 500 * time.Millisecond

// The file grows in steps of allocSize, as each step costs a sync. The map of the file is larger than the file, so that
// a commit need not wait for those who read in order to map anew.
const (
	allocSize = 4 << 20
	mapSize   = 1 << 30
)

// Bolt is a store in one file. It is made by [Open].
type Bolt struct {
	*feed // Revision and Watch

	db     *bbolt.DB
	path   string
	epoch  uint64
	now    *state      // what is on disk; Commit's
	broken atomic.Bool // a commit failed: see ErrBroken; bbolt itself would go on and acknowledge
	stuck  atomic.Bool // bbolt panicked: its locks may be held for ever
	syncs  atomic.Uint64
	size   int64 // of the file, before the last commit; Commit's
	trust  bool  // do not verify: for controls in tests
	commit func(*bbolt.Tx) error
}

// Open opens the store in the data directory, or creates both; the directory is made with mode 0700. Its errors
// name the file, say what to do, and wrap [ErrInUse], [ErrCorrupt], [ErrLayout] or [ErrFull] where one of them is the
// cause.
func Open(dir string) (*Bolt, error) { return openDir(dir, false) }

func openDir(dir string, trust bool) (*Bolt, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory %s cannot be made: %w; choose another --data-dir", dir, err)
	}
	path := filepath.Join(dir, fileName)
	if err := inspect(path, trust); err != nil {
		return nil, openError(path, err)
	}
	db, err := openFile(path, &bbolt.Options{Timeout: lockWait, InitialMmapSize: initialMap()})
	if err != nil {
		return nil, openError(path, err)
	}
	s := &Bolt{db: db, path: path, trust: trust, commit: (*bbolt.Tx).Commit}
	if err := errors.Join(settleMeta(path, db.Info().PageSize), s.load(), syncDir(dir)); err != nil {
		return nil, openError(path, errors.Join(err, db.Close()))
	}
	s.feed = newFeed(s.now.revision)
	return s, nil
}

// openFile opens a file for writing. The list of free pages is rebuilt at the start, which saves a write per commit.
func openFile(path string, o *bbolt.Options) (*bbolt.DB, error) {
	o.NoFreelistSync, o.FreelistType = true, bbolt.FreelistMapType
	var file *os.File
	o.OpenFile = func(name string, flag int, mode os.FileMode) (_ *os.File, err error) {
		file, err = os.OpenFile(name, flag, mode)
		return file, err
	}
	db, err := bbolt.Open(path, 0o600, o)
	if err != nil {
		return nil, err
	}
	db.AllocSize = allocSize
	if !isNamed(file, path) { // a restore has replaced it while its lock was waited for
		return nil, errors.Join(berrors.ErrTimeout, db.Close())
	}
	return db, nil
}

// isNamed reports whether an open file is the one that others find by the name.
func isNamed(file *os.File, path string) bool {
	opened, err := file.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(path)
	return err == nil && os.SameFile(opened, named)
}

// settleMeta writes the meta pages once more as they are, and syncs them. Where the sync of a commit fails, the last
// meta page may be lost to the disk while the page cache still shows it, as clean: a server that is started again would
// use pages that the disk's last meta page still needs.
func settleMeta(path string, pageSize int) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	metas := make([]byte, 2*pageSize)
	if _, err = f.ReadAt(metas, 0); err == nil {
		_, err = f.WriteAt(metas, 0)
	}
	return errors.Join(err, f.Sync(), f.Close())
}

// inspect checks the whole file before bbolt maps it, because bbolt meets a damaged page with a panic or a
// memory fault on a goroutine of its own, which nobody can recover. The read-only handle holds the lock
// meanwhile, so that another process cannot write. Reading also warms the page cache.
func inspect(path string, trust bool) (err error) {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Size() == 0 {
		return emptyFile(filepath.Dir(path))
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: lockWait})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return checkFile(path, db.Info().PageSize, trust)
}

// load reads the state, or makes that of a new file.
func (s *Bolt) load() (err error) {
	defer s.recoverFault(&err)()
	err = s.db.Update(func(tx *bbolt.Tx) error {
		if tx.Bucket([]byte(metaBucket)) == nil {
			s.epoch = newEpoch()
			s.now = newState(s.epoch)
			return create(tx, s.now)
		}
		if s.now, err = readState(tx); err != nil {
			return err
		}
		s.epoch = s.now.epoch
		return errNothing
	})
	if errors.Is(err, errNothing) {
		return nil
	}
	return err
}

// errNothing ends a transaction that has nothing to write.
var errNothing = errors.New("nothing to write")

// create writes the state into a new file.
func create(tx *bbolt.Tx, st *state) error {
	meta, err := tx.CreateBucket([]byte(metaBucket))
	if err != nil {
		return err
	}
	return meta.Put([]byte(stateKey), st.record())
}

func readState(tx *bbolt.Tx) (*state, error) {
	meta := tx.Bucket([]byte(metaBucket))
	if meta == nil {
		return nil, fmt.Errorf("%w (it does not say what it is)", ErrCorrupt)
	}
	record := slices.Clone(meta.Get([]byte(stateKey)))
	if err := verify(metaBucket, []byte(stateKey), record); err != nil {
		return nil, fmt.Errorf("%w (%w)", ErrCorrupt, err)
	}
	return parseState(record)
}

// Epoch implements [Store].
func (s *Bolt) Epoch() uint64 { return s.epoch }

// Range implements [Store].
func (s *Bolt) Range(prefix string, fn func(Entry) error) (err error) {
	r := &reader{prefix: prefix, fn: fn, trust: s.trust}
	defer r.passOn()
	defer s.recoverFault(&err)()
	err = s.db.View(r.read)
	switch {
	case errors.Is(err, berrors.ErrDatabaseNotOpen):
		return ErrClosed
	case r.failed:
		return err // fn's
	case errors.Is(err, ErrCorrupt):
		return damaged(s.path, err)
	}
	return err
}

// reader is one Range.
type reader struct {
	prefix string
	fn     func(Entry) error
	trust  bool
	buffer []byte // of the record that fn sees: it must not meet the map, which may fault
	failed bool   // fn did
	panics any    // fn's
}

// read calls fn for all families in order. The keys without a slash come between them.
func (r *reader) read(tx *bbolt.Tx) error {
	st, err := readState(tx)
	if err != nil {
		return err
	}
	bare, err := r.family(tx, st, bareBucket)
	if err != nil {
		return err
	}
	for _, name := range st.names() {
		if !strings.HasPrefix(name, r.prefix) && !strings.HasPrefix(r.prefix, name) {
			continue
		}
		f, err := r.family(tx, st, name)
		if err != nil {
			return err
		}
		if err := bare.before(name); err != nil {
			return err
		}
		if err := f.rest(); err != nil {
			return err
		}
	}
	return bare.rest()
}

// walk goes through the keys of one family that start with the prefix.
type walk struct {
	*reader

	bucket     string
	cursor     *bbolt.Cursor
	key, value []byte
	seen, want total
}

func (r *reader) family(tx *bbolt.Tx, st *state, name string) (*walk, error) {
	w := &walk{reader: r, bucket: name, want: st.families[name]}
	b := tx.Bucket([]byte(name))
	if b == nil {
		if w.want.count > 0 {
			return nil, fmt.Errorf("%w (bucket %q is not there)", ErrCorrupt, name)
		}
		return w, nil
	}
	w.cursor = b.Cursor()
	w.key, w.value = w.cursor.Seek([]byte(r.prefix))
	return w, nil
}

func (w *walk) more() bool { return w.key != nil && bytes.HasPrefix(w.key, []byte(w.prefix)) }

func (w *walk) before(key string) error {
	for w.more() && string(w.key) < key {
		if err := w.step(); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) rest() error {
	for w.more() {
		if err := w.step(); err != nil {
			return err
		}
	}
	all := w.prefix == "" || w.bucket != bareBucket && strings.HasPrefix(w.bucket, w.prefix)
	if all && !w.trust && w.seen != w.want {
		return fmt.Errorf("%w (bucket %q: %d entries with the sum %x: want %d with %x)",
			ErrCorrupt, w.bucket, w.seen.count, w.seen.sum, w.want.count, w.want.sum)
	}
	return nil
}

// step gives fn one entry.
func (w *walk) step() error {
	key := string(w.key)
	w.buffer = append(w.buffer[:0], w.value...)
	if !w.trust {
		if err := verify(w.bucket, []byte(key), w.buffer); err != nil {
			return fmt.Errorf("%w (%w)", ErrCorrupt, err)
		}
	}
	w.seen.add(w.buffer)
	if err := w.tell(Entry{Key: key, Value: w.buffer[recordHeader:], Revision: revisionOf(w.buffer)}); err != nil {
		return err
	}
	w.key, w.value = w.cursor.Next()
	return nil
}

// errPanicked ends a Range whose fn panicked.
var errPanicked = errors.New("fn panicked")

// tell calls fn. Its panic must not be taken for one of bbolt.
func (r *reader) tell(e Entry) (err error) {
	r.failed = true
	defer func() {
		if r.panics = recover(); r.panics != nil {
			err = errPanicked
		}
	}()
	if err := r.fn(e); err != nil {
		return err
	}
	r.failed = false
	return nil
}

func (r *reader) passOn() {
	if r.panics != nil {
		panic(r.panics)
	}
}

// Commit implements [Store].
func (s *Bolt) Commit(writes []Write) (err error) {
	if s.broken.Load() {
		return ErrBroken
	}
	if err := check(writes); err != nil {
		return err
	}
	next := s.now.clone()
	if next.revision, err = s.after(writes); err != nil {
		return err
	}
	defer s.recoverFault(&err)()
	tx, err := s.db.Begin(true)
	if err != nil {
		return fmt.Errorf("%s: %w (%v)", s.path, ErrClosed, err)
	}
	if err := apply(tx, next, writes); err != nil {
		return errors.Join(s.refuse(err), tx.Rollback())
	}
	id := tx.ID()
	s.countSyncs(tx.Size())
	if err := s.judge(s.commit(tx), id); err != nil {
		return err
	}
	s.now = next
	s.publish(next.revision, writes)
	return nil
}

// Syncs is how often the file was synced by commits: twice by each, for the data and for the page that makes it valid, and
// once more where the file had to grow.
func (s *Bolt) Syncs() uint64 { return s.syncs.Load() }

// countSyncs is called at the beginning of a commit: that the file has grown is seen by the next one.
func (s *Bolt) countSyncs(size int64) {
	if s.size != 0 && size != s.size {
		s.syncs.Add(1)
	}
	s.size = size
	s.syncs.Add(2)
}

// refuse ends a commit that was not begun at the disk.
func (s *Bolt) refuse(err error) error {
	if errors.Is(err, ErrCorrupt) {
		return damaged(s.path, err)
	}
	return err
}

// apply makes the writes and counts them in the state. They go in the order of their keys, which costs bbolt a tenth of
// a random order.
func apply(tx *bbolt.Tx, next *state, writes []Write) error {
	sorted := slices.Clone(writes)
	slices.SortStableFunc(sorted, byKey)
	for len(sorted) > 0 {
		name := familyOf(sorted[0].Key)
		n := slices.IndexFunc(sorted, func(w Write) bool { return familyOf(w.Key) != name })
		if n < 0 {
			n = len(sorted)
		}
		if err := applyFamily(tx, next, name, sorted[:n]); err != nil {
			return err
		}
		sorted = sorted[n:]
	}
	return tx.Bucket([]byte(metaBucket)).Put([]byte(stateKey), next.record())
}

// applyFamily makes the writes of one family. Pages are filled to the brim where all new keys come after the last one,
// as there will be no other between them.
func applyFamily(tx *bbolt.Tx, next *state, name string, writes []Write) error {
	if _, there := next.families[name]; !there && len(next.families) >= maxFamilies {
		return errFamilies(writes[0].Key)
	}
	b, err := tx.CreateBucketIfNotExists([]byte(name))
	if err != nil {
		return err
	}
	last, _ := b.Cursor().Last()
	last = slices.Clone(last)
	count := next.families[name]
	b.FillPercent = 1
	for i, w := range writes {
		if i+1 < len(writes) && writes[i+1].Key == w.Key {
			continue // a later write of the same key wins
		}
		fresh, err := applyOne(b, name, w, &count)
		if err != nil {
			return fmt.Errorf("key %q: %w", w.Key, err)
		}
		if fresh && w.Key < string(last) {
			b.FillPercent = bbolt.DefaultFillPercent
		}
	}
	next.families[name] = count
	return nil
}

// applyOne makes one write, and reports whether its key is new.
func applyOne(b *bbolt.Bucket, name string, w Write, count *total) (fresh bool, err error) {
	key := []byte(w.Key)
	old := b.Get(key)
	if old != nil {
		if len(old) < recordHeader {
			return false, fmt.Errorf("%w (a record of %d bytes)", ErrCorrupt, len(old))
		}
		count.remove(old)
	}
	if w.Value == nil {
		return false, b.Delete(key)
	}
	record := seal(name, w.Key, w.Revision, w.Value)
	count.add(record)
	return old == nil, b.Put(key, record)
}

// judge tells a full disk, after which bbolt has rolled back, from a failure that leaves the outcome open: also a full
// disk does where the new meta page can be seen all the same.
func (s *Bolt) judge(err error, id int) error {
	switch {
	case err == nil:
		return nil
	case isFull(err) && s.lastCommit() < id:
		return fmt.Errorf("%s: %w, the server goes on by itself (%v)", s.path, ErrFull, err)
	}
	s.broken.Store(true)
	return fmt.Errorf("%s: %w (%v)", s.path, ErrBroken, err)
}

// lastCommit gives the number of the transaction that readers see.
func (s *Bolt) lastCommit() (id int) {
	if err := s.db.View(func(tx *bbolt.Tx) error { id = tx.ID(); return nil }); err != nil {
		return 1<<63 - 1
	}
	return id
}

// Close implements [Store]. After bbolt has panicked there is nothing left to close: the end of the process
// frees the file.
func (s *Bolt) Close() error {
	s.feed.close()
	if s.stuck.Load() {
		return nil
	}
	return s.db.Close()
}
