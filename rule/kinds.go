package rule

import (
	"strings"
)

// The kinds.
const (
	KindRoute Kind = "Route"
	KindRetry Kind = "Retry"
)

// kinds is the one table of kinds. A new kind is its struct file and one row here.
var kinds = [...]struct {
	kind  Kind
	spec  func() Spec
	many  bool // a service may have several enforced documents
	about string
}{
	{KindRoute, func() Spec { return new(Route) }, false, "Where calls to a service go: match, split, sticky, subsets, timeout."},
	{KindRetry, func() Spec { return new(Retry) }, false, "Which failed attempts are tried again, how often, and within which budget."},
}

// Kinds returns all kinds, in the order in which documentation lists them.
func Kinds() []Kind {
	all := make([]Kind, len(kinds))
	for i := range kinds {
		all[i] = kinds[i].kind
	}
	return all
}

// KindOf returns the kind that s names, ignoring case, as paths of REST do.
func KindOf(s string) (Kind, bool) {
	for i := range kinds {
		if strings.EqualFold(string(kinds[i].kind), s) {
			return kinds[i].kind, true
		}
	}
	return "", false
}

// New returns an empty spec of a kind, or nil for an unknown kind.
func New(k Kind) Spec {
	for i := range kinds {
		if kinds[i].kind == k {
			return kinds[i].spec()
		}
	}
	return nil
}

// Many reports whether one service may have several enforced documents of a kind.
func Many(k Kind) bool {
	for i := range kinds {
		if kinds[i].kind == k {
			return kinds[i].many
		}
	}
	return false
}

// About describes a kind in one sentence; "" for an unknown kind.
func About(k Kind) string {
	for i := range kinds {
		if kinds[i].kind == k {
			return kinds[i].about
		}
	}
	return ""
}

func unknownKind(k Kind) Problem {
	message := "is not a kind; the kinds are " + list(Kinds())
	if same, ok := KindOf(string(k)); ok {
		message = "is not a kind; write " + string(same)
	}
	return Problem{Field: "kind", Value: quote(string(k)), Message: message, Syntax: true, Err: ErrUnknownKind}
}

// list joins words for a message.
func list[S ~string](words []S) string {
	texts := make([]string, len(words))
	for i, w := range words {
		texts[i] = string(w)
	}
	return strings.Join(texts, ", ")
}
