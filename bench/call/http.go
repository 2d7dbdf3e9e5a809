package call

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"

	"github.com/weftmesh/weft"
)

// HTTP starts the variants over HTTP/1.1. Each call is one GET with one header of its own, whose answer of 64 bytes is read to its end; over
// net/http alone the servers are called in turn.
func HTTP(variants ...Variant) (*World, error) { return start("HTTP", variants, (*World).http) }

// idle is how many connections the bare transport keeps for each server: as many as Weft's.
const idle = 100

func (w *World) http(v Variant) (func() error, error) {
	var addresses []string
	for range servers {
		a, err := w.httpServer(v)
		if err != nil {
			return nil, err
		}
		addresses = append(addresses, a)
	}
	urls, transport, err := w.httpTransport(v, addresses)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: transport}
	w.onClose(func() error { client.CloseIdleConnections(); return nil })
	var turn atomic.Uint64
	return func() error { return get(client, urls[turn.Add(1)%uint64(len(urls))], v) }, nil
}

// httpTransport gives the transport of a variant and the URLs that are called through it.
func (w *World) httpTransport(v Variant, addresses []string) ([]string, http.RoundTripper, error) {
	if v.Client {
		m, err := w.caller(v, weft.HTTP, addresses)
		if err != nil {
			return nil, nil, err
		}
		return []string{"http://product/items"}, m.Transport(nil), nil
	}
	var urls []string
	for _, a := range addresses {
		urls = append(urls, "http://"+a+"/items")
	}
	return urls, &http.Transport{MaxIdleConnsPerHost: idle}, nil
}

func get(client *http.Client, url string, v Variant) error {
	ctx, cancel := v.context()
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	r.Header.Set("X-User-Id", "user-1")
	response, err := client.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if n, err := io.Copy(io.Discard, response.Body); err != nil || n != int64(len(page)) || response.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d and %d bytes, want 200 and %d: %w", response.StatusCode, n, len(page), err)
	}
	return nil
}

// page is what the servers answer.
var page = make([]byte, 64)

func (w *World) httpServer(v Variant) (address string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(page) })}
	address = l.Addr().String()
	if v.Server {
		m, err := w.callee(v)
		if err != nil {
			return "", err
		}
		s.Handler, l = m.Handler(s.Handler), m.Listener(l)
	}
	go s.Serve(l) //nolint:errcheck // it ends when the world is closed
	w.onClose(s.Close)
	return address, nil
}
