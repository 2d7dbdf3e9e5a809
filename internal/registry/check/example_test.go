package check_test

import (
	"fmt"
	"net/netip"

	"github.com/weftmesh/weft/internal/registry/catalog"
	"github.com/weftmesh/weft/internal/registry/check"
	"github.com/weftmesh/weft/internal/registry/store"
)

func Example() {
	cat, err := catalog.Open(store.NewMemory(), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cat.Close()
	checker := check.New(cat, check.Options{
		Enabled: true,
		Allow:   []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},        // for a development machine
		Own:     []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:7070")}, // allowed by the prefix, too
	})
	defer checker.Close()
	fmt.Println(len(cat.Checked()), "instances are checked")
	// Output: 0 instances are checked
}
