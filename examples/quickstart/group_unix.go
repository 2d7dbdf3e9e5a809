//go:build unix

package main

import (
	"os"
	"syscall"
)

// ownGroup keeps a terminal's Ctrl-C away from a process: the quickstart ends its processes itself, in order.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// interruptGroup is that Ctrl-C for a process of its own group and for what it has started: killed, it could not end those.
func interruptGroup(p *os.Process) error { return syscall.Kill(-p.Pid, syscall.SIGINT) }
