package grpcweft

import (
	"context"
	"errors"
	"net"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// plaintext is no encryption, for addresses that our balancer dials and for no other: whether a connection is
// encrypted is Weft's decision, so nobody else gets to use these credentials by chance.
type plaintext struct {
	credentials.TransportCredentials
}

func newPlaintext() plaintext { return plaintext{insecure.NewCredentials()} }

// calleeKey marks the addresses that our balancer dials; the value is the full name of the service. It must stay
// the same for the life of an endpoint, as a change makes grpc connect anew.
type calleeKey struct{}

var errForeignAddress = errors.New("weft: refusing to speak plaintext to an address that Weft did not choose: the dial options are for targets weft:///<service> and their balancer must not be replaced")

// ClientHandshake implements credentials.TransportCredentials.
func (p plaintext) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if credentials.ClientHandshakeInfoFromContext(ctx).Attributes.Value(calleeKey{}) == nil {
		return nil, nil, errForeignAddress
	}
	return p.TransportCredentials.ClientHandshake(ctx, authority, conn)
}

// Clone implements credentials.TransportCredentials. The embedded Clone would lose the check.
func (p plaintext) Clone() credentials.TransportCredentials {
	return plaintext{p.TransportCredentials.Clone()}
}
