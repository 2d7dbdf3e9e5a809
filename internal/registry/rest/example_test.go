package rest_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/weftmesh/weft/internal/registry/access"
	"github.com/weftmesh/weft/internal/registry/catalog"
	"github.com/weftmesh/weft/internal/registry/lease"
	"github.com/weftmesh/weft/internal/registry/rest"
	"github.com/weftmesh/weft/internal/registry/store"
)

// secret is the one token of this example; a server has those of package access.
type secret struct {
	rest.Access
	text string
}

func (s secret) Check(token, _ string) (access.Grant, error) {
	if token != s.text {
		return access.Grant{}, access.ErrUnknown
	}
	return access.Grant{ID: "admin", Name: "admin", Role: access.Admin}, nil
}

func Example() {
	cat, err := catalog.Open(store.NewMemory(), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cat.Close()
	leases := lease.New(cat, nil)
	defer leases.Close()
	api := rest.New(rest.Config{Catalog: cat, Leases: leases, Access: secret{text: "s3cret"}})

	r := httptest.NewRequest("PUT", "/v1/services/product/instances/p1", strings.NewReader(`{"address": "10.0.0.7", "protocol": "http"}`))
	r.Header = http.Header{"Authorization": {"Bearer s3cret"}, "Content-Type": {"application/json"}}
	w := httptest.NewRecorder()
	api.ServeHTTP(w, r)
	fmt.Println(w.Code, w.Body)
	// Output: 422 {"title":"Unprocessable Entity","status":422,"detail":"instance: address \"10.0.0.7\": invalid: want host:port with a host that others can reach and a port from 1 to 65535","errors":[{"message":"want host:port with a host that others can reach and a port from 1 to 65535","location":"body.address","value":"10.0.0.7"}]}
}
