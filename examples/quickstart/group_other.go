//go:build !unix

package main

import (
	"os"
	"syscall"
)

// ownGroup has no meaning here.
func ownGroup() *syscall.SysProcAttr { return nil }

// interruptGroup asks the process alone.
func interruptGroup(p *os.Process) error { return p.Signal(os.Interrupt) }
