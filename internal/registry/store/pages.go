package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
	"os"
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
	size     uint64          // of the file, in pages
	high     uint64          // pages from here on are not in use
	seen     map[uint64]bool // each page may be reached once, which also ends every walk
}

// span is the range of keys that a page may hold: from ≤ key < to; nil is open.
type span struct{ from, to []byte }

// checkFile walks every page of the tree that bbolt would use.
func checkFile(path string, pageSize int) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := io.Copy(io.Discard, f) // one sequential read brings the file into the page cache
	if err != nil {
		return err
	}
	return checkPages(f, n, pageSize)
}

// checkPages checks a file of the length given. Its errors wrap ErrCorrupt.
func checkPages(file io.ReaderAt, length int64, pageSize int) error {
	if pageSize < 1024 || pageSize > 1<<24 || length < int64(2*pageSize) {
		return fmt.Errorf("%w (%d bytes with pages of %d)", ErrCorrupt, length, pageSize)
	}
	p := &pages{file: file, pageSize: uint64(pageSize), size: uint64(length) / uint64(pageSize), seen: make(map[uint64]bool)}
	if err := p.check(); err != nil {
		return fmt.Errorf("%w (%w)", ErrCorrupt, err)
	}
	return nil
}

func (p *pages) check() error {
	m, err := p.newestMeta()
	if err != nil {
		return err
	}
	root, freelist := u64(m[16:]), u64(m[32:])
	if p.high = u64(m[40:]); p.high > p.size {
		return fmt.Errorf("%d pages, want %d: it was cut off", p.size, p.high)
	}
	if freelist != noFreelist {
		if err := p.checkFreelist(freelist); err != nil {
			return err
		}
	}
	return p.walk(root, span{}, true)
}

// newestMeta gives the valid meta page with the highest transaction, as bbolt chooses it.
func (p *pages) newestMeta() (newest []byte, err error) {
	for id := range uint64(2) {
		b := make([]byte, headerSize+metaSize)
		if _, err := p.file.ReadAt(b, int64(id*p.pageSize)); err != nil {
			return nil, err
		}
		m := b[headerSize:]
		sum := fnv.New64a()
		sum.Write(m[:56])
		valid := u32(m) == boltMagic && u32(m[4:]) == boltVersion && u64(m[56:]) == sum.Sum64()
		if valid && (newest == nil || u64(m[48:]) > u64(newest[48:])) {
			newest = m
		}
	}
	if newest == nil {
		return nil, fmt.Errorf("both meta pages are invalid")
	}
	return newest, nil
}

// read gives a page with its overflow and its type. It is reached for the first time.
func (p *pages) read(id uint64) (page []byte, flags uint16, err error) {
	if id < 2 || id >= p.high {
		return nil, 0, fmt.Errorf("page %d: want 2 to %d", id, p.high-1)
	}
	header := make([]byte, headerSize)
	if _, err := p.file.ReadAt(header, int64(id*p.pageSize)); err != nil {
		return nil, 0, err
	}
	more := uint64(u32(header[12:]))
	if u64(header) != id || id+more >= p.high {
		return nil, 0, fmt.Errorf("page %d says it is %d and %d more", id, u64(header), more)
	}
	for i := id; i <= id+more; i++ {
		if p.seen[i] {
			return nil, 0, fmt.Errorf("page %d is used twice", i)
		}
		p.seen[i] = true
	}
	page = make([]byte, (1+more)*p.pageSize)
	_, err = p.file.ReadAt(page, int64(id*p.pageSize))
	return page, u16(header[8:]), err
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

// walk checks a page of a bucket and all below it. The root bucket holds buckets only, those hold none.
func (p *pages) walk(id uint64, within span, root bool) error {
	page, flags, err := p.read(id)
	if err != nil {
		return err
	}
	switch flags {
	case branchPage:
		err = p.walkBranch(page, within, root)
	case leafPage:
		err = p.walkLeaf(page, within, root)
	default:
		err = fmt.Errorf("unknown type %#x", flags)
	}
	if err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	return nil
}

func (p *pages) walkBranch(page []byte, within span, root bool) error {
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
		if err := p.walk(u64(page[headerSize+elementSize*i+8:]), below, root); err != nil {
			return err
		}
	}
	return nil
}

func (p *pages) walkLeaf(page []byte, within span, root bool) error {
	keys := make([][]byte, u16(page[10:]))
	for i := range keys {
		key, value, err := element(page, i, 4, 8, 12)
		if err != nil {
			return err
		}
		keys[i] = key
		kind, want := u32(page[headerSize+elementSize*i:]), uint32(0)
		if root {
			want = bucketElement
		}
		if kind != want {
			return fmt.Errorf("key %q is of the kind %d, want %d", key, kind, want)
		}
		if root {
			if err := p.walkBucket(value); err != nil {
				return fmt.Errorf("bucket %q: %w", key, err)
			}
		}
	}
	return ordered(keys, within)
}

// walkBucket checks a bucket, which has a page of its own or lies inline in its parent's.
func (p *pages) walkBucket(value []byte) error {
	if len(value) < 16 {
		return fmt.Errorf("%d bytes, want at least 16", len(value))
	}
	if root := u64(value); root != 0 {
		return p.walk(root, span{}, false)
	}
	inline := value[16:]
	if len(inline) < headerSize || u16(inline[8:]) != leafPage {
		return fmt.Errorf("an inline page that is no leaf")
	}
	return p.walkLeaf(inline, span{}, false)
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
