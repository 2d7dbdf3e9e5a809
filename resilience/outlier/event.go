package outlier

import "time"

// Event is a host that was ejected or came back.
type Event struct {
	Host    *Host
	Ejected bool      // false: back in service
	Until   time.Time // the end of the ejection; zero when the host is back
	Reason  Reason
}

// Reason says why a host was ejected or came back.
type Reason string

const (
	ReasonConsecutive    Reason = "consecutive failures" // ejected
	ReasonProbeFailed    Reason = "probe failed"         // ejected for longer
	ReasonProbeSucceeded Reason = "probe succeeded"      // back
	ReasonCap            Reason = "cap"                  // back, as the pool shrank or the configuration allows fewer
)
