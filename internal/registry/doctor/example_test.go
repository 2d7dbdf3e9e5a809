package doctor_test

import (
	"fmt"
	"strings"
	"time"

	"github.com/weftmesh/weft/internal/registry/doctor"
	"github.com/weftmesh/weft/internal/registry/server"
)

func ExampleExamine() {
	findings := doctor.Examine(server.Config{GRPCAddr: "127.0.0.1:7070", HTTPAddr: "127.0.0.1:7080", DataDir: "not-there"}, time.Now())
	for _, f := range findings {
		if strings.HasPrefix(f.Thing, "data") || f.Thing == "REST" {
			fmt.Println(f)
		}
	}
	fmt.Println(doctor.Healthy(findings))
	// Output:
	// bad   data directory: not-there is not there → start the server once, which makes it, or say with --data-dir where it is
	// ok    REST: 127.0.0.1:7080, plain HTTP, on loopback alone
	// false
}
