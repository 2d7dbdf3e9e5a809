package lease_test

import (
	"context"
	"fmt"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/catalog"
	"github.com/weftmesh/weft/internal/registry/lease"
	"github.com/weftmesh/weft/internal/registry/store"
)

func Example() {
	cat, err := catalog.Open(store.NewMemory(), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cat.Close()
	leases := lease.New(cat, nil)
	defer leases.Close()

	in := discovery.Instance{ID: "p1", Service: "product", Address: "10.0.0.7:8080", Protocol: discovery.HTTP}
	session := leases.Hold(lease.SessionTTL)
	session.Add(catalog.KeyOf(in)) // before it is written
	if _, err := cat.PutOwned(context.Background(), []discovery.Instance{in}, lease.SessionTTL); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(session.Renew())
	session.Lost()
	fmt.Println(session.Renew())
	// Output:
	// true
	// false
}
