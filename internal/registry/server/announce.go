package server

import (
	"net"
	"strconv"

	"github.com/weftmesh/weft/internal/credential"
)

// announce writes the credential file. A server whose user has no configuration directory does without, and one
// without a data directory has nothing to say to other processes.
func (s *Server) announce() {
	if s.config.DataDir == "" {
		return
	}
	s.announcing.Lock()
	defer s.announcing.Unlock()
	f := credential.File{
		GRPC:    local(s.grpcDoor.addr()),
		HTTP:    local(s.httpDoor.addr()),
		HTTPPin: s.httpPin(),
		DataDir: s.config.DataDir,
		Pin:     s.identity.Pin(),
		Token:   s.workloadToken,
	}
	if f == s.announced {
		return
	}
	s.sweep(f)
	if err := credential.Write(s.grpcDoor.addr().Port, f); err != nil {
		s.log.Warn("SDKs and weftctl cannot find this server by themselves; set WEFT_REGISTRY, WEFT_HTTP and WEFT_TOKEN for them", "error", err)
		return
	}
	s.announced = f
}

// retract removes the credential file. It goes first of all, while the port and the data are still ours, so that it
// cannot be a successor's.
func (s *Server) retract() error {
	s.announcing.Lock()
	defer s.announcing.Unlock()
	if s.announced == (credential.File{}) {
		return nil
	}
	return credential.Remove(s.grpcDoor.addr().Port, s.announced)
}

// local is where processes of this host find a listener.
func local(a *net.TCPAddr) string {
	host := a.IP.String()
	if a.IP.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, strconv.Itoa(a.Port))
}

// sweep removes the files of servers that were killed: who holds the data directory and the ports knows that
// nobody else does.
func (s *Server) sweep(f credential.File) {
	ports, _ := credential.Ports()
	for _, port := range ports {
		old, err := credential.Read(port)
		if err != nil || old.DataDir != f.DataDir && old.HTTP != f.HTTP {
			continue
		}
		if err := credential.Remove(port, old); err != nil {
			s.log.Warn("the credential file of a server that is gone cannot be removed", "error", err)
		}
	}
}
