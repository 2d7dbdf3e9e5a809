package lease

import (
	"syscall"
	"time"
	"unsafe"
)

// asleep gives for how long the machine has been suspended since it started: the boot clock counts that, the
// monotonic one does not. Their difference is the same but for the nanoseconds between two system calls.
func asleep() time.Duration {
	const monotonic, boot = 1, 7
	return read(boot) - read(monotonic)
}

func read(clock uintptr) time.Duration {
	var ts syscall.Timespec
	_, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clock, uintptr(unsafe.Pointer(&ts)), 0) //nolint:gosec // package syscall has no name for it
	if errno != 0 {
		return 0
	}
	return time.Duration(ts.Nano())
}
