//go:build unix

package credential

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// nonBlock lets a pipe be opened, and then refused, without its writer.
const nonBlock = syscall.O_NONBLOCK

func checkOwner(info fs.FileInfo) error {
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return fmt.Errorf("mode %04o lets others in; run chmod 600 on it, and replace the secret if somebody else may have read it", perm)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Getuid() {
		return fmt.Errorf("belongs to user %d, not to user %d who reads it", st.Uid, os.Getuid())
	}
	return nil
}
