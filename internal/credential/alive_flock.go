//go:build unix && !solaris && !aix

package credential

import (
	"errors"
	"os"
	"syscall"
)

// isLocked reports whether another open file holds the lock of a file for itself. The try takes a shared lock for
// a moment; a server that starts in it tries again.
func isLocked(path string) (bool, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|nonBlock, 0)
	if err != nil {
		return false, err
	}
	defer f.Close() // which unlocks too
	for {
		switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); {
		case err == nil:
			return false, nil
		case errors.Is(err, syscall.EWOULDBLOCK):
			return true, nil
		case !errors.Is(err, syscall.EINTR):
			return false, &os.PathError{Op: "flock", Path: path, Err: err}
		}
	}
}
