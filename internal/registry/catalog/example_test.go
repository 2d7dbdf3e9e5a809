package catalog_test

import (
	"context"
	"fmt"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/catalog"
	"github.com/weftmesh/weft/internal/registry/store"
)

func Example() {
	c, err := catalog.Open(store.NewMemory(), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()

	product := discovery.Name{Service: "product", Namespace: "shop"}
	put := func(in discovery.Instance) discovery.Revision {
		in.Service, in.Namespace, in.Protocol = product.Service, product.Namespace, discovery.HTTP
		rev, err := c.PutInstances(context.Background(), []discovery.Instance{in})
		if err != nil {
			fmt.Println(err)
		}
		return rev
	}
	known := put(discovery.Instance{ID: "p1", Address: "10.0.0.7:8080"})
	put(discovery.Instance{ID: "p2", Address: "10.0.0.8:8080"})
	put(discovery.Instance{ID: "p3", Address: "10.0.0.9:0"})

	instances, _ := c.Instances(product)
	for _, in := range instances {
		fmt.Println(in.ID, in.Address, in.State, in.Weight)
	}
	update := c.Update(product, known)
	fmt.Println("who knew p1 has to be told of", update.GetInstances()[0].GetId())
	// Output:
	// instance: address "10.0.0.9:0": invalid: want host:port with a host that others can reach and a port from 1 to 65535
	// p1 10.0.0.7:8080 up 100
	// p2 10.0.0.8:8080 up 100
	// who knew p1 has to be told of p2
}
