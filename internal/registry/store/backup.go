package store

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
)

// A backup is a stream of big-endian numbers and bytes:
//
//	"WEFTBKUP", format (4 bytes), epoch (8)
//	per entry, by ascending key: length of the key (2), length of the value (4), revision (8), key, value,
//	  CRC-32C of all of these (4)
//	0 (2), number of entries (8), revision of the store (8), SHA-256 of everything before
//
// It depends on what is stored alone, so equal stores have equal backups.
const (
	backupMagic   = "WEFTBKUP"
	backupFormat  = 1
	backupTrailer = 2 + 8 + 8
	maxBackup     = 1 << 30 // bytes
)

// Info describes a backup.
type Info struct {
	Epoch    uint64 // of the store that was backed up
	Revision uint64
	Entries  int
	Bytes    int64
	SHA256   [sha256.Size]byte

	Lost error // of a restore: why what was to be kept of the replaced store could not be read; nil: it was
}

// Backup writes all of a store as of one moment, while it is in use. A slow w makes the store's file grow meanwhile, as
// the pages that it still reads are not used again.
func Backup(st Store, w io.Writer) error {
	b := &backupWriter{out: bufio.NewWriterSize(w, 64<<10), sum: sha256.New(), revision: st.Revision()}
	b.write(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32([]byte(backupMagic), backupFormat), st.Epoch()))
	if err := st.Range("", b.entry); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	b.trailer()
	if err := b.out.Flush(); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	return nil
}

// backupWriter's output keeps its first error.
type backupWriter struct {
	out      *bufio.Writer
	sum      hash.Hash
	entries  uint64
	revision uint64
	bytes    int64
	buffer   []byte
}

func (b *backupWriter) write(p []byte) {
	b.sum.Write(p)
	b.bytes += int64(len(p))
	_, _ = b.out.Write(p) // Flush tells
}

func (b *backupWriter) entry(e Entry) error {
	b.buffer = appendEntry(b.buffer[:0], e)
	b.write(b.buffer)
	b.entries++
	b.revision = max(b.revision, e.Revision)
	if b.bytes > maxBackup-backupTrailer-sha256.Size {
		return fmt.Errorf("more than %d bytes", maxBackup)
	}
	_, err := b.out.Write(nil) // of an earlier write
	return err
}

func appendEntry(p []byte, e Entry) []byte {
	from := len(p)
	p = binary.BigEndian.AppendUint16(p, uint16(len(e.Key)))
	p = binary.BigEndian.AppendUint32(p, uint32(len(e.Value)))
	p = binary.BigEndian.AppendUint64(p, e.Revision)
	p = append(append(p, e.Key...), e.Value...)
	return binary.BigEndian.AppendUint32(p, crc32.Checksum(p[from:], castagnoli))
}

func (b *backupWriter) trailer() {
	p := binary.BigEndian.AppendUint64(make([]byte, 2), b.entries)
	b.write(binary.BigEndian.AppendUint64(p, b.revision))
	b.write(b.sum.Sum(nil))
}

// CheckBackup reads a backup to its end. Its error wraps [ErrBackup] unless r itself fails.
func CheckBackup(r io.Reader) (Info, error) {
	return newBackupReader(r).run(func(Entry) error { return nil })
}

func newBackupReader(r io.Reader) *backupReader {
	return &backupReader{in: bufio.NewReaderSize(r, 64<<10), max: maxBackup, sum: sha256.New(), families: make(map[string]bool)}
}

// run calls fn for every entry, long before it is known whether the backup is whole. An entry's value is valid during
// the call only.
func (b *backupReader) run(fn func(Entry) error) (Info, error) {
	if err := b.header(); err != nil {
		return Info{}, err
	}
	for {
		e, err := b.entry()
		if err != nil {
			return Info{}, err
		}
		if e.Key == "" {
			break
		}
		if err := fn(e); err != nil {
			return Info{}, err
		}
	}
	if err := b.trailer(); err != nil {
		return Info{}, err
	}
	return b.info, nil
}

type backupReader struct {
	in       *bufio.Reader
	max      int64 // bytes
	sum      hash.Hash
	info     Info
	last     string // key
	newest   uint64 // revision of an entry
	families map[string]bool
	buffer   []byte
}

func (b *backupReader) bad(format string, args ...any) error {
	return fmt.Errorf("%w: entry %d: %s", ErrBackup, b.info.Entries, fmt.Sprintf(format, args...))
}

// read fills p, and adds it to the sum.
func (b *backupReader) read(p []byte) error {
	n, err := io.ReadFull(b.in, p)
	b.info.Bytes += int64(n)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return b.bad("it ends after %d bytes: it was cut off", b.info.Bytes)
	case err != nil:
		return err
	case b.info.Bytes > b.max:
		return b.bad("more than %d bytes", b.max)
	}
	b.sum.Write(p)
	return nil
}

func (b *backupReader) header() error {
	p := make([]byte, len(backupMagic)+4+8)
	if err := b.read(p); err != nil {
		return err
	}
	if !bytes.HasPrefix(p, []byte(backupMagic)) {
		return b.bad("it does not begin with %q", backupMagic)
	}
	p = p[len(backupMagic):]
	if format := binary.BigEndian.Uint32(p); format != backupFormat {
		return b.bad("format %d: want %d", format, backupFormat)
	}
	if b.info.Epoch = binary.BigEndian.Uint64(p[4:]); b.info.Epoch == 0 {
		return b.bad("the epoch is 0")
	}
	return nil
}

// entry reads one; that without a key is the last.
func (b *backupReader) entry() (Entry, error) {
	var head [2 + 4 + 8]byte
	if err := b.read(head[:2]); err != nil {
		return Entry{}, err
	}
	keySize := int(binary.BigEndian.Uint16(head[:]))
	if keySize == 0 {
		return Entry{}, nil
	}
	if err := b.read(head[2:]); err != nil {
		return Entry{}, err
	}
	valueSize := int64(binary.BigEndian.Uint32(head[2:]))
	if keySize > maxKey || valueSize > maxValue {
		return Entry{}, b.bad("a key of %d and a value of %d bytes: want at most %d and %d", keySize, valueSize, maxKey, maxValue)
	}
	b.buffer = append(b.buffer[:0], head[:]...)
	b.buffer = append(b.buffer, make([]byte, keySize+int(valueSize)+4)...)
	if err := b.read(b.buffer[len(head):]); err != nil {
		return Entry{}, err
	}
	body, crc := b.buffer[:len(b.buffer)-4], b.buffer[len(b.buffer)-4:]
	if got := crc32.Checksum(body, castagnoli); got != binary.BigEndian.Uint32(crc) {
		return Entry{}, b.bad("its checksum is %08x, want %x", got, crc)
	}
	body = body[len(head):]
	e := Entry{Key: string(body[:keySize]), Value: body[keySize:], Revision: binary.BigEndian.Uint64(head[6:])}
	return e, b.accept(e)
}

// accept checks what a sender with malice could have given a checksum.
func (b *backupReader) accept(e Entry) error {
	if err := checkWrite(Write(e)); err != nil {
		return b.bad("%v", err)
	}
	if b.info.Entries > 0 && e.Key <= b.last {
		return b.bad("key %q after %q: want them ascending", e.Key, b.last)
	}
	if b.families[familyOf(e.Key)] = true; len(b.families) > maxFamilies {
		return b.bad("key %q: a family more than %d", e.Key, maxFamilies)
	}
	b.last = e.Key
	b.newest = max(b.newest, e.Revision)
	b.info.Entries++
	return nil
}

// trailer reads what follows the last entry.
func (b *backupReader) trailer() error {
	var p [16]byte
	if err := b.read(p[:]); err != nil {
		return err
	}
	b.sum.Sum(b.info.SHA256[:0])
	var sum [sha256.Size]byte
	if err := b.read(sum[:]); err != nil {
		return err
	}
	b.info.Revision = binary.BigEndian.Uint64(p[8:])
	switch count := binary.BigEndian.Uint64(p[:]); {
	case sum != b.info.SHA256:
		return b.bad("its SHA-256 is %x, want %x", b.info.SHA256, sum)
	case count != uint64(b.info.Entries):
		return b.bad("it has %d entries, want %d", b.info.Entries, count)
	case b.info.Revision < b.newest:
		return b.bad("revision %d, but an entry has %d", b.info.Revision, b.newest)
	}
	if _, err := b.in.ReadByte(); err == nil {
		return b.bad("more follows its end")
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}
