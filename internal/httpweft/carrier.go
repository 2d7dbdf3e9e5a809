package httpweft

import (
	"maps"
	"net/http"
	"slices"
)

// carrier is the header of an inbound request for the engine and for tracers.
type carrier http.Header

func (c carrier) Get(key string) string { return http.Header(c).Get(key) }
func (c carrier) Set(key, value string) { http.Header(c).Set(key, value) }
func (c carrier) Keys() []string        { return slices.Collect(maps.Keys(c)) }

// words is the header of an outbound try: a shallow clone of the application's, to which Set adds without writing
// into the values they share. The first few values need no memory of their own.
type words struct {
	header http.Header
	values [2]string
	used   int
}

func (w *words) Get(key string) string { return w.header.Get(key) }
func (w *words) Keys() []string        { return slices.Collect(maps.Keys(w.header)) }

func (w *words) Set(key, value string) {
	if w.used == len(w.values) {
		w.header.Set(key, value)
		return
	}
	w.values[w.used] = value
	w.used++
	w.header[http.CanonicalHeaderKey(key)] = w.values[w.used-1 : w.used : w.used]
}
