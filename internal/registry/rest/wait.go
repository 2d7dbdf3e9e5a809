package rest

import (
	"context"
	"strconv"
	"time"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/session"
)

// Sessions are what the interface asks of the sessions: [*session.Server].
type Sessions interface {
	Clients() []session.Client
	Await(ctx context.Context, services []discovery.Name, revision discovery.Revision, share float64) session.Progress
}

// noSessions stands where there are none.
type noSessions struct{}

func (noSessions) Clients() []session.Client { return nil }
func (noSessions) Await(context.Context, []discovery.Name, discovery.Revision, float64) session.Progress {
	return session.Progress{}
}

// The bounds of ?waitTimeout=.
const (
	defaultWait = 10 * time.Second
	maxWait     = time.Minute
)

// Waiting is part of the input of writes that live clients acknowledge.
type Waiting struct {
	Wait        string `query:"wait" doc:"answer once this share of the live clients that use the service has acknowledged: 0 to 1, or true for all" example:"true"`
	WaitTimeout string `query:"waitTimeout" doc:"how long to wait at most, up to 60s; 10s if not given. The answer says how far it came" example:"10s"`
}

// waitTime reads ?waitTimeout=.
func waitTime(text string) (time.Duration, bool) {
	if text == "" {
		return defaultWait, true
	}
	d, err := time.ParseDuration(text)
	return d, err == nil && d > 0 && d <= maxWait
}

// share reads ?wait=.
func share(text string) (float64, bool) {
	switch text {
	case "", "false":
		return 0, true
	case "true":
		return 1, true
	}
	f, err := strconv.ParseFloat(text, 64)
	return f, err == nil && f >= 0 && f <= 1 // NaN is neither
}

// acknowledged says how many clients have applied a change.
type acknowledged struct {
	Live     int  `json:"live" doc:"clients that use the service"`
	Acked    int  `json:"acked" doc:"those that have applied the change"`
	Complete bool `json:"complete" doc:"the share that was asked for has"`
}

// await waits as the caller wishes; nil if it does not. The caller's place in the lane is free meanwhile.
func (a *API) await(ctx context.Context, w Waiting, services []discovery.Name, at discovery.Revision) *acknowledged {
	if w.Wait == "" || w.Wait == "false" {
		return nil
	}
	share, _ := share(w.Wait) // both were checked before: see badQuery
	timeout, _ := waitTime(w.WaitTimeout)
	c := callOf(ctx)
	c.stepAside()
	c.allow(timeout + writeGrace)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	stop := context.AfterFunc(a.closing, cancel)
	defer stop()
	p := a.Sessions.Await(ctx, services, at, share)
	return &acknowledged{p.Live, p.Acked, float64(p.Acked) >= share*float64(p.Live)}
}

// writeGrace is how long the writing of one answer may take, beside the time it waits for.
const writeGrace = 30 * time.Second
