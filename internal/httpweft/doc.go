// Package httpweft carries net/http over the engine, in both directions.
//
// A caller wraps a transport; requests to services of the mesh are routed, retried and observed, all others go to
// the transport it wraps:
//
//	c := httpweft.NewClient(directory, logger)
//	defer c.Close()
//	client := &http.Client{Transport: c.Transport(nil)}
//	resp, err := client.Get("http://product.shop.weft/items")
//
// A callee wraps its handler:
//
//	s := httpweft.NewServer(inbound, "product.shop", logger)
//	srv := &http.Server{Handler: s.Handler(mux)}
//	srv.Serve(s.Listener(l))
//
// An attempt selects an endpoint, clones the request into one struct and gives it a host of its own, which stands
// for the (identity, address, protocol) of the endpoint. So net/http pools connections by that triple, and a
// verified connection is never used for another service. Such a host is resolved here and nowhere else.
package httpweft
