package rule

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// MaxInput is how many bytes Parse and ParseOne accept, and MaxDocuments how many rules Parse does.
const (
	MaxInput     = 1 << 20
	MaxDocuments = 1000
)

// maxElements bounds the brackets, commas and lines of the input. A tree of nodes takes a hundred times the memory of the
// text "{},", and this is known before it is made.
const maxElements = 100_000

// Parse reads rules from YAML (one document or a stream of them) or JSON (one value, several in a row, or an
// array), in order. Empty documents are skipped. It does not say whether the rules make sense: that is
// [Rule.Validate].
//
// It returns all rules or an error: an [*Error] with everything that was found, which has [ErrUnknownKind] in its
// chain if a kind is unknown; or an error with [ErrTooLarge] in its chain.
func Parse(data []byte) ([]Rule, error) {
	if err := checkInput(data); err != nil {
		return nil, err
	}
	docs, broken := read(data)
	docs = flatten(docs)
	if len(docs) > MaxDocuments || errors.Is(broken, ErrTooLarge) {
		return nil, errTooMany
	}
	rules := make([]Rule, len(docs))
	d := new(decoder)
	for i, n := range docs {
		if len(docs) > 1 {
			d.document = i + 1
		}
		if d.plain(n, 0) {
			rules[i] = d.rule(n)
		}
	}
	if broken != nil {
		d.document = 0
		d.add(unreadable(broken))
	}
	if err := d.err(); err != nil {
		return nil, err
	}
	return rules, nil
}

// ParseOne reads the one JSON document of a stored or pushed rule, as [encoding/json.Marshal] writes it. With an
// error it returns what could be read nevertheless, so that a rule of an unknown kind can be named; that must
// not be used otherwise.
func ParseOne(data []byte) (Rule, error) {
	if err := checkInput(data); err != nil {
		return Rule{}, err
	}
	d := new(decoder)
	var r Rule
	switch docs, err := readJSON(data); {
	case err != nil:
		d.add(unreadable(err))
	case len(docs) != 1:
		d.add(Problem{Message: fmt.Sprintf("has %d documents; must have one", len(docs)), Syntax: true})
	case d.plain(docs[0], 0):
		r = d.rule(docs[0])
	}
	return r, d.err()
}

// UnmarshalJSON reads one document, as [ParseOne] does.
func (r *Rule) UnmarshalJSON(data []byte) error {
	if string(data) == "null" { // by convention
		return nil
	}
	parsed, err := ParseOne(data)
	if err == nil {
		*r = parsed
	}
	return err
}

func checkInput(data []byte) error {
	if len(data) > MaxInput {
		return fmt.Errorf("%w: %d bytes; at most %d are read", ErrTooLarge, len(data), MaxInput)
	}
	elements := 0
	for _, c := range []string{"[", "{", ",", "\n"} {
		elements += bytes.Count(data, []byte(c))
	}
	if elements > maxElements {
		return fmt.Errorf("%w: %d brackets, commas and lines; at most %d are read", ErrTooLarge, elements, maxElements)
	}
	if !utf8.Valid(data) {
		return &Error{Problems: []Problem{{Message: "must be UTF-8", Syntax: true}}}
	}
	return nil
}

// read takes for JSON what can be: a flow mapping of YAML starts the same way.
func read(data []byte) ([]*yaml.Node, error) {
	if text := bytes.TrimLeft(data, " \t\r\n"); len(text) > 0 && (text[0] == '{' || text[0] == '[') {
		if docs, err := readJSON(data); err == nil || errors.Is(err, ErrTooLarge) {
			return docs, err
		}
	}
	return readYAML(data)
}

// readYAML returns the documents of a stream, without empty ones; with an error those before it.
func readYAML(data []byte) ([]*yaml.Node, error) {
	var docs []*yaml.Node
	for dec := yaml.NewDecoder(bytes.NewReader(data)); ; {
		var n yaml.Node
		err := dec.Decode(&n)
		if errors.Is(err, io.EOF) {
			return docs, nil
		}
		if err != nil {
			return docs, err
		}
		if len(docs) > MaxDocuments {
			return docs, nil
		}
		if doc := n.Content[0]; doc.Kind != yaml.ScalarNode || doc.Tag != "!!null" || doc.Value != "" {
			docs = append(docs, doc)
		}
	}
}

var errTooMany = fmt.Errorf("%w: more than %d documents", ErrTooLarge, MaxDocuments)

// flatten puts the elements of a list in its place.
func flatten(docs []*yaml.Node) []*yaml.Node {
	var flat []*yaml.Node
	for _, n := range docs {
		if n.Kind == yaml.SequenceNode && n.Anchor == "" && n.Style&yaml.TaggedStyle == 0 {
			flat = append(flat, n.Content...)
		} else {
			flat = append(flat, n)
		}
	}
	return flat
}

// plain refuses what makes YAML larger or other than it looks: aliases, which can grow a document exponentially,
// tags, and depth.
func (d *decoder) plain(n *yaml.Node, depth int) bool {
	message := ""
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		message = "anchors and aliases are not supported; write the value out"
	case n.Style&yaml.TaggedStyle != 0:
		message = "tags are not supported"
	case depth > maxDepth:
		message = fmt.Sprintf("is nested more than %d deep", maxDepth)
	}
	if message != "" {
		d.add(Problem{Line: n.Line, Message: message, Syntax: true})
		return false
	}
	ok := true
	for _, child := range n.Content {
		ok = d.plain(child, depth+1) && ok
	}
	return ok
}

// unreadable turns an error of a reader into a problem.
func unreadable(err error) Problem {
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	var line int
	if rest, ok := strings.CutPrefix(message, "line "); ok {
		number, what, _ := strings.Cut(rest, ": ")
		if n, err := strconv.Atoi(number); err == nil {
			line, message = n, what
		}
	}
	return Problem{Line: line, Message: "cannot be read: " + message, Syntax: true}
}
