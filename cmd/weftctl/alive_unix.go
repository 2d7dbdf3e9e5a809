//go:build unix

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/weftmesh/weft/internal/credential"
)

// alive reports whether the server that wrote the file runs: it holds the lock of its store. One that was killed
// leaves its file behind, and whoever listens on its port then must not be sent its token.
func alive(f credential.File) (bool, error) {
	store, err := os.Open(filepath.Join(f.DataDir, "registry.db"))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("whether the registry server of %s runs cannot be seen: %w", f.DataDir, err)
	}
	defer store.Close() // and gives the lock back
	err = syscall.Flock(int(store.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	return errors.Is(err, syscall.EWOULDBLOCK), nil
}
