package rule

import (
	"bytes"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// MarshalJSON writes the document of r on one line: fields in the order of the struct, absent ones left out,
// durations as text, exact matches as plain text.
func (r Rule) MarshalJSON() ([]byte, error) {
	n, err := r.node()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	writeJSON(&b, n)
	return b.Bytes(), nil
}

// MarshalYAML returns the document of r as a *yaml.Node, for a YAML encoder.
func (r Rule) MarshalYAML() (any, error) { return r.node() }

// YAML writes rules as a stream of documents, which [Parse] reads back.
func YAML(rules ...Rule) ([]byte, error) {
	if len(rules) == 0 {
		return nil, nil
	}
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	for _, r := range rules {
		if err := enc.Encode(r); err != nil {
			return nil, err
		}
	}
	err := enc.Close()
	return b.Bytes(), err
}

func (r Rule) node() (*yaml.Node, error) {
	if r.Spec != nil && !r.fits() {
		return nil, fmt.Errorf("rule %s: spec is %T, which is not one of kind %q", r.Key(), r.Spec, r.Kind)
	}
	return encode(reflect.ValueOf(r), false, 0)
}

// encode is the inverse of decoder.value.
func encode(v reflect.Value, alone bool, depth int) (*yaml.Node, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("rule is nested more than %d deep", maxDepth)
	}
	if v.Kind() != reflect.Pointer && v.CanInterface() {
		p := reflect.New(v.Type())
		p.Elem().Set(v)
		if short, ok := p.Interface().(interface{ text() (string, bool) }); ok {
			if text, ok := short.text(); ok {
				return textNode(text), nil
			}
		}
	}
	switch x := v.Interface().(type) {
	case time.Duration:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: durationText(x)}, nil
	case time.Time:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!timestamp", Value: x.UTC().Format(time.RFC3339Nano)}, nil
	}
	return encodeByKind(v, alone, depth)
}

func encodeByKind(v reflect.Value, alone bool, depth int) (*yaml.Node, error) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		return encode(v.Elem(), false, depth)
	case reflect.Struct:
		return encodeObject(v, alone, depth)
	case reflect.Map:
		return encodeMap(v, depth)
	case reflect.Slice:
		return encodeList(v, depth)
	case reflect.Bool:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: strconv.FormatBool(v.Bool())}, nil
	case reflect.Int:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: strconv.FormatInt(v.Int(), 10)}, nil
	}
	return textNode(v.String()), nil
}

func encodeObject(v reflect.Value, alone bool, depth int) (*yaml.Node, error) {
	n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	for _, f := range fieldsOf(v.Type()) {
		if omitted(v.Field(f.index), f, alone) {
			continue
		}
		child, err := encode(v.Field(f.index), false, depth+1)
		if err != nil {
			return nil, err
		}
		n.Content = append(n.Content, textNode(f.name), child)
	}
	return n, nil
}

// omitted reports whether leaving a field out says the same.
func omitted(v reflect.Value, f field, alone bool) bool {
	switch {
	case v.Kind() == reflect.Int && f.zeroMeans(alone):
		return false
	case isObject(v.Type()):
		return v.IsZero()
	}
	return absent(v, f)
}

func encodeMap(v reflect.Value, depth int) (*yaml.Node, error) {
	values := map[string]reflect.Value{}
	for key, value := range v.Seq2() {
		values[key.String()] = value
	}
	n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		child, err := encode(values[key], false, depth+1)
		if err != nil {
			return nil, err
		}
		n.Content = append(n.Content, textNode(key), child)
	}
	return n, nil
}

func encodeList(v reflect.Value, depth int) (*yaml.Node, error) {
	n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
	for i := range v.Len() {
		child, err := encode(v.Index(i), v.Len() == 1, depth+1)
		if err != nil {
			return nil, err
		}
		n.Content = append(n.Content, child)
	}
	return n, nil
}

// unquoted are the texts that no reader of YAML, 1.1 or 1.2, takes for anything else.
var unquoted = regexp.MustCompile(`^[A-Za-z/][A-Za-z0-9_./-]*$`)

// textNode quotes whatever could be taken for another type, also by the readers of YAML 1.1.
func textNode(text string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
	switch strings.ToLower(text) {
	case "y", "n", "yes", "no", "on", "off", "true", "false", "null":
		n.Style = yaml.DoubleQuotedStyle
	}
	if !unquoted.MatchString(text) {
		n.Style = yaml.DoubleQuotedStyle
	}
	return n
}
