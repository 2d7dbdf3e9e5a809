package wefttest

import (
	"context"

	"github.com/weftmesh/weft/discovery"
)

// settle waits until every mesh that uses a service knows all that the registry knows of it now. The service "*" stands for
// all of its namespace.
func (r *Registry) settle(service discovery.Name) {
	r.t.Helper()
	// Not the test's own context: a fake may also be closed by a cleanup of the test, when that has ended.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.t.Context()), patience)
	defer cancel()
	at := r.server.Catalog().At(service)
	if p := r.server.Sessions().Await(ctx, []discovery.Name{service}, at, 1); p.Acked < p.Live {
		r.t.Errorf("wefttest: service %s: after %s only %d of the %d meshes that use it know of its last change", service, patience, p.Acked, p.Live)
	}
}
