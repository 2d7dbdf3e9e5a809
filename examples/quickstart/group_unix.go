//go:build unix

package main

import "syscall"

// ownGroup keeps a terminal's Ctrl-C away from a process: the quickstart ends its processes itself, in order.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
