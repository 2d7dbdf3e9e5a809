package store

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"slices"
	"strings"
)

// The format of a bbolt file, version 2: pages of a fixed size, each with a header of 16 bytes, then the table
// of its elements, 16 bytes each, then their keys and values. Numbers are in the machine's byte order.
const (
	headerSize  = 16
	elementSize = 16
	metaSize    = 64

	boltMagic   = 0xED0CDAED
	boltVersion = 2

	branchPage   = 0x01
	leafPage     = 0x02
	freelistPage = 0x10

	bucketElement = 0x01
	noFreelist    = ^uint64(0)
)

// pages reads and checks the pages of one file.
type pages struct {
	file     io.ReaderAt
	pageSize uint64
	size     uint64 // of the file, in pages
	high     uint64 // pages from here on are not in use
	root     uint64
	freelist uint64
	txid     uint64
	seen     map[uint64]bool // each page may be reached once, which also ends every walk
	trust    bool            // do not verify what the records say: for controls in tests
	state    *state
	counted  map[string]total // of each bucket but the store's own
}

// span is the range of keys that a page may hold: from ≤ key < to; nil is open.
type span struct{ from, to []byte }

// checkFile walks every page of the tree that bbolt would use, and verifies every record.
func checkFile(path string, pageSize int, trust bool) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	p, err := newPages(f, info.Size(), pageSize, trust)
	if err != nil {
		return err
	}
	// One sequential read of what is in use brings it into the page cache.
	if _, err := io.CopyN(io.Discard, f, int64(p.high*p.pageSize)); err != nil {
		return err
	}
	return p.check()
}

// newPages reads the meta pages of a file of the length given. Its errors wrap ErrCorrupt.
func newPages(file io.ReaderAt, length int64, pageSize int, trust bool) (*pages, error) {
	if pageSize < 1024 || pageSize > 1<<24 || length < int64(2*pageSize) {
		return nil, fmt.Errorf("%w (%d bytes with pages of %d)", ErrCorrupt, length, pageSize)
	}
	p := &pages{
		file: file, pageSize: uint64(pageSize), size: uint64(length) / uint64(pageSize), trust: trust,
		seen: make(map[uint64]bool), counted: make(map[string]total),
	}
	if err := p.readMeta(); err != nil {
		return nil, fmt.Errorf("%w (%w)", ErrCorrupt, err)
	}
	return p, nil
}

// check walks the tree. Its errors wrap ErrCorrupt or ErrLayout.
func (p *pages) check() error {
	err := p.checkTree()
	if err == nil || errors.Is(err, ErrLayout) {
		return err
	}
	return fmt.Errorf("%w (%w)", ErrCorrupt, err)
}

func (p *pages) checkTree() error {
	if p.freelist != noFreelist {
		if err := p.checkFreelist(p.freelist); err != nil {
			return err
		}
	}
	if err := p.walk(p.root, span{}, ""); err != nil {
		return err
	}
	switch {
	case p.state == nil && len(p.counted) == 0 && p.txid <= 1:
		return nil // bbolt has made the file, and the server died before it wrote anything
	case p.state == nil:
		return errors.New("it does not say what it is")
	case p.trust:
		return nil
	}
	return p.state.differ(p.counted)
}

// readMeta reads the newer one of the two meta pages. bbolt would go on with the older one if the newer is damaged,
// which silently takes back the last commit. A crash does not do that to a page, as what it holds lies in one sector of
// the disk: so both have to be valid, and of adjacent transactions.
func (p *pages) readMeta() error {
	var metas [2][]byte
	for id := range uint64(2) {
		b := make([]byte, headerSize+metaSize)
		if _, err := p.file.ReadAt(b, int64(id*p.pageSize)); err != nil {
			return err
		}
		m := b[headerSize:]
		sum := fnv.New64a()
		sum.Write(m[:56])
		if u32(m) != boltMagic || u32(m[4:]) != boltVersion || u64(m[56:]) != sum.Sum64() {
			return fmt.Errorf("meta page %d is invalid", id)
		}
		metas[id] = m
	}
	if a, b := u64(metas[0][48:]), u64(metas[1][48:]); a%2 != 0 || a+1 != b && b+1 != a {
		return fmt.Errorf("meta pages of the transactions %d and %d", a, b)
	}
	m := slices.MaxFunc(metas[:], func(a, b []byte) int { return cmp.Compare(u64(a[48:]), u64(b[48:])) })
	p.root, p.freelist, p.high, p.txid = u64(m[16:]), u64(m[32:]), u64(m[40:]), u64(m[48:])
	if p.high > p.size {
		return fmt.Errorf("%d pages, want %d: it was cut off", p.size, p.high)
	}
	return nil
}

// read gives a page with its overflow and its type. It is reached for the first time.
func (p *pages) read(id uint64) (page []byte, flags uint16, err error) {
	if id < 2 || id >= p.high {
		return nil, 0, fmt.Errorf("page %d: want 2 to %d", id, p.high-1)
	}
	page = make([]byte, p.pageSize)
	if _, err := p.file.ReadAt(page, int64(id*p.pageSize)); err != nil {
		return nil, 0, err
	}
	more := uint64(u32(page[12:]))
	if u64(page) != id || id+more >= p.high {
		return nil, 0, fmt.Errorf("page %d says it is %d and %d more", id, u64(page), more)
	}
	for i := id; i <= id+more; i++ {
		if p.seen[i] {
			return nil, 0, fmt.Errorf("page %d is used twice", i)
		}
		p.seen[i] = true
	}
	if more > 0 {
		page = append(page, make([]byte, more*p.pageSize)...)
		_, err = p.file.ReadAt(page[p.pageSize:], int64((id+1)*p.pageSize))
	}
	return page, u16(page[8:]), err
}

func (p *pages) checkFreelist(id uint64) error {
	page, flags, err := p.read(id)
	if err != nil {
		return err
	}
	count := uint64(u16(page[10:]))
	if flags != freelistPage || count == 0xFFFF || headerSize+8*count > uint64(len(page)) {
		return fmt.Errorf("page %d is not a list of %d free pages", id, count)
	}
	for i := range count {
		if free := u64(page[headerSize+8*i:]); free < 2 || free >= p.high {
			return fmt.Errorf("page %d: free page %d: want 2 to %d", id, free, p.high-1)
		}
	}
	return nil
}

// walk checks a page of a bucket and all below it. The root bucket, which has no name, holds buckets only, and those
// hold none.
func (p *pages) walk(id uint64, within span, bucket string) error {
	page, flags, err := p.read(id)
	if err != nil {
		return err
	}
	switch flags {
	case branchPage:
		err = p.walkBranch(page, within, bucket)
	case leafPage:
		err = p.walkLeaf(page, within, bucket)
	default:
		err = fmt.Errorf("unknown type %#x", flags)
	}
	if err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	return nil
}

func (p *pages) walkBranch(page []byte, within span, bucket string) error {
	count := int(u16(page[10:]))
	keys := make([][]byte, count)
	for i := range count {
		var err error
		if keys[i], _, err = element(page, i, 0, 4, -1); err != nil {
			return err
		}
	}
	if count == 0 {
		return fmt.Errorf("a branch without elements")
	}
	if err := ordered(keys, within); err != nil {
		return err
	}
	for i := range count {
		below := span{keys[i], within.to}
		if i+1 < count {
			below.to = keys[i+1]
		}
		if err := p.walk(u64(page[headerSize+elementSize*i+8:]), below, bucket); err != nil {
			return err
		}
	}
	return nil
}

func (p *pages) walkLeaf(page []byte, within span, bucket string) error {
	keys := make([][]byte, u16(page[10:]))
	for i := range keys {
		key, value, err := element(page, i, 4, 8, 12)
		if err != nil {
			return err
		}
		keys[i] = key
		kind, want := u32(page[headerSize+elementSize*i:]), uint32(0)
		if bucket == "" {
			want = bucketElement
		}
		if kind != want {
			return fmt.Errorf("key %q is of the kind %d, want %d", key, kind, want)
		}
		if bucket == "" {
			err = p.walkBucket(string(key), value)
		} else {
			err = p.record(bucket, key, value)
		}
		if err != nil {
			return fmt.Errorf("bucket %q: %w", cmp.Or(bucket, string(key)), err)
		}
	}
	return ordered(keys, within)
}

// walkBucket checks a bucket, which has a page of its own or lies inline in its parent's.
func (p *pages) walkBucket(name string, value []byte) error {
	switch {
	case name == firstBucket:
		return ErrLayout
	case name != metaBucket && name != bareBucket && !strings.HasSuffix(name, "/"):
		return errors.New("no store of this server has it")
	case len(value) < 16:
		return fmt.Errorf("%d bytes, want at least 16", len(value))
	}
	if name != metaBucket {
		p.counted[name] = total{}
	}
	if root := u64(value); root != 0 {
		return p.walk(root, span{}, name)
	}
	inline := value[16:]
	if len(inline) < headerSize || u16(inline[8:]) != leafPage {
		return fmt.Errorf("an inline page that is no leaf")
	}
	return p.walkLeaf(inline, span{}, name)
}

// record verifies one record, and counts it.
func (p *pages) record(bucket string, key, record []byte) (err error) {
	if len(record) < recordHeader {
		return verify(bucket, key, record)
	}
	if !p.trust {
		err = verify(bucket, key, record)
	}
	switch {
	case err != nil:
		return err
	case bucket != metaBucket && familyOf(string(key)) == bucket:
		count := p.counted[bucket]
		count.add(record)
		p.counted[bucket] = count
		return nil
	case bucket == metaBucket && string(key) == stateKey:
		p.state, err = parseState(record)
		return err
	}
	return fmt.Errorf("key %q does not belong there", key)
}

// element gives key and value of an element whose position, key size and value size stand at the offsets given;
// a negative one means that there is no value.
func element(page []byte, i, pos, keySize, valueSize int) (key, value []byte, err error) {
	at := headerSize + elementSize*i
	if at+elementSize > len(page) {
		return nil, nil, fmt.Errorf("element %d lies outside", i)
	}
	from := uint64(at) + uint64(u32(page[at+pos:]))
	middle := from + uint64(u32(page[at+keySize:]))
	to := middle
	if valueSize >= 0 {
		to += uint64(u32(page[at+valueSize:]))
	}
	if to > uint64(len(page)) {
		return nil, nil, fmt.Errorf("element %d lies outside", i)
	}
	return page[from:middle], page[middle:to], nil
}

// ordered checks that keys ascend and stay in the span.
func ordered(keys [][]byte, within span) error {
	for i, k := range keys {
		if i > 0 && bytes.Compare(keys[i-1], k) >= 0 {
			return fmt.Errorf("key %q is not in order", k)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	if bytes.Compare(keys[0], within.from) < 0 || within.to != nil && bytes.Compare(keys[len(keys)-1], within.to) >= 0 {
		return fmt.Errorf("keys %q to %q are not below the right branch", keys[0], keys[len(keys)-1])
	}
	return nil
}

func u16(b []byte) uint16 { return binary.NativeEndian.Uint16(b) }
func u32(b []byte) uint32 { return binary.NativeEndian.Uint32(b) }
func u64(b []byte) uint64 { return binary.NativeEndian.Uint64(b) }
