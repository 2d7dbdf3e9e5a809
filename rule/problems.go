package rule

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// ErrUnknownKind is in the chain of an error about a document whose kind this version does not know.
var ErrUnknownKind = errors.New("unknown kind of rule")

// ErrTooLarge is in the chain of the error about input of more than [MaxInput] bytes or [MaxDocuments] rules, or with more
// than 100,000 brackets, commas and lines.
var ErrTooLarge = errors.New("rules are too large")

// Problem is one thing that is wrong with a document.
type Problem struct {
	Document int    // counts from 1; 0: the input has only one
	Line     int    // counts from 1; 0: unknown
	Field    string // its path, such as "spec.rules[0].split[1].weight"; "": the whole document
	Value    string // what stands there, shortened; "": nothing to show
	Message  string // what is wrong and what would be right
	Syntax   bool   // unreadable, of the wrong type, unknown or given twice; else readable but invalid
	Err      error  // ErrUnknownKind or nil
}

// String returns one line: document, field, value, message, line.
func (p Problem) String() string {
	var parts []string
	if p.Document > 0 {
		parts = append(parts, "document "+strconv.Itoa(p.Document))
	}
	for _, part := range []string{p.Field, p.Value} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	text := strings.Join(append(parts, p.Message), ": ")
	if p.Line > 0 {
		text += fmt.Sprintf(" (line %d)", p.Line)
	}
	return text
}

// Error is everything that is wrong with some documents.
type Error struct {
	Problems []Problem // at least one, at most 100
	More     int       // how many others were left out
}

// Error returns all problems on one line.
func (e *Error) Error() string {
	texts := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		texts[i] = p.String()
	}
	if e.More > 0 {
		texts = append(texts, fmt.Sprintf("and %d more", e.More))
	}
	return strings.Join(texts, "; ")
}

// Syntax reports whether any of the problems kept a document from being read, as opposed to documents that are
// readable but invalid.
func (e *Error) Syntax() bool {
	for _, p := range e.Problems {
		if p.Syntax {
			return true
		}
	}
	return false
}

// Unwrap returns the errors of the problems, so that errors.Is finds [ErrUnknownKind].
func (e *Error) Unwrap() []error {
	var errs []error
	for _, p := range e.Problems {
		if p.Err != nil {
			errs = append(errs, p.Err)
		}
	}
	return errs
}

// maxProblems bounds what is collected from hostile input.
const maxProblems = 100

// problems collects what is wrong.
type problems struct {
	found    []Problem
	more     int
	document int
}

func (p *problems) add(problem Problem) {
	problem.Document = p.document
	if len(p.found) == maxProblems {
		p.more++
		if problem.Syntax { // decides what the whole error is, so it is not the one to leave out
			p.found[maxProblems-1] = problem
		}
		return
	}
	p.found = append(p.found, problem)
}

func (p *problems) invalid(path, value, message string) {
	p.add(Problem{Field: path, Value: value, Message: message})
}

func (p *problems) count() int { return len(p.found) + p.more }

// err returns nil if nothing was found; never a typed nil.
func (p *problems) err() error {
	if len(p.found) == 0 {
		return nil
	}
	return &Error{Problems: p.found, More: p.more}
}

// maxShown is how many bytes of a value an error repeats.
const maxShown = 64

// quote shows a text in an error.
func quote(text string) string {
	if len(text) <= maxShown {
		return strconv.Quote(text)
	}
	cut := maxShown
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return strconv.Quote(text[:cut]) + "…"
}

// join appends a field to a path.
func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// entry appends the key of a map to a path.
func entry(path, key string) string {
	if key != "" && len(key) <= maxShown && strings.Trim(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == "" {
		return join(path, key)
	}
	return path + "[" + quote(key) + "]"
}
