package httpweft

import (
	"bufio"
	"io"
	"net"
	"net/http"
)

// recorder is a ResponseWriter that knows the status. Handlers see it through as, which adds what the writer inside
// is able to do beyond that, and nothing else.
type recorder struct {
	http.ResponseWriter
	code int // 0: not written yet
}

// status is what the caller got: net/http answers 200 for a handler that wrote nothing.
func (w *recorder) status() int {
	if w.code == 0 {
		return http.StatusOK
	}
	return w.code
}

// WriteHeader notes the first final status. Of the informational ones only 101 is final.
func (w *recorder) WriteHeader(code int) {
	if code >= 200 || code == http.StatusSwitchingProtocols {
		w.wrote(code)
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *recorder) wrote(code int) {
	if w.code == 0 {
		w.code = code
	}
}

func (w *recorder) Write(p []byte) (int, error) {
	w.wrote(http.StatusOK)
	return w.ResponseWriter.Write(p)
}

func (w *recorder) WriteString(s string) (int, error) {
	w.wrote(http.StatusOK)
	return io.WriteString(w.ResponseWriter, s)
}

// Unwrap is for http.ResponseController.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

type flusher struct{ w *recorder }

func (f flusher) Flush() { _ = f.FlushError() }

// FlushError is what http.ResponseController prefers.
func (f flusher) FlushError() error {
	f.w.wrote(http.StatusOK)
	return http.NewResponseController(f.w.ResponseWriter).Flush()
}

type hijacker struct{ w *recorder }

// Hijack takes the connection over; that stands for an upgrade.
func (h hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := h.w.ResponseWriter.(http.Hijacker).Hijack()
	if err == nil {
		h.w.wrote(http.StatusSwitchingProtocols)
	}
	return c, rw, err
}

type readerFrom struct{ w *recorder }

// ReadFrom keeps sendfile.
func (r readerFrom) ReadFrom(src io.Reader) (int64, error) {
	r.w.wrote(http.StatusOK)
	return r.w.ResponseWriter.(io.ReaderFrom).ReadFrom(src)
}

// as returns the recorder with the interfaces of inner, which a handler may look for.
func (w *recorder) as(inner http.ResponseWriter) http.ResponseWriter {
	_, f := inner.(http.Flusher)
	_, h := inner.(http.Hijacker)
	_, r := inner.(io.ReaderFrom)
	switch {
	case f && h && r:
		return struct {
			*recorder
			flusher
			hijacker
			readerFrom
		}{w, flusher{w}, hijacker{w}, readerFrom{w}}
	case f && h:
		return struct {
			*recorder
			flusher
			hijacker
		}{w, flusher{w}, hijacker{w}}
	case f && r:
		return struct {
			*recorder
			flusher
			readerFrom
		}{w, flusher{w}, readerFrom{w}}
	case h && r:
		return struct {
			*recorder
			hijacker
			readerFrom
		}{w, hijacker{w}, readerFrom{w}}
	case f:
		return struct {
			*recorder
			flusher
		}{w, flusher{w}}
	case h:
		return struct {
			*recorder
			hijacker
		}{w, hijacker{w}}
	case r:
		return struct {
			*recorder
			readerFrom
		}{w, readerFrom{w}}
	}
	return w
}
