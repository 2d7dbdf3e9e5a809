package engine

import (
	"slices"

	"github.com/weftmesh/weft/balancer"
	"github.com/weftmesh/weft/resilience/outlier"
)

// Readiness is what a transport knows of its way to an endpoint. It must not block.
type Readiness interface {
	Ready(*balancer.Endpoint) Ready
}

// Ready says how good the way to an endpoint is.
type Ready uint8

// The degrees.
const (
	NotReady  Ready = iota // no connection, or the last dial failed a short time ago
	MayDial                // no connection known, but one may be made
	Connected              // there is a working connection
)

// strictness is how much a pass of the selection asks of an endpoint. Each pass is looser than the one before.
type strictness uint8

const (
	untried strictness = iota // up, not ejected, not tried by this call
	healthy                   // up, not ejected
	anyUp                     // up: all that are not ejected are used up
	reserve                   // suspect, unhealthy or vanished: a last resort
	noneLeft
)

// Select chooses the endpoint of this attempt: subset ∩ not tried ∩ not ejected ∩ ready, through the picker. It
// does not block. Calling it again gives the earlier endpoint back as not sent. The error is [ErrNotReady] while
// waiting may help, or a *[Refusal].
func (a *Attempt) Select(r Readiness) (*balancer.Endpoint, error) {
	a.release()
	a.asked, a.ready = true, r
	ep := a.choose()
	if ep == nil && a.call.replan() {
		ep = a.choose()
	}
	if ep == nil {
		return nil, a.nothing()
	}
	a.refusal = nil
	a.endpoint = ep
	a.call.attempts = a.number
	a.call.tried = append(a.call.tried, ep.Stats)
	ep.Begin()
	return ep, nil
}

// release gives back an endpoint that was chosen and then not used.
func (a *Attempt) release() {
	if a.endpoint == nil {
		return
	}
	a.start = a.call.engine().now()
	a.pick.Now = a.start
	a.endpoint.Done(balancer.Result{Now: a.start, Ignore: true})
	if a.host != nil {
		a.host.Release(a.start)
	}
	a.endpoint, a.host = nil, nil
}

// choose runs the passes until one finds an endpoint.
func (a *Attempt) choose() *balancer.Endpoint {
	d := a.call.route.Destination
	if d == nil {
		return nil
	}
	for a.strict = untried; a.strict < noneLeft; a.strict++ {
		if a.strict == healthy && len(a.call.tried) == 0 {
			continue
		}
		pick := d.Pick
		if a.strict == reserve {
			pick = d.PickReserve
		}
		if ep := a.admitted(pick); ep != nil {
			return ep
		}
	}
	return nil
}

// admitted picks until outlier detection admits the choice. An ejected host whose time is over admits one probe;
// who comes second picks again.
func (a *Attempt) admitted(pick func(*balancer.Pick) *balancer.Endpoint) *balancer.Endpoint {
	for range maxAdmissions {
		ep := pick(&a.pick)
		a.explainPick()
		if ep == nil {
			return nil
		}
		a.host = hostOf(ep)
		switch {
		case a.host.Admit(a.start):
			return ep
		case a.strict >= anyUp:
			a.host = nil // it is ejected and used all the same: another call's probe decides
			return ep
		}
	}
	return nil
}

// explainPick notes, for calls that are recorded, why the pick refused whom it refused.
func (a *Attempt) explainPick() {
	for _, c := range a.compared[len(a.refused):] {
		why := ""
		if !c.Usable {
			why = (*filter)(a).removed(c.Endpoint)
		}
		a.refused = append(a.refused, why)
	}
}

// maxAdmissions bounds how often a pass picks again after losing the race for a probe.
const maxAdmissions = 3

func hostOf(ep *balancer.Endpoint) *outlier.Host { return ep.Attachment.(*outlier.Host) }

// filter is the attempt as the picker sees it.
type filter Attempt

// Usable applies what the current pass asks for.
func (f *filter) Usable(ep *balancer.Endpoint) bool { return f.removed(ep) == "" }

// removed names who refuses an endpoint in the current pass, "" if nobody does.
func (f *filter) removed(ep *balancer.Endpoint) string {
	switch ready := f.ready.Ready(ep); {
	case ready == NotReady:
		return "not_ready"
	case ep.Suspect && ready < Connected && f.strict < reserve:
		return "suspect"
	case f.strict == untried && slices.Contains(f.call.tried, ep.Stats):
		return "tried"
	case f.strict <= healthy && hostOf(ep).Ejected(f.start):
		return "ejected"
	}
	return ""
}

// nothing explains that no endpoint was found.
func (a *Attempt) nothing() error {
	c := a.call
	if d := c.route.Destination; d != nil && len(d.Endpoints())+len(d.Reserve()) > 0 {
		return ErrNotReady
	}
	a.refusal = &Refusal{Reason: NoInstance, Rule: c.plan.RouteRule, Err: c.emptiness()}
	return a.refusal
}
