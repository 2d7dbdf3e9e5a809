package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"strings"
)

// The file has a bucket for every family of keys, and one for what the store knows about itself. A family is what
// precedes the first slash of a key, so that keys which only grow fill the leaves of a bucket of their own.
const (
	metaBucket = "meta"
	bareBucket = "bare" // of keys without a slash; all others end with one
	stateKey   = "state"
	layout     = 2
)

// firstBucket is what the only bucket of the first layout was called, which had no checksums.
const firstBucket = "data"

// familyOf gives the bucket of a key.
func familyOf(key string) string {
	if i := strings.IndexByte(key, '/'); i >= 0 {
		return key[:i+1]
	}
	return bareBucket
}

// A record is what is stored of an entry: a CRC-32C over bucket, key and the rest, the revision, the value.
const recordHeader = 4 + 8

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func seal(bucket, key string, revision uint64, value []byte) []byte {
	b := make([]byte, 4, recordHeader+len(value))
	b = append(binary.BigEndian.AppendUint64(b, revision), value...)
	binary.BigEndian.PutUint32(b, checksum(bucket, []byte(key), b))
	return b
}

// checksum skips the place of the checksum.
func checksum(bucket string, key, record []byte) uint32 {
	sum := crc32.Checksum([]byte(bucket), castagnoli)
	sum = crc32.Update(sum, castagnoli, key)
	return crc32.Update(sum, castagnoli, record[4:])
}

// verify checks a record of a bucket.
func verify(bucket string, key, record []byte) error {
	if len(record) < recordHeader {
		return fmt.Errorf("key %q: %d bytes: want at least %d", key, len(record), recordHeader)
	}
	if got, want := checksum(bucket, key, record), binary.BigEndian.Uint32(record); got != want {
		return fmt.Errorf("key %q: its checksum is %08x, want %08x", key, got, want)
	}
	return nil
}

func revisionOf(record []byte) uint64 { return binary.BigEndian.Uint64(record[4:]) }

// total is how many entries a family has, and a sum over their checksums in no order. A checksum says that an entry is
// what was once written; the total says that it is the last that was written, and that none is missing.
type total struct{ count, sum uint64 }

func (t *total) add(record []byte)    { t.count++; t.sum += spread(record) }
func (t *total) remove(record []byte) { t.count--; t.sum -= spread(record) }

// spread makes 64 bits of a checksum that add up well: the finalizer of SplitMix64.
func spread(record []byte) uint64 {
	x := uint64(binary.BigEndian.Uint32(record))
	x = (x + 0x9E3779B97F4A7C15) * 0xBF58476D1CE4E5B9
	x = (x ^ x>>27) * 0x94D049BB133111EB
	return x ^ x>>31
}

// state is what a store knows about itself. It is written anew in each transaction, in a page that is written anyway.
type state struct {
	epoch    uint64
	revision uint64
	families map[string]total
}

func newState(epoch uint64) *state { return &state{epoch: epoch, families: make(map[string]total)} }

func (s *state) clone() *state {
	next := *s
	next.families = maps.Clone(s.families)
	return &next
}

// names gives the families in the order of their keys, without that of the keys without a slash.
func (s *state) names() []string {
	names := slices.Sorted(maps.Keys(s.families))
	return slices.DeleteFunc(names, func(name string) bool { return name == bareBucket })
}

// record gives the state as it is stored: the layout and the epoch, then each family by its length and name with its
// total.
func (s *state) record() []byte {
	b := binary.BigEndian.AppendUint32(nil, layout)
	b = binary.BigEndian.AppendUint64(b, s.epoch)
	for _, name := range slices.Sorted(maps.Keys(s.families)) {
		b = append(append(b, byte(len(name))), name...)
		b = binary.BigEndian.AppendUint64(b, s.families[name].count)
		b = binary.BigEndian.AppendUint64(b, s.families[name].sum)
	}
	return seal(metaBucket, stateKey, s.revision, b)
}

var errState = errors.New("what the store says about itself cannot be read")

// parseState reads a verified record.
func parseState(record []byte) (*state, error) {
	b := record[recordHeader:]
	if len(b) < 12 {
		return nil, errState
	}
	if got := binary.BigEndian.Uint32(b); got != layout {
		return nil, fmt.Errorf("layout %d: %w", got, ErrLayout)
	}
	s := newState(binary.BigEndian.Uint64(b[4:]))
	s.revision = revisionOf(record)
	for b = b[12:]; len(b) > 0; {
		n := 1 + int(b[0])
		if len(b) < n+16 {
			return nil, errState
		}
		s.families[string(b[1:n])] = total{binary.BigEndian.Uint64(b[n:]), binary.BigEndian.Uint64(b[n+8:])}
		b = b[n+16:]
	}
	if s.epoch == 0 {
		return nil, errState
	}
	return s, nil
}

// differ compares what was counted with what the state says.
func (s *state) differ(counted map[string]total) error {
	for name, want := range s.families {
		if got := counted[name]; got != want {
			return fmt.Errorf("bucket %q: %d entries with the sum %x: want %d with %x", name, got.count, got.sum, want.count, want.sum)
		}
	}
	for name := range counted {
		if _, ok := s.families[name]; !ok {
			return fmt.Errorf("bucket %q: the store does not know it", name)
		}
	}
	return nil
}
