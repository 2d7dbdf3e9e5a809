package httpweft

import (
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/weftmesh/weft/internal/callerr"
	"github.com/weftmesh/weft/internal/engine"
)

// Server is the callee's side. It is safe for concurrent use.
type Server struct {
	in      *engine.Inbound
	service string
	log     *slog.Logger
}

// NewServer returns the callee's side of the service with that full name. A nil log discards.
func NewServer(in *engine.Inbound, service string, log *slog.Logger) *Server {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Server{in: in, service: service, log: log}
}

// Listener is a listener whose connections [Server.Handler] expects.
type Listener struct{ net.Listener }

// Listener marks l as ours. Its connections are plaintext. The result is a [*Listener].
func (s *Server) Listener(l net.Listener) net.Listener { return &Listener{l} }

// Handler wraps a handler. What Weft refuses is answered as problem+json (RFC 9457) with Weft-Reason and does not
// reach h. Requests that do come without the headers of Weft, and in a context that ends at the caller's deadline.
// The ResponseWriter is an http.Flusher, http.Hijacker and io.ReaderFrom if the server's is; everything else is
// reached through http.ResponseController. A panic passes through.
func (s *Server) Handler(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		served, refusal := s.in.Begin(r.Context(), engine.Request{Protocol: engine.HTTP, Method: r.Method, Path: r.URL.Path,
			Service: s.service, Header: carrier(r.Header)})
		if refusal != nil {
			s.refuse(w, r, refusal)
			served.End(engine.Outcome{Protocol: engine.HTTP, Code: status(refusal), Header: w.Header(), Err: refusal, Sent: true})
			return
		}
		s.serve(h, w, r, served)
	})
}

var errPanicked = errors.New("the handler panicked")

func (s *Server) serve(h http.Handler, w http.ResponseWriter, r *http.Request, served *engine.Served) {
	rec := &recorder{ResponseWriter: w}
	inner := stripped(r.WithContext(served.Context))
	returned := false
	defer func() {
		// net/http removes the files of the form, and handlers around this one may look at the pattern.
		r.MultipartForm, r.Pattern = inner.MultipartForm, inner.Pattern
		out := engine.Outcome{Protocol: engine.HTTP, Code: rec.status(), Sent: true}
		if out.Code >= 400 { // Header makes net/http copy them all once they are written
			out.Header = w.Header()
		}
		if !returned { // a panic, or runtime.Goexit: it goes on, so that net/http treats it as always
			out.Code, out.Err = http.StatusInternalServerError, errPanicked
		}
		served.End(out)
	}()
	h.ServeHTTP(rec.as(w), inner)
	returned = true
}

// stripped takes the wire words off r, a copy whose headers are still those of the server's request.
func stripped(r *http.Request) *http.Request {
	if hasWireWord(r.Header) {
		r.Header = maps.Clone(r.Header)
		maps.DeleteFunc(r.Header, func(name string, _ []string) bool { return isWireWord(name) })
	}
	return r
}

func hasWireWord(h http.Header) bool {
	for name := range h {
		if isWireWord(name) {
			return true
		}
	}
	return false
}

func isWireWord(name string) bool {
	n := len(engine.WirePrefix)
	return len(name) >= n && strings.EqualFold(name[:n], engine.WirePrefix)
}

// problem is an error as RFC 9457 writes it.
type problem struct {
	Type    string `json:"type"`
	Title   string `json:"title"`
	Status  int    `json:"status"`
	Detail  string `json:"detail,omitempty"`
	Service string `json:"service"`
	Reason  string `json:"reason"`
}

// refuse answers in place of the handler.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, refusal *engine.Refusal) {
	code := status(refusal)
	p := problem{Type: "about:blank", Title: http.StatusText(code), Status: code, Service: s.service, Reason: string(refusal.Reason)}
	if refusal.Err != nil {
		p.Detail = refusal.Err.Error()
	}
	h := w.Header()
	h.Set(engine.HeaderReason[engine.HTTP], string(refusal.Reason))
	h.Set("Content-Type", "application/problem+json")
	if refusal.RetryAfter > 0 {
		h.Set("Retry-After", strconv.FormatInt(int64((refusal.RetryAfter+time.Second-1)/time.Second), 10))
	}
	w.WriteHeader(code)
	if r.Method == http.MethodHead {
		return
	}
	if err := json.NewEncoder(w).Encode(p); err != nil {
		s.log.Debug("a refusal could not be written", slog.Any("error", err))
	}
}

func status(r *engine.Refusal) int {
	return (&callerr.Error{Reason: callerr.Reason(r.Reason)}).HTTPStatus()
}
