package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"time"

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

func ExampleCatalog_OrderInstance() {
	c, err := catalog.Open(store.NewMemory(), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	ctx := context.Background()
	p1 := discovery.Instance{ID: "p1", Service: "product", Namespace: "shop", Process: "a1b2", Address: "10.0.0.7:8080", Protocol: discovery.HTTP}
	register := func() {
		if _, err := c.PutOwned(ctx, []discovery.Instance{p1}, 7*time.Second); err != nil {
			fmt.Println(err)
		}
	}
	register()
	if _, _, err := c.OrderInstance(ctx, catalog.KeyOf(p1), catalog.Order{State: discovery.Isolated}); err != nil {
		fmt.Println(err)
	}
	register() // the process connects again, and is still isolated
	in, _, _ := c.Instance(catalog.KeyOf(p1).Service, "p1")
	fmt.Println(in.State)
	if _, err := c.DeleteInstances(ctx, []catalog.InstanceKey{catalog.KeyOf(p1)}, discovery.Deleted); err != nil {
		fmt.Println(err)
	}
	register()
	// Output:
	// isolated
	// instance "p1" of service product.shop: an operator removed it
}

func ExampleCatalog_Watch() {
	c, err := catalog.Open(store.NewMemory(), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	start, product := c.Revision(), discovery.Name{Service: "product", Namespace: "shop"}
	if _, _, err := c.PutAlias(context.Background(), catalog.Alias{Name: discovery.Name{Service: "64001:2101", Namespace: "shop"}, Target: product}); err != nil {
		fmt.Println(err)
	}
	enough := errors.New("enough")
	err = c.Watch(context.Background(), start, func(events []catalog.Event) error {
		for _, e := range events {
			fmt.Println(e.Kind, e.Service, "leads to", e.Alias.Target)
		}
		return enough
	})
	fmt.Println(err)
	// Output:
	// alias 64001:2101.shop leads to product.shop
	// enough
}
