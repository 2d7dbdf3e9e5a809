package routing

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
)

// The bounds of a regular expression in a rule: they keep the cost of one comparison below about 100 µs.
const (
	maxRegexLength       = 128 // bytes
	maxRegexInstructions = 50  // compiled, without the anchors
	maxRegexInput        = 256 // bytes; a longer text never matches
)

// maxNot bounds how deep Not may be nested.
const maxNot = 8

// StringMatch compares a text. Exactly one field must be set.
//
// Of several values any may fit. Not turns the result around: it fits when no value fits what is inside, hence
// also when there is no value at all. Values are compared with regard to case. A path and a method are always
// present.
type StringMatch struct {
	Exact   *string
	Prefix  *string
	Regex   *string // of the whole text; RE2 syntax; at most 128 bytes, 50 instructions and 256 bytes of text
	Present *bool
	In      []string
	Not     *StringMatch
}

// stringTest is a StringMatch whose nested nots have become one flag.
type stringTest struct {
	kind   testKind
	negate bool
	text   string
	regex  *regexp.Regexp
	in     []string // sorted
}

type testKind uint8

const (
	present testKind = iota
	exact
	prefix
	regex
	in
)

func compileString(m StringMatch) (stringTest, error) {
	negate := false
	for range maxNot {
		if n := m.fields(); n != 1 {
			return stringTest{}, fmt.Errorf("want exactly one of exact, prefix, regex, present, in, not; got %d", n)
		}
		if m.Not == nil {
			return m.compile(negate)
		}
		negate, m = !negate, *m.Not
	}
	return stringTest{}, fmt.Errorf("not: nested deeper than %d", maxNot-1)
}

func (m *StringMatch) fields() int {
	n := 0
	for _, set := range []bool{m.Exact != nil, m.Prefix != nil, m.Regex != nil, m.Present != nil, m.In != nil, m.Not != nil} {
		if set {
			n++
		}
	}
	return n
}

func (m *StringMatch) compile(negate bool) (stringTest, error) {
	switch {
	case m.Exact != nil:
		return stringTest{kind: exact, negate: negate, text: *m.Exact}, nil
	case m.Prefix != nil:
		return stringTest{kind: prefix, negate: negate, text: *m.Prefix}, nil
	case m.Present != nil:
		return stringTest{kind: present, negate: negate != !*m.Present}, nil
	case m.Regex != nil:
		re, err := compileRegex(*m.Regex)
		return stringTest{kind: regex, negate: negate, regex: re}, err
	case len(m.In) == 0:
		return stringTest{}, errors.New("in: the list is empty")
	default:
		return stringTest{kind: in, negate: negate, in: slices.Sorted(slices.Values(m.In))}, nil
	}
}

func compileRegex(expr string) (*regexp.Regexp, error) {
	if len(expr) > maxRegexLength {
		return nil, fmt.Errorf("regex: has %d bytes, more than %d", len(expr), maxRegexLength)
	}
	parsed, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return nil, fmt.Errorf("regex: %w", err)
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, fmt.Errorf("regex: %w", err)
	}
	if n := len(program.Inst); n > maxRegexInstructions {
		return nil, fmt.Errorf("regex %q: compiles to %d instructions, more than %d", expr, n, maxRegexInstructions)
	}
	return regexp.Compile("^(?:" + expr + ")$")
}

// matches compares one value that is there.
func (t *stringTest) matches(value string) bool { return t.fits(value) != t.negate }

// matchesAny compares all values of a header or query parameter.
func (t *stringTest) matchesAny(values []string) bool {
	if slices.ContainsFunc(values, t.fits) {
		return !t.negate
	}
	return t.negate
}

// matchesCookie compares all values of a cookie.
func (t *stringTest) matchesCookie(lines []string, wanted string) bool {
	for _, line := range lines {
		for line != "" {
			var name, value string
			if name, value, line = nextCookie(line); name == wanted && readable(name, value) && t.fits(value) {
				return !t.negate
			}
		}
	}
	return t.negate
}

func (t *stringTest) fits(value string) bool {
	switch t.kind {
	case exact:
		return value == t.text
	case prefix:
		return strings.HasPrefix(value, t.text)
	case regex:
		return len(value) <= maxRegexInput && t.regex.MatchString(value)
	case in:
		_, found := slices.BinarySearch(t.in, value)
		return found
	default: // present
		return true
	}
}
