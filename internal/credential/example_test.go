package credential_test

import (
	"fmt"
	"os"

	"github.com/weftmesh/weft/internal/credential"
)

func Example() {
	home, err := os.MkdirTemp("", "config")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(home)
	os.Setenv("XDG_CONFIG_HOME", home)
	defer os.Unsetenv("XDG_CONFIG_HOME")

	server := credential.File{GRPC: "127.0.0.1:7070", HTTP: "127.0.0.1:7080", Token: "secret"}
	if err := credential.Write(7070, server); err != nil {
		fmt.Println(err)
		return
	}
	found, err := credential.Read(7070)
	fmt.Println(found.HTTP, err)
	// Output: 127.0.0.1:7080 <nil>
}
