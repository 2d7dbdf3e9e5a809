package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
)

// initialMap is the size of the map of the file. Windows makes the file as large as its map, and small machines have
// no room for it.
func initialMap() int {
	if runtime.GOOS == "windows" || strconv.IntSize < 64 {
		return 0
	}
	return mapSize
}

// signs are what a server leaves in its data directory at its first start.
var signs = []string{"admin.token", "workload.token", "server.pem", backupFolder}

// emptyFile judges a file without a byte. bbolt leaves one behind where it dies in its first moment, and a file system
// where it lost what was written: that must not pass for a new start.
func emptyFile(dir string) error {
	for _, name := range signs {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return fmt.Errorf("%w (it is empty, but %s says that it was not)", ErrCorrupt, name)
		}
	}
	return nil
}

// Loose says what is wrong if others than its owner can reach the data directory or the store in it; nil if nobody can,
// or if there is no directory yet. On Windows it cannot tell.
func Loose(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	return errors.Join(loose("data directory", dir, "700"), loose("file", filepath.Join(dir, fileName), "600"))
}

func loose(what, path, want string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("%s %s can be accessed by others than its owner (mode %04o); run: chmod %s %s", what, path, mode, want, word(path))
	}
	return nil
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
