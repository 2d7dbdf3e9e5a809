package rule

import (
	"fmt"
	"slices"
	"strconv"
	"time"
)

// Retry says which failed attempts are tried again. Only what was provably not sent, and calls of idempotent
// methods, are.
type Retry struct {
	// Attempts is how often a call is tried, the first time included.
	Attempts int `json:"attempts" min:"1" max:"10" default:"3"`
	// On lists the failures that are retried. One that was provably not sent always is; an empty list leaves
	// those alone.
	On []string `json:"on" format:"condition" max:"32" default:"[unavailable, reset, \"503\"]" zero:"kept"`
	// PerTryTimeout is for one attempt. Absent: none.
	PerTryTimeout time.Duration `json:"perTryTimeout" max:"1h"`
	// Timeout is for the whole call, with all its attempts. Absent: none.
	Timeout time.Duration `json:"timeout" max:"1h"`
	// Backoff is the pause before a retry.
	Backoff Backoff `json:"backoff"`
	// Budget bounds the retries of one process to one service.
	Budget Budget `json:"budget"`
	// Methods override parts of the rule for the calls they match; the first match counts.
	Methods []RetryMethod `json:"methods" max:"100"`
}

// Backoff is the pause before a retry: between base and base·2ⁿ, at most max, with full jitter.
type Backoff struct {
	// Base is the shortest pause.
	Base time.Duration `json:"base" max:"1h" default:"25ms"`
	// Max is the longest pause, at least base.
	Max time.Duration `json:"max" max:"1h" default:"250ms"`
}

// Budget bounds the retries of one process to one service: the larger of both. Absent fields read as the defaults;
// two zeros allow no retry.
type Budget struct {
	// Percent is the share of calls that may be retried.
	Percent *int `json:"percent" min:"0" max:"100" default:"10"`
	// PerSecond is the number of retries a second that are always allowed.
	PerSecond *int `json:"perSecond" min:"0" max:"10000" default:"3"`
}

// RetryMethod overrides parts of a [Retry] for the calls it matches. What it leaves out is as in the rule.
type RetryMethod struct {
	// Match says which calls the entry is for; its entries are OR.
	Match []Match `json:"match" max:"100" required:"true"`
	// Idempotent says whether the calls may be repeated, whatever the protocol says of their method.
	Idempotent *bool `json:"idempotent"`
	// Attempts is how often a call is tried, the first time included.
	Attempts int `json:"attempts" min:"1" max:"10"`
	// On lists the failures that are retried.
	On []string `json:"on" format:"condition" max:"32" zero:"kept"`
	// PerTryTimeout is for one attempt.
	PerTryTimeout time.Duration `json:"perTryTimeout" max:"1h"`
	// Timeout is for the whole call, with all its attempts.
	Timeout time.Duration `json:"timeout" max:"1h"`
}

func (*Retry) kind() Kind { return KindRetry }

func (r *Retry) check(c *checker, path string) { checkUnique(c, r.On, join(path, "on")) }

func (b *Backoff) check(c *checker, path string) {
	full := completed(*b)
	if full.Base > full.Max {
		c.invalid(join(path, "base"), durationText(full.Base), "must be at most max, "+durationText(full.Max))
	}
}

func (m *RetryMethod) check(c *checker, path string) {
	if m.Idempotent == nil && m.Attempts == 0 && m.On == nil && m.PerTryTimeout == 0 && m.Timeout == 0 {
		c.invalid(path, "", "overrides nothing; must have one of idempotent, attempts, on, perTryTimeout, timeout")
	}
	checkUnique(c, m.On, join(path, "on"))
}

func checkUnique(c *checker, texts []string, path string) {
	for i, text := range texts {
		if slices.Contains(texts[:i], text) {
			c.invalid(fmt.Sprintf("%s[%d]", path, i), quote(text), "must not be there twice")
		}
	}
}

// grpcCodes are gRPC's status codes from 1 on.
var grpcCodes = [...]string{
	"cancelled", "unknown", "invalid_argument", "deadline_exceeded", "not_found", "already_exists",
	"permission_denied", "resource_exhausted", "failed_precondition", "aborted", "out_of_range", "unimplemented",
	"internal", "unavailable", "data_loss", "unauthenticated",
}

// GRPCCode gives the number of a gRPC code that is written as in [Retry].On, such as "unavailable".
func GRPCCode(word string) (code int, ok bool) {
	i := slices.Index(grpcCodes[:], word)
	return i + 1, i >= 0
}

// isCondition reports whether a word may stand in a list of retried failures.
func isCondition(word string) bool {
	switch word {
	case "reset", "timeout", "4xx", "5xx":
		return true
	}
	if _, ok := GRPCCode(word); ok {
		return true
	}
	code, err := strconv.Atoi(word)
	return err == nil && len(word) == 3 && 400 <= code && code <= 599
}
