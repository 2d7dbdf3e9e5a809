package routing

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Match is one entry of a match list. All fields that are set must fit; one without any fits every call.
type Match struct {
	Headers map[string]StringMatch // names ignore case
	Cookies map[string]StringMatch
	Query   map[string]StringMatch
	Path    *StringMatch
	Method  *StringMatch
	Caller  *CallerMatch
}

// CallerMatch compares the calling service; an empty field fits any. Of a caller that is unknown everything is
// empty.
type CallerMatch struct {
	Service   string
	Namespace string
	Labels    map[string]string // the caller must have all of them
}

// Matcher is a compiled match list. It is immutable and safe for concurrent use.
type Matcher struct {
	entries []entry
}

type entry struct {
	headers, cookies, query []namedTest
	path, method            *stringTest
	caller                  *CallerMatch
}

type namedTest struct {
	name string
	test stringTest
}

// CompileMatch compiles a match list, whose entries are OR. An error names the field, its value and the bound.
func CompileMatch(list []Match) (*Matcher, error) {
	m := &Matcher{entries: make([]entry, len(list))}
	for i, match := range list {
		e := &m.entries[i]
		if err := e.compile(match); err != nil {
			return nil, fmt.Errorf("match[%d].%w", i, err)
		}
	}
	return m, nil
}

func (e *entry) compile(m Match) error {
	var errs [5]error
	e.headers, errs[0] = compileNamed("headers", m.Headers, strings.ToLower)
	e.cookies, errs[1] = compileNamed("cookies", m.Cookies, strings.Clone)
	e.query, errs[2] = compileNamed("query", m.Query, strings.Clone)
	e.path, errs[3] = compileOptional("path", m.Path)
	e.method, errs[4] = compileOptional("method", m.Method)
	if m.Caller != nil {
		e.caller = &CallerMatch{m.Caller.Service, m.Caller.Namespace, maps.Clone(m.Caller.Labels)}
	}
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func compileNamed(field string, tests map[string]StringMatch, fold func(string) string) ([]namedTest, error) {
	var compiled []namedTest
	for _, name := range slices.Sorted(maps.Keys(tests)) {
		test, err := compileString(tests[name])
		if name == "" {
			err = errors.New("a name is missing")
		}
		if err != nil {
			return nil, fmt.Errorf("%s[%q]: %w", field, name, err)
		}
		compiled = append(compiled, namedTest{fold(name), test})
	}
	return compiled, nil
}

func compileOptional(field string, m *StringMatch) (*stringTest, error) {
	if m == nil {
		return nil, nil
	}
	test, err := compileString(*m)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", field, err)
	}
	return &test, nil
}

// Matches reports whether any entry fits the call. An empty list and a nil Matcher fit every call. It allocates
// nothing.
func (m *Matcher) Matches(req *Request) bool {
	if m == nil || len(m.entries) == 0 {
		return true
	}
	for i := range m.entries {
		if m.entries[i].matches(req) {
			return true
		}
	}
	return false
}

// matches asks the cheap questions first.
func (e *entry) matches(req *Request) bool {
	return (e.method == nil || e.method.matches(req.Method)) &&
		(e.path == nil || e.path.matches(req.Path)) &&
		(e.caller == nil || e.caller.matches(req.Caller)) &&
		e.matchesHeaders(req.Attributes) && e.matchesQuery(req.Attributes) && e.matchesCookies(req.Attributes)
}

func (e *entry) matchesHeaders(a Attributes) bool {
	for i := range e.headers {
		if t := &e.headers[i]; !t.test.matchesAny(header(a, t.name)) {
			return false
		}
	}
	return true
}

func (e *entry) matchesQuery(a Attributes) bool {
	for i := range e.query {
		var values []string
		if a != nil {
			values = a.Query(e.query[i].name)
		}
		if !e.query[i].test.matchesAny(values) {
			return false
		}
	}
	return true
}

func (e *entry) matchesCookies(a Attributes) bool {
	if len(e.cookies) == 0 {
		return true
	}
	lines := header(a, "cookie")
	for i := range e.cookies {
		if t := &e.cookies[i]; !t.test.matchesCookie(lines, t.name) {
			return false
		}
	}
	return true
}

func header(a Attributes, name string) []string {
	if a == nil {
		return nil
	}
	return a.Header(name)
}

func (c *CallerMatch) matches(caller *Caller) bool {
	if caller == nil {
		caller = &Caller{}
	}
	return (c.Service == "" || c.Service == caller.Service) &&
		(c.Namespace == "" || c.Namespace == caller.Namespace) &&
		hasAll(caller.Labels, c.Labels)
}
