//go:build race

package session

// raced says that the race detector is on, which costs memory of its own.
const raced = true
