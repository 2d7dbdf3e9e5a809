package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"testing"
)

// BenchmarkCommitter puts from 64 goroutines, one key each at a time, as registrations come.
func BenchmarkCommitter(b *testing.B) {
	st, err := Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	c := NewCommitter(st, nil)
	value := make([]byte, 200)
	n := uint64(0) // operations run one at a time
	op := func(b *Batch) error {
		n++
		b.At(n)
		b.Put("i/"+string(binary.BigEndian.AppendUint64(nil, n)), value)
		return nil
	}
	b.SetParallelism(32) // times 2 cores
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := c.Do(context.Background(), op); err != nil {
				b.Error(err)
			}
		}
	})
	b.StopTimer()
	c.Close()
	b.ReportMetric(float64(st.lastCommit())/float64(b.N), "commits/op")
	if err := st.Close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkOpen opens a store of 100,000 entries of 200 bytes and reads all.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	st, err := Open(dir)
	if err != nil {
		b.Fatal(err)
	}
	for i := range 100 {
		var writes []Write
		for j := range 1000 {
			writes = append(writes, Write{fmt.Sprintf("i/%08d", 1000*i+j), make([]byte, 200), uint64(1 + i)})
		}
		if err := st.Commit(writes); err != nil {
			b.Fatal(err)
		}
	}
	if err := st.Close(); err != nil {
		b.Fatal(err)
	}
	info, err := os.Stat(st.path)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { b.ReportMetric(float64(info.Size()), "file-bytes") }()
	for b.Loop() {
		dropCache(b, st.path)
		st, err := Open(dir)
		if err != nil {
			b.Fatal(err)
		}
		n := 0
		if err := st.Range("", func(Entry) error { n++; return nil }); err != nil || n != 100_000 {
			b.Fatal(n, err)
		}
		if err := st.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// dropCache makes the page cache forget a file, where COLD is set.
func dropCache(b *testing.B, path string) {
	b.Helper()
	if os.Getenv("COLD") == "" {
		return
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	if err := forget(f); err != nil {
		b.Fatal(err)
	}
}
