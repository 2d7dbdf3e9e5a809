package audit_test

import (
	"context"
	"fmt"

	"github.com/weftmesh/weft/internal/registry/audit"
	"github.com/weftmesh/weft/internal/registry/store"
)

func Example() {
	st := store.NewMemory()
	log, err := audit.Open(st)
	if err != nil {
		fmt.Println(err)
		return
	}
	c := store.NewCommitter(st, nil)
	defer c.Close()
	err = c.Do(context.Background(), func(b *store.Batch) error {
		b.Put("r/default/Route/product-canary", []byte("…"))
		log.Append(b, audit.Entry{
			Actor: audit.Actor{Who: "alice", From: "10.0.0.1"}, Action: "put", Kind: "Route", Namespace: "default",
			Target: "product-canary",
		})
		return nil
	})
	fmt.Println(err)
	entries, err := log.List(audit.Filter{Who: "alice"})
	for _, e := range entries {
		fmt.Println(e.Number, e.Who, e.Action, e.Kind, e.Target)
	}
	fmt.Println(err)
	// Output:
	// <nil>
	// 1 alice put Route product-canary
	// <nil>
}
