package engine

import (
	"errors"
	"time"
)

// Reason says why Weft ended a call.
type Reason string

// The reasons of this engine. All but AttemptsFailed and Timeout are local refusals: nothing was sent.
const (
	NoInstance       Reason = "NoInstance"       // there is no instance that could be called
	DeadlineTooShort Reason = "DeadlineTooShort" // the deadline had passed before the call began, or before its next attempt
	Canceled         Reason = "Canceled"         // the caller gave up between two attempts
	Timeout          Reason = "Timeout"          // a timeout of a rule ended the call
	AttemptsFailed   Reason = "AttemptsFailed"   // every attempt failed
	Closed           Reason = "Closed"           // the mesh was closed
	Misused          Reason = "Misused"          // the call or the dial options were used in a way that cannot work
)

// Local reports whether nothing of the call can have reached a server.
func (r Reason) Local() bool {
	switch r {
	case AttemptsFailed, Timeout, Canceled:
		return false
	}
	return true
}

// Refusal is why the engine ended a call itself. The adapters turn it into the public error.
type Refusal struct {
	Reason     Reason
	Rule       string // name@revision of the rule that decided, if one did
	RetryAfter time.Duration
	Err        error
	Local      bool // nothing of the call can have reached a server
}

func (r *Refusal) Error() string {
	if r.Err != nil {
		return string(r.Reason) + ": " + r.Err.Error()
	}
	return string(r.Reason)
}

// Unwrap gives the cause.
func (r *Refusal) Unwrap() error { return r.Err }

// ErrNotReady is returned by Select while there are endpoints to call and none is ready: a transport that can wait
// for readiness waits and asks again.
var ErrNotReady = errors.New("no endpoint is ready")

// Fate is what became of one attempt, for the text of an error.
type Fate struct {
	Endpoint string
	Address  string
	Code     int
	Sent     bool
	Err      error
	Latency  time.Duration
}
