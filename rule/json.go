package rule

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// readJSON reads JSON values, one after the other, into the nodes that YAML gives. JSON is not read as YAML,
// which it nearly is, because YAML does not know the surrogate pairs of JSON's \u escapes.
func readJSON(data []byte) ([]*yaml.Node, error) {
	r := &jsonReader{dec: json.NewDecoder(bytes.NewReader(data)), data: data, line: 1}
	r.dec.UseNumber()
	var docs []*yaml.Node
	for {
		n, err := r.value(0)
		if errors.Is(err, io.EOF) {
			return docs, nil
		}
		if err != nil {
			return docs, fmt.Errorf("line %d: %w", r.line, err)
		}
		if docs = append(docs, n); len(docs) > MaxDocuments {
			return docs, errTooMany
		}
	}
}

type jsonReader struct {
	dec  *json.Decoder
	data []byte
	at   int // how far lines are counted
	line int
}

// value reads the next value. At the end of the input, and only there, its error is io.EOF.
func (r *jsonReader) value(depth int) (*yaml.Node, error) {
	token, err := r.dec.Token()
	if err != nil {
		return nil, r.unexpected(err, depth)
	}
	offset := int(r.dec.InputOffset())
	r.line += bytes.Count(r.data[r.at:offset], []byte("\n"))
	r.at = offset
	switch t := token.(type) {
	case json.Delim:
		return r.collection(t, depth)
	case string:
		return &yaml.Node{Kind: yaml.ScalarNode, Style: yaml.DoubleQuotedStyle, Tag: "!!str", Value: t, Line: r.line}, nil
	case json.Number:
		return r.scalar(numberTag(t.String()), t.String()), nil
	case bool:
		return r.scalar("!!bool", fmt.Sprint(t)), nil
	}
	return r.scalar("!!null", "null"), nil
}

func (r *jsonReader) unexpected(err error, depth int) error {
	if errors.Is(err, io.EOF) && depth > 0 {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (r *jsonReader) scalar(tag, value string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value, Line: r.line}
}

func numberTag(text string) string {
	if strings.ContainsAny(text, ".eE") {
		return "!!float"
	}
	return "!!int"
}

func (r *jsonReader) collection(open json.Delim, depth int) (*yaml.Node, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("is nested more than %d deep", maxDepth)
	}
	n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Line: r.line}
	if open == '{' {
		n.Kind, n.Tag = yaml.MappingNode, "!!map"
	}
	for r.dec.More() {
		child, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		if n.Content = append(n.Content, child); depth == 0 && open == '[' && len(n.Content) > MaxDocuments {
			return nil, errTooMany
		}
	}
	_, err := r.dec.Token() // the closing bracket
	return n, r.unexpected(err, 1)
}

// writeJSON appends a node that the encoder made.
func writeJSON(b *bytes.Buffer, n *yaml.Node) {
	switch n.Kind {
	case yaml.MappingNode:
		b.WriteByte('{')
		for i := 0; i+1 < len(n.Content); i += 2 {
			separate(b, i)
			writeJSON(b, n.Content[i])
			b.WriteByte(':')
			writeJSON(b, n.Content[i+1])
		}
		b.WriteByte('}')
	case yaml.SequenceNode:
		b.WriteByte('[')
		for i, child := range n.Content {
			separate(b, i)
			writeJSON(b, child)
		}
		b.WriteByte(']')
	default:
		writeScalar(b, n)
	}
}

func separate(b *bytes.Buffer, i int) {
	if i > 0 {
		b.WriteByte(',')
	}
}

func writeScalar(b *bytes.Buffer, n *yaml.Node) {
	if n.Tag == "!!int" || n.Tag == "!!bool" {
		b.WriteString(n.Value)
		return
	}
	text, _ := json.Marshal(n.Value) //nolint:errchkjson // a string always can be
	b.Write(text)
}
