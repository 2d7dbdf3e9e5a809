package access_test

import (
	"fmt"
	"os"

	"github.com/weftmesh/weft/internal/registry/access"
)

func ExampleOpenTokens() {
	dir, err := os.MkdirTemp("", "weft-data")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)

	tokens, err := access.OpenTokens(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(tokens.Workload(tokens.WorkloadToken()), tokens.Admin(tokens.WorkloadToken()))
	// Output: true false
}
