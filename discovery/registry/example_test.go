package registry_test

import (
	"context"
	"fmt"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/discovery/registry"
)

// A source is made, and watched, with or without a registry.
func ExampleNew() {
	source, err := registry.New(registry.Options{Addrs: []string{"127.0.0.1:1"}, Service: "web", Namespace: "shop"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer source.Close()

	ctx, cancel := context.WithCancel(context.Background())
	cancel() // a program would go on
	err = source.Watch(ctx, "product", func(s discovery.Snapshot) {
		fmt.Println(len(s.Instances), "instances, stale:", s.Stale)
	})
	fmt.Println(err)
	// Output: context canceled
}
