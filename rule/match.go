package rule

import (
	"fmt"
	"maps"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
)

// Match is one entry of a match list; its fields are AND, and at least one is set. Of several values of a
// header, cookie or query parameter any may match.
type Match struct {
	// Headers compares request headers or gRPC metadata. Names ignore case, values do not.
	Headers map[string]StringMatch `json:"headers" keys:"token" max:"32"`
	// Cookies compares cookies by name.
	Cookies map[string]StringMatch `json:"cookies" keys:"token" max:"32"`
	// Query compares the parameters of the URL.
	Query map[string]StringMatch `json:"query" max:"32"`
	// Path compares the path of the URL; for gRPC the full method, /pkg.Service/Method.
	Path *StringMatch `json:"path"`
	// Method compares the method of HTTP; POST for gRPC.
	Method *StringMatch `json:"method"`
	// Caller compares the calling service.
	Caller *CallerMatch `json:"caller"`
}

// StringMatch compares a text. Exactly one field is set; in a document a plain text means exact.
type StringMatch struct {
	// Exact is the whole value.
	Exact *string `json:"exact"`
	// Prefix is what the value starts with.
	Prefix *string `json:"prefix" min:"1"`
	// Regex matches the whole value, in RE2 syntax; at most 50 compiled instructions.
	Regex *string `json:"regex" min:"1" max:"128"`
	// Present is true if there must be a value, false if there must be none.
	Present *bool `json:"present"`
	// In lists whole values, of which one must match.
	In []string `json:"in" max:"100"`
	// Not turns another match around; it cannot be nested.
	Not *StringMatch `json:"not"`
}

// CallerMatch compares the calling service. At least one field is set.
type CallerMatch struct {
	// Service is the caller's name, without its namespace. Absent: any.
	Service string `json:"service" format:"label"`
	// Namespace is where the caller lives. Absent: any.
	Namespace string `json:"namespace" format:"label"`
	// Labels are those the calling instance must have.
	Labels map[string]string `json:"labels" max:"64"`
}

func (m *Match) check(c *checker, path string) {
	if len(m.Headers) == 0 && len(m.Cookies) == 0 && len(m.Query) == 0 && m.Path == nil && m.Method == nil && m.Caller == nil {
		c.invalid(path, "", "says nothing; must have one of headers, cookies, query, path, method, caller")
	}
	m.checkHeaders(c, join(path, "headers"))
	m.Path.each(join(path, "path"), func(at, text string) {
		if !strings.HasPrefix(text, "/") {
			c.invalid(at, quote(text), "must start with /")
		}
	})
	m.Method.each(join(path, "method"), func(at, text string) {
		if text == "" || strings.Trim(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-") != "" {
			c.invalid(at, quote(text), "must be a method in capital letters, such as GET")
		}
	})
}

func (m *Match) checkHeaders(c *checker, path string) {
	seen := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(m.Headers)) {
		lower := strings.ToLower(name)
		if first, ok := seen[lower]; ok {
			c.invalid(entry(path, name), "", "is "+quote(first)+" again: header names ignore case")
		}
		seen[lower] = name
	}
}

// each calls f for every text that m compares with as a whole or as a prefix.
func (m *StringMatch) each(path string, f func(path, text string)) {
	for depth := 0; m != nil && depth < maxDepth; depth++ {
		if m.Exact != nil {
			f(path, *m.Exact)
		}
		if m.Prefix != nil {
			f(join(path, "prefix"), *m.Prefix)
		}
		for i, text := range m.In {
			f(fmt.Sprintf("%s.in[%d]", path, i), text)
		}
		m, path = m.Not, join(path, "not")
	}
}

func (m *StringMatch) check(c *checker, path string) {
	set := 0
	for _, given := range []bool{m.Exact != nil, m.Prefix != nil, m.Regex != nil, m.Present != nil, len(m.In) > 0, m.Not != nil} {
		if given {
			set++
		}
	}
	if set != 1 {
		c.invalid(path, "", fmt.Sprintf("has %d of exact, prefix, regex, present, in, not; must have exactly one", set))
	}
	if m.Regex != nil && len(*m.Regex) <= maxRegex {
		if _, err := CompileRegex(*m.Regex); err != nil {
			c.invalid(join(path, "regex"), quote(*m.Regex), err.Error())
		}
	}
	if m.Not != nil && m.Not.Not != nil {
		c.invalid(join(path, "not.not"), "", "must not be nested")
	}
}

// fromText is the short form of a document.
func (m *StringMatch) fromText(text string) { m.Exact = &text }

// text returns what the short form says, if m has one.
func (m *StringMatch) text() (string, bool) {
	if m.Exact == nil || m.Prefix != nil || m.Regex != nil || m.Present != nil || m.In != nil || m.Not != nil {
		return "", false
	}
	return *m.Exact, true
}

func (m *CallerMatch) check(c *checker, path string) {
	if m.Service == "" && m.Namespace == "" && len(m.Labels) == 0 {
		c.invalid(path, "", "says nothing; must have one of service, namespace, labels")
	}
}

// The bounds of a regular expression. Go's run in time linear in both program and input, so that bounding the
// program bounds the cost of a call.
const (
	maxRegex        = 128 // bytes
	maxInstructions = 50
)

// CompileRegex compiles a regular expression of a rule (RE2 syntax), which always matches the whole value: it
// is anchored here. It refuses more than 128 bytes and more than 50 compiled instructions.
func CompileRegex(text string) (*regexp.Regexp, error) {
	if len(text) > maxRegex {
		return nil, fmt.Errorf("has %d bytes; must have at most %d", len(text), maxRegex)
	}
	// Alone first: a text such as "a)|(b" is balanced only within the anchors.
	parsed, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return nil, fmt.Errorf("must be a regular expression: %w", err)
	}
	prog, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, fmt.Errorf("must be a regular expression: %w", err)
	}
	if n := len(prog.Inst); n > maxInstructions {
		return nil, fmt.Errorf("has %d compiled instructions; must have at most %d", n, maxInstructions)
	}
	return regexp.Compile("^(?:" + text + ")$")
}
