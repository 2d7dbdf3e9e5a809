package rule

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"
)

// Route says where calls to a service go. Without one, and for a call that no entry matches, a call may go to
// any instance.
type Route struct {
	// Subsets name groups of instances: name → the labels an instance must have. At least one label each.
	Subsets map[string]map[string]string `json:"subsets" keys:"label" max:"100"`
	// Rules are tried in order and the first match wins. No match: all instances.
	Rules []RouteRule `json:"rules" max:"100"`
}

// RouteRule is one entry of a [Route].
type RouteRule struct {
	// Match says which calls the entry is for. Its entries are OR; none: every call.
	Match []Match `json:"match" max:"100"`
	// Split shares the calls out. None: all instances.
	Split []Destination `json:"split" max:"32"`
	// WhenEmpty says what happens to the share of a destination without instances: it goes to the others in
	// proportion (rest), or its calls fail (fail).
	WhenEmpty WhenEmpty `json:"whenEmpty" one:"rest fail" default:"rest"`
	// StickyBy keeps a caller in its place of the split. Absent: each call draws anew.
	StickyBy *StickyBy `json:"stickyBy"`
	// Timeout is for the whole call, with all its attempts; it wins over the one of Retry. Absent: none.
	Timeout time.Duration `json:"timeout" max:"1h"`
}

// Destination is one share of a split.
type Destination struct {
	// Subset is one of the route's. Absent: all instances.
	Subset string `json:"subset" format:"label"`
	// Weight is the share; those of a split total 100. A single destination may leave it out.
	Weight int `json:"weight" min:"0" max:"100" alone:"100"`
}

// WhenEmpty says what happens to the share of a destination without instances.
type WhenEmpty string

// The choices: its share goes to the others in proportion, or its calls fail.
const (
	Rest WhenEmpty = "rest"
	Fail WhenEmpty = "fail"
)

// StickyBy names the value that decides a caller's place in a split. Exactly one field is set. A call without
// the value draws anew.
type StickyBy struct {
	// Header is the name of a request header or of a gRPC metadata key.
	Header string `json:"header" format:"token"`
	// Cookie is the name of a cookie.
	Cookie string `json:"cookie" format:"token"`
}

func (*Route) kind() Kind { return KindRoute }

func (r *Route) check(c *checker, path string) {
	for _, name := range slices.Sorted(maps.Keys(r.Subsets)) {
		checkLabels(c, r.Subsets[name], entry(join(path, "subsets"), name))
	}
	for i, rr := range r.Rules {
		for j, d := range rr.Split {
			if _, ok := r.Subsets[d.Subset]; !ok && d.Subset != "" {
				at := fmt.Sprintf("%s.rules[%d].split[%d].subset", path, i, j)
				c.invalid(at, quote(d.Subset), "must be one of spec.subsets: "+orNone(slices.Sorted(maps.Keys(r.Subsets))))
			}
		}
	}
}

// maxLabels bounds the labels of a subset, as those of an instance are.
const maxLabels = 64

func checkLabels(c *checker, labels map[string]string, path string) {
	if len(labels) == 0 || len(labels) > maxLabels {
		c.invalid(path, "", fmt.Sprintf("has %d labels; must have 1 to %d", len(labels), maxLabels))
	}
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		if labels[key] == "" {
			c.invalid(entry(path, key), `""`, "must not be empty")
		}
	}
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "it has none"
	}
	return list(names)
}

func (r *RouteRule) check(c *checker, path string) {
	if len(r.Match) == 0 && len(r.Split) == 0 && r.WhenEmpty == "" && r.StickyBy == nil && r.Timeout == 0 {
		c.invalid(path, "", "says nothing; give it a match, a split or a timeout")
	}
	seen := map[string]bool{}
	total := 0
	for i, d := range r.Split {
		if seen[d.Subset] {
			c.invalid(fmt.Sprintf("%s.split[%d].subset", path, i), quote(d.Subset), "must not be in a split twice")
		}
		seen[d.Subset] = true
		total += d.Weight
	}
	if one := len(r.Split) == 1 && total == 0; len(r.Split) > 0 && total != 100 && !one {
		c.invalid(join(path, "split"), strconv.Itoa(total), "weights must total 100")
	}
}

// complete makes "none: all instances" explicit.
func (r *RouteRule) complete() {
	if len(r.Split) == 0 {
		r.Split = []Destination{{Weight: 100}}
	}
}

func (s *StickyBy) check(c *checker, path string) {
	if (s.Header == "") == (s.Cookie == "") {
		c.invalid(path, "", "must have exactly one of header, cookie")
	}
}
