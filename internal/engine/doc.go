// Package engine runs one call through the phases of Weft. gRPC and HTTP, callers and callees all go through it;
// the adapters only translate.
//
//	outbound   plan → route → loop { attempt { select → send → settle } }
//	inbound    wire words → late? → handler → report
//
// A protocol adapter fills a [Call], implements the [Transport] seam and says [Service.Do]. The transport's Try
// learns from [Attempt.Select] where to send, and returns an [Outcome]; the engine judges it, tries again or stops.
// Every attempt settles exactly once: breaker, endpoint stats, outlier and observers learn from it at the same
// moment, from the same verdict.
//
// The order of phases is code. Time and randomness come from [Config], so a test or a simulation can supply them.
package engine

import (
	"math/rand/v2"
	"time"

	"github.com/weftmesh/weft/telemetry"
)

// Config is what all services of a process share.
type Config struct {
	Now    func() time.Time // nil: time.Now
	Seed   func() uint64    // the start of each call's random numbers; nil: math/rand/v2
	Tracer telemetry.Tracer // nil: none
	// Classifiers judge outcomes; nil entries are replaced by the defaults of the protocols.
	Classifiers [NumProtocols]Classifier
}

// Engine holds the completed [Config].
type Engine struct {
	now      func() time.Time
	seed     func() uint64
	tracer   telemetry.Tracer
	classify [NumProtocols]Classifier
}

// New returns an engine.
func New(cfg Config) *Engine {
	e := &Engine{now: cfg.Now, seed: cfg.Seed, tracer: cfg.Tracer, classify: cfg.Classifiers}
	if e.now == nil {
		e.now = time.Now
	}
	if e.seed == nil {
		e.seed = rand.Uint64
	}
	for p, def := range [NumProtocols]Classifier{GRPC: ClassifyGRPC, HTTP: ClassifyHTTP} {
		if e.classify[p] == nil {
			e.classify[p] = def
		}
	}
	return e
}

// Protocol is what a call speaks.
type Protocol uint8

// The protocols.
const (
	GRPC Protocol = iota
	HTTP
	NumProtocols
)

// String gives "grpc" or "http".
func (p Protocol) String() string {
	if p == GRPC {
		return string(telemetry.GRPC)
	}
	return string(telemetry.HTTP)
}
