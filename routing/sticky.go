package routing

import (
	"errors"
	"strings"

	"github.com/weftmesh/weft/balancer"
)

// buckets is how finely sticky values are spread.
const buckets = 10_000

// bucket returns the place of a sticky value; every caller in the mesh computes the same.
func bucket(h balancer.Hash) int { return int(h.Sum64() % buckets) }

type stickyBy struct {
	header, cookie string
	salt           balancer.Hash // the state after "namespace/service\x00"
}

func compileSticky(s Sticky, key string) (stickyBy, error) {
	if s.Header != "" && s.Cookie != "" {
		return stickyBy{}, errors.New("stickyBy: want header or cookie, got both")
	}
	return stickyBy{strings.ToLower(s.Header), s.Cookie, balancer.NewHash().Add(key).Add("\x00")}, nil
}

func (s *stickyBy) set() bool { return s.header != "" || s.cookie != "" }

// value returns the first value of the header or cookie, "" for none. An empty value counts as none, or all calls
// without a real one would share a bucket.
func (s *stickyBy) value(req *Request) string {
	switch {
	case req.Attributes == nil:
		return ""
	case s.cookie != "":
		return firstCookie(req.Attributes.Header("cookie"), s.cookie)
	}
	if values := req.Attributes.Header(s.header); len(values) > 0 {
		return values[0]
	}
	return ""
}
