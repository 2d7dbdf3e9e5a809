//go:build !linux && !darwin

package doctor

func freeSpace(string) (free, total uint64, ok bool) { return 0, 0, false }

func maxFiles() (uint64, bool) { return 0, false }
