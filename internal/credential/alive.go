package credential

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// storeFile is the file in the data directory that a server keeps locked while it lives.
const storeFile = "registry.db"

// Alive reports whether the server that wrote the file still runs. A server that was killed leaves its file behind, and
// whoever listens on its port then could be anybody: nothing secret is sent to it unless this says true.
//
// It tries the lock of the store, which the system frees with the process; where there are no such locks it asks the
// gRPC port for the key of the pin, which takes up to 2 s.
func Alive(f File) (bool, error) {
	path := filepath.Join(f.DataDir, storeFile)
	locked, err := isLocked(path)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return holdsKey(f), nil
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("it cannot be seen whether the server of %s still runs: %w", f.DataDir, err)
	}
	return locked, nil
}
