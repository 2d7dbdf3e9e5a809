package rest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/weftmesh/weft/discovery"
)

// etag quotes a revision as RFC 9110 wants it.
func etag(r discovery.Revision) string { return `"` + r.String() + `"` }

// digest is the ETag of what changes without a revision.
func digest(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		return "" // no ETag: every answer is new
	}
	sum := sha256.Sum256(data)
	return `"` + hex.EncodeToString(sum[:12]) + `"`
}

// conditional makes an answer 304 if its ETag is one of the request's If-None-Match.
func conditional(w http.ResponseWriter, r *http.Request) http.ResponseWriter {
	want := r.Header.Get("If-None-Match")
	if want == "" || r.Method != http.MethodGet && r.Method != http.MethodHead {
		return w
	}
	return &unlessSame{ResponseWriter: w, want: want}
}

// unlessSame drops the body of an answer that the client has.
type unlessSame struct {
	http.ResponseWriter
	want string
	same bool
}

// WriteHeader implements [http.ResponseWriter].
func (w *unlessSame) WriteHeader(status int) {
	if tag := w.Header().Get("ETag"); status == http.StatusOK && tag != "" && matches(w.want, tag) {
		w.same = true
		w.Header().Del("Content-Type")
		status = http.StatusNotModified
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements [http.ResponseWriter].
func (w *unlessSame) Write(b []byte) (int, error) {
	if w.same {
		return len(b), nil
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap serves [http.ResponseController].
func (w *unlessSame) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// matches compares weakly, as RFC 9110 wants it of If-None-Match. Our tags have no comma.
func matches(want, tag string) bool {
	for one := range strings.SplitSeq(want, ",") {
		if one = strings.TrimPrefix(strings.TrimSpace(one), "W/"); one == tag || one == "*" {
			return true
		}
	}
	return false
}
