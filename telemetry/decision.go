package telemetry

import "time"

// Decision is the record of one call: which rule and revision matched, where the call could go and went, and how
// each attempt fared. It is filled only for calls that ask for it (weft.Record); other calls pay nothing.
// It must be read after the call has finished.
type Decision struct {
	Protocol Protocol `json:"protocol"`
	Service  string   `json:"service"`
	Method   string   `json:"method"`
	Path     string   `json:"path,omitempty"`
	Revision string   `json:"revision,omitempty"` // of the plan
	// Seed is the start of the call's random numbers: with the same plan and the same learned numbers it
	// gives the same split and the same picks.
	Seed     uint64            `json:"seed"`
	Route    RouteDecision     `json:"route"`
	Retry    RetryDecision     `json:"retry"`
	Attempts []AttemptDecision `json:"attempts,omitempty"`
	Reason   string            `json:"reason,omitempty"` // why Weft refused or gave up; "" if it did not
	Code     int               `json:"code"`
	Class    string            `json:"class"`
	Duration time.Duration     `json:"duration"`
}

// RouteDecision says which route matched and what it chose.
type RouteDecision struct {
	Rule          string        `json:"rule,omitempty"` // name@revision; "" when there is no Route
	Index         int           `json:"index"`          // of the matching entry; -1: none matched
	Subset        string        `json:"subset"`         // as drawn; "" is all instances
	Bucket        int           `json:"bucket"`         // sticky bucket 0 to 9999; -1: not sticky
	NoStickyValue bool          `json:"noStickyValue"`  // the rule is sticky, the call had no value
	Substituted   bool          `json:"substituted"`    // the drawn share was empty, the rest took over
	Timeout       time.Duration `json:"timeout"`        // 0: none
	Replanned     int           `json:"replanned"`      // times the call moved to a newer plan as its own was used up
}

// RetryDecision says which retry policy the call has.
type RetryDecision struct {
	Rule       string `json:"rule,omitempty"` // name@revision; "" when there is no Retry
	Attempts   int    `json:"attempts"`
	Idempotent bool   `json:"idempotent"`
	Replayable bool   `json:"replayable"`
	Stop       string `json:"stop,omitempty"` // why there was no further attempt after a failed one
}

// AttemptDecision is one attempt.
type AttemptDecision struct {
	Number   int                 `json:"number"`
	Endpoint string              `json:"endpoint,omitempty"` // "" if none could be chosen
	Address  string              `json:"address,omitempty"`
	Compared []CandidateDecision `json:"compared,omitempty"`
	Code     int                 `json:"code"`
	Class    string              `json:"class"`
	Sent     bool                `json:"sent"` // false: provably never reached the server
	Error    string              `json:"error,omitempty"`
	Delay    time.Duration       `json:"delay"` // waited before it
	Latency  time.Duration       `json:"latency"`
}

// CandidateDecision is one endpoint a pick looked at.
type CandidateDecision struct {
	Endpoint string  `json:"endpoint"`
	Cost     float64 `json:"cost"`
	Removed  string  `json:"removed,omitempty"` // why it was refused: tried, ejected, suspect, not_ready; "": it was not
}
