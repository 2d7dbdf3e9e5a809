//go:build unix

package main

import (
	"os"
	"sync"
	"syscall"
	"testing"
)

// lock holds a file as a server holds its store.
func lock(t *testing.T, path string) (unlock func()) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		t.Fatal(err)
	}
	unlock = sync.OnceFunc(func() { f.Close() })
	t.Cleanup(unlock)
	return unlock
}
