package store_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/weftmesh/weft/internal/registry/store"
)

func Example() {
	dir, err := os.MkdirTemp("", "weft")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)

	st, err := store.Open(filepath.Join(dir, "weft-data"))
	if err != nil {
		fmt.Println(err)
		return
	}
	c := store.NewCommitter(st, nil)
	err = c.Do(context.Background(), func(b *store.Batch) error {
		b.Put("fruit/apple", []byte("red"))
		b.Put("fruit/plum", []byte("blue"))
		return nil
	})
	fmt.Println("on disk:", err == nil)
	_ = st.Range("fruit/", func(e store.Entry) error {
		key, value := e.Key, e.Value
		fmt.Printf("%s is %s\n", key, value)
		return nil
	})
	c.Close()
	fmt.Println(st.Close())
	// Output:
	// on disk: true
	// fruit/apple is red
	// fruit/plum is blue
	// <nil>
}
