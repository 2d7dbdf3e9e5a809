package server_test

import (
	"context"
	"fmt"
	"net/http"
	"os"

	"github.com/weftmesh/weft/internal/registry/server"
)

func Example() {
	dir, err := os.MkdirTemp("", "weft")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	os.Setenv("XDG_CONFIG_HOME", dir) // the credential file goes there
	defer os.Unsetenv("XDG_CONFIG_HOME")

	s, err := server.New(server.Config{GRPCAddr: "127.0.0.1:0", HTTPAddr: "127.0.0.1:0", DataDir: dir + "/data"})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	stopped := make(chan error)
	go func() { stopped <- s.Run(ctx) }()

	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get("http://" + s.HTTPAddr() + "/readyz")
	if err == nil {
		fmt.Println(answer.Status)
		answer.Body.Close()
	}
	stop()
	fmt.Println(<-stopped)
	// Output:
	// 200 OK
	// <nil>
}
