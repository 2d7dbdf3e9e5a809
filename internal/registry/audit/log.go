package audit

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/weftmesh/weft/internal/registry/store"
)

const (
	prefix     = "a/"
	maxEntries = 100_000
	maxList    = 1000
	prunedOnce = 16 // entries that one Append removes at most; more than one only if the bound was once higher
)

// Log is the audit log of a store. It is made by [Open].
type Log struct {
	st  store.Store
	max uint64 // entries that are kept

	// first and last are the numbers of the oldest and the newest entry, including those of the transaction under way;
	// first is last+1 if there is none. Only Append changes them.
	first, last atomic.Uint64
}

// Open goes on with the log of a store.
func Open(st store.Store) (*Log, error) {
	l := &Log{st: st, max: maxEntries}
	l.first.Store(1)
	err := st.Range(prefix, func(e store.Entry) error {
		number, err := parseKey(e.Key)
		if err != nil {
			return err
		}
		if l.last.Load() == 0 {
			l.first.Store(number)
		}
		l.last.Store(number)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	return l, nil
}

// keyOf gives the key of an entry: keys sort like numbers.
func keyOf(number uint64) string { return fmt.Sprintf("%s%016x", prefix, number) }

func parseKey(key string) (uint64, error) {
	number, err := strconv.ParseUint(strings.TrimPrefix(key, prefix), 16, 64)
	if err != nil || number == 0 || keyOf(number) != key {
		return 0, fmt.Errorf("key %q is not a number in 16 hexadecimal digits above 0: %w", key, store.ErrCorrupt)
	}
	return number, nil
}

// Append adds an entry to an operation, which gives it its number; it is called by one operation at a time. Fields that
// are too long are cut, and the oldest entry goes in the same operation once there are 100,000. An entry without a time
// gets the present one.
func (l *Log) Append(b *store.Batch, e Entry) {
	first, last := l.first.Load(), l.last.Load()
	b.Undo(func() { l.first.Store(first); l.last.Store(last) })
	e.Number = last + 1
	b.Put(keyOf(e.Number), encode(e))
	l.last.Store(e.Number)
	for oldest := first; e.Number-oldest >= l.max && oldest < first+prunedOnce; oldest++ {
		b.Delete(keyOf(oldest))
		l.first.Store(oldest + 1)
	}
}

// The bounds of the fields, in bytes.
const (
	maxWho    = 128
	maxWord   = 64 // of From, Action, Kind, Namespace, Revision
	maxTarget = 512
	maxDetail = 1024
)

func encode(e Entry) []byte {
	if e.At.IsZero() {
		e.At = time.Now()
	}
	e.At = e.At.UTC().Truncate(time.Millisecond)
	if y := e.At.Year(); y < 1 || y > 9999 {
		e.At = time.Time{} // JSON has no such year
	}
	e.Who, e.From = clip(e.Who, maxWho), clip(e.From, maxWord)
	e.Action, e.Kind = clip(e.Action, maxWord), clip(e.Kind, maxWord)
	e.Namespace, e.Revision = clip(e.Namespace, maxWord), clip(e.Revision, maxWord)
	e.Target, e.Detail = clip(e.Target, maxTarget), clip(e.Detail, maxDetail)
	value, err := json.Marshal(e)
	if err != nil {
		panic(fmt.Sprintf("audit: %+v: %v", e, err)) // text, a number and a time that has a form
	}
	return value
}

// clip cuts text after a whole character.
func clip(s string, limit int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

// List gives entries that are on disk, the newest first.
func (l *Log) List(f Filter) (found []Entry, err error) {
	if f.Limit <= 0 || f.Limit > maxList {
		f.Limit = maxList
	}
	first, end := l.first.Load(), l.last.Load()+1
	if f.Before > 0 {
		end = min(end, f.Before)
	}
	for first < end && len(found) < f.Limit {
		block := (end - 1) &^ 0xFF // 256 numbers that share all but two digits of their keys
		entries, err := l.block(block, end, f)
		if err != nil {
			return nil, fmt.Errorf("audit log: %w", err)
		}
		found = append(found, entries...)
		end = block
	}
	return found[:min(len(found), f.Limit)], nil
}

// block gives the entries of a block below a number, the newest first.
func (l *Log) block(block, end uint64, f Filter) (found []Entry, err error) {
	err = l.st.Range(keyOf(block)[:len(prefix)+14], func(s store.Entry) error {
		number, err := parseKey(s.Key)
		if err != nil || number >= end {
			return err
		}
		e := Entry{}
		if err := json.Unmarshal(s.Value, &e); err != nil {
			return fmt.Errorf("key %q cannot be read: %w (%w)", s.Key, store.ErrCorrupt, err)
		}
		if e.Number = number; f.match(e) {
			found = append(found, e)
		}
		return nil
	})
	slices.Reverse(found)
	return found, err
}
