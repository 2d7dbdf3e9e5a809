package server

import (
	"fmt"
	"os"
	"runtime"
)

// loose says what is wrong if others than its owner can reach the data directory; nil if nobody can.
func loose(dir string) error {
	info, err := os.Stat(dir)
	if err != nil || runtime.GOOS == "windows" {
		return err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("data directory %s can be accessed by others than its owner (mode %04o); run: chmod 700 %s", dir, mode, dir)
	}
	return nil
}

// warnOfModes does not refuse: what matters most in there has modes of its own, and those are insisted on.
func (s *Server) warnOfModes() {
	if s.config.DataDir == "" {
		return
	}
	if err := loose(s.config.DataDir); err != nil {
		s.log.Warn(err.Error())
	}
}
