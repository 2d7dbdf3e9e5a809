package server

import (
	"github.com/weftmesh/weft/internal/registry/catalog"
	"github.com/weftmesh/weft/internal/registry/session"
)

// Catalog is what the server serves, for tests in the same process. After a restore it is another; while one is under way,
// nil.
func (s *Server) Catalog() *catalog.Catalog {
	if r := s.rooms.Load(); r != nil {
		return r.catalog
	}
	return nil
}

// Sessions are the server's, likewise.
func (s *Server) Sessions() *session.Server {
	if r := s.rooms.Load(); r != nil {
		return r.sessions
	}
	return nil
}
