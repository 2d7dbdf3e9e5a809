package session

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/catalog"
	"github.com/weftmesh/weft/rule"
)

// Client is a process that has a session, as shown to operators.
type Client struct {
	Process    string
	Service    discovery.Name // Service is "" if it has none of its own
	SDKVersion string
	Token      string // the name of the token that opened the session; "" if none was asked for
	Address    string // of its end of the connection
	Since      time.Time
	Instances  []catalog.InstanceKey // registered in this session, sorted
	Services   []Subscription        // sorted by name
}

// Subscription is one service that a client uses.
type Subscription struct {
	Name   discovery.Name
	Sent   discovery.Revision
	Acked  discovery.Revision // what it has applied; it may not have been sent in this session
	Latest discovery.Revision // of the service
	Nacks  []rule.Nack        // rules that it could not use
}

// Sessions says how many processes have a session.
func (s *Server) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

// Clients lists the live sessions, sorted by service and process.
func (s *Server) Clients() []Client {
	s.mu.Lock()
	live := make([]*session, 0, len(s.sessions))
	for _, ss := range s.sessions {
		live = append(live, ss)
	}
	s.mu.Unlock()
	out := make([]Client, len(live))
	for i, ss := range live {
		out[i] = ss.client()
	}
	slices.SortFunc(out, func(a, b Client) int {
		return cmp.Or(cmp.Compare(a.Service.Namespace, b.Service.Namespace), cmp.Compare(a.Service.Service, b.Service.Service),
			strings.Compare(a.Process, b.Process))
	})
	return out
}

// held lists the instances that the session has registered and that are still its own.
func (ss *session) held() []catalog.InstanceKey {
	keys := ss.lease.Held(ss.owned.keys())
	slices.SortFunc(keys, func(a, b catalog.InstanceKey) int {
		return cmp.Or(strings.Compare(a.Service.String(), b.Service.String()), strings.Compare(a.ID, b.ID))
	})
	return keys
}

// client describes the session for operators.
func (ss *session) client() Client {
	c := Client{
		Process:    ss.hello.GetProcess(),
		Service:    discovery.Name{Service: ss.hello.GetService(), Namespace: ss.hello.GetNamespace()},
		SDKVersion: ss.hello.GetSdkVersion(),
		Token:      ss.grant.Name,
		Address:    ss.address,
		Since:      ss.since,
		Instances:  ss.held(),
		Services:   ss.outbox.subscriptions(),
	}
	for i := range c.Services {
		c.Services[i].Latest = ss.srv.cat.At(c.Services[i].Name)
	}
	return c
}
