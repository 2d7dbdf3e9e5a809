package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"

	berrors "go.etcd.io/bbolt/errors"
)

// openError makes one line that says what to do.
func openError(path string, err error) error {
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return fmt.Errorf("%s %w", path, ErrInUse)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%s cannot be opened: %w; run the server as the owner of the data directory", path, err)
	case isFull(err):
		return fmt.Errorf("%s cannot be opened: %w and start again (%v)", path, ErrFull, err)
	case errors.Is(err, ErrLayout):
		return fmt.Errorf("%s %w", path, ErrLayout)
	case errors.Is(err, ErrCorrupt):
		return damaged(path, err)
	case isDamage(err):
		return damaged(path, fmt.Errorf("%w (%v)", ErrCorrupt, err))
	}
	return fmt.Errorf("%s cannot be opened: %w", path, err)
}

// isDamage reports whether bbolt found the file unreadable; one of its errors has no name.
func isDamage(err error) bool {
	return errors.Is(err, berrors.ErrInvalid) || errors.Is(err, berrors.ErrChecksum) ||
		errors.Is(err, berrors.ErrVersionMismatch) || strings.Contains(err.Error(), "file size too small")
}

// damaged says what to do about a damaged file. The error given wraps ErrCorrupt, and so does the one returned.
func damaged(path string, err error) error {
	dir := filepath.Dir(path)
	if backup := newestGood(dir); backup != "" {
		return fmt.Errorf("%s %w; restore the newest good backup with: registry-server restore --data-dir %s --from %s",
			path, err, word(dir), word(backup))
	}
	return fmt.Errorf("%s %w; restore it from a backup, or move it away to start empty", path, err)
}

// word quotes a path for a shell where it needs that.
func word(path string) string {
	if strings.ContainsAny(path, " \t\n'\"\\$&;()<>|*?[]#~`") {
		return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
	}
	return path
}

// noSpace are the ways in which a file system says that it is full: the disk, the owner's quota, the process's limit.
var noSpace = []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG}

// isFull reports whether a write or the growing of the file found no space. A sync that found none is a bare
// errno, and no such case: what was written before it may be lost or not. bbolt flattens the error of growing
// to text.
func isFull(err error) bool {
	path, ok := errors.AsType[*os.PathError](err)
	grow := strings.HasPrefix(err.Error(), "file resize error")
	for _, errno := range noSpace {
		if ok && path.Op != "sync" && errors.Is(path, errno) || grow && strings.Contains(err.Error(), errno.Error()) {
			return true
		}
	}
	return false
}

// recoverFault turns a panic of bbolt, and a fault in its memory map, into ErrCorrupt: the file can still be
// damaged while it is open. Used as: defer s.recoverFault(&err)().
func (s *Bolt) recoverFault(err *error) func() {
	old := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(old)
		if p := recover(); p != nil {
			s.broken.Store(true)
			s.stuck.Store(true)
			*err = damaged(s.path, fmt.Errorf("%w (%v)", ErrCorrupt, p))
		}
	}
}
