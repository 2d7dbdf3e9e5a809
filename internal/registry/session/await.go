package session

import (
	"context"

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
	return Progress{}
}

// Revoke ends the sessions that were opened with a token.
func (s *Server) Revoke(tokenID string) {}
