package access_test

import (
	"fmt"
	"os"

	"github.com/weftmesh/weft/internal/registry/access"
	"github.com/weftmesh/weft/internal/registry/store"
)

func ExampleOpenTokens() {
	dir, err := os.MkdirTemp("", "weft-data")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)

	tokens, err := access.OpenTokens(dir, store.NewMemory(), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer tokens.Close()

	grant, err := tokens.Check(tokens.WorkloadToken(), "10.0.0.7")
	fmt.Println(grant.Role, err, grant.Allows(access.Reader, "shop"), grant.MaySession())
	_, err = tokens.Check("a guess", "10.0.0.7")
	fmt.Println(err)
	// Output:
	// workload <nil> false true
	// the token is not known to this server
}
