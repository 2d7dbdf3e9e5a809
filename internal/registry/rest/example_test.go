package rest_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/weftmesh/weft/internal/registry/catalog"
	"github.com/weftmesh/weft/internal/registry/lease"
	"github.com/weftmesh/weft/internal/registry/rest"
	"github.com/weftmesh/weft/internal/registry/store"
)

// secret is the one token of this example.
type secret string

func (s secret) Admin(token string) bool    { return token == string(s) }
func (s secret) Workload(token string) bool { return token == string(s) }

func Example() {
	cat, err := catalog.Open(store.NewMemory(), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cat.Close()
	leases := lease.New(cat, nil)
	defer leases.Close()
	api := rest.New(rest.Config{Catalog: cat, Leases: leases, Access: secret("s3cret")})

	r := httptest.NewRequest("PUT", "/v1/services/product/instances/p1", strings.NewReader(`{"address": "10.0.0.7", "protocol": "http"}`))
	r.Header = http.Header{"Authorization": {"Bearer s3cret"}, "Content-Type": {"application/json"}}
	w := httptest.NewRecorder()
	api.ServeHTTP(w, r)
	fmt.Println(w.Code, w.Body)
	// Output: 422 {"title":"Unprocessable Entity","status":422,"detail":"instance: address \"10.0.0.7\": invalid: want host:port with a host that others can reach and a port from 1 to 65535","errors":[{"message":"want host:port with a host that others can reach and a port from 1 to 65535","location":"body.address","value":"10.0.0.7"}]}
}
