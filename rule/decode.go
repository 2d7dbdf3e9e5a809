package rule

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// decoder reads nodes into structs by their tags, strictly, and collects what is wrong.
type decoder struct{ problems }

// rule reads one document. What it could read of a broken one is returned too.
func (d *decoder) rule(n *yaml.Node) Rule {
	var r Rule
	if !d.is(n, yaml.MappingNode, "") {
		return r
	}
	switch kind := lookup(n, "kind"); {
	case kind == nil:
		d.add(Problem{Line: n.Line, Field: "kind", Message: "is missing; the kinds are " + list(Kinds())})
	case New(Kind(kind.Value)) != nil:
		r.Spec = New(Kind(kind.Value))
	case kind.Tag == "!!str":
		problem := unknownKind(Kind(kind.Value))
		problem.Line = kind.Line
		d.add(problem)
	}
	if lookup(n, "spec") == nil {
		r.Spec = nil
	}
	d.object(n, reflect.ValueOf(&r).Elem(), "", false)
	return r
}

// lookup returns the value of a key of a mapping, or nil.
func lookup(n *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

func (d *decoder) value(n *yaml.Node, v reflect.Value, path string, alone bool) {
	short, isShort := v.Addr().Interface().(interface{ fromText(string) })
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
		d.syntax(n, path, "has no value; leave it out or give it one")
	case isShort && n.Kind == yaml.ScalarNode:
		if text, ok := d.text(n, path); ok {
			short.fromText(text)
		}
	case v.Type() == durationType:
		d.duration(n, v, path)
	case v.Type() == timeType:
		d.time(n, v, path)
	default:
		d.byKind(n, v, path, alone)
	}
}

func (d *decoder) byKind(n *yaml.Node, v reflect.Value, path string, alone bool) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.value(n, v.Elem(), path, false)
	case reflect.Interface: // the spec; nil if its kind is unknown, which was reported
		if !v.IsNil() {
			d.value(n, v.Elem().Elem(), path, false)
		}
	case reflect.Struct:
		d.object(n, v, path, alone)
	case reflect.Map:
		d.table(n, v, path)
	case reflect.Slice:
		d.list(n, v, path)
	case reflect.String:
		if text, ok := d.text(n, path); ok {
			v.SetString(text)
		}
	case reflect.Bool:
		if d.isScalar(n, "!!bool", path, "true or false") {
			v.SetBool(strings.EqualFold(n.Value, "true"))
		}
	case reflect.Int:
		d.number(n, v, path)
	}
}

func (d *decoder) object(n *yaml.Node, v reflect.Value, path string, alone bool) {
	fields := fieldsOf(v.Type())
	d.pairs(n, path, func(key string, at string, value *yaml.Node, line int) {
		for _, f := range fields {
			if f.name == key {
				d.field(value, v.Field(f.index), f, at, alone)
				return
			}
		}
		d.add(Problem{Line: line, Field: at, Message: "is not a field" + hint(fields, key), Syntax: true})
	})
}

// hint names the fields that exist.
func hint(fields []field, key string) string {
	names := make([]string, len(fields))
	for i, f := range fields {
		if names[i] = f.name; strings.EqualFold(f.name, key) {
			return "; write " + f.name
		}
	}
	return "; the fields are " + list(names)
}

// field reads a field and refuses one that is written but says nothing: it is more likely a template that came
// out empty than somebody's wish.
func (d *decoder) field(n *yaml.Node, v reflect.Value, f field, path string, alone bool) {
	before := d.count()
	d.value(n, v, path, alone)
	skipped := v.Kind() == reflect.Interface
	if d.count() == before && !skipped && empty(v) && !f.zeroMeans(alone) {
		d.add(Problem{Line: n.Line, Field: path, Value: shown(n), Message: "is empty; leave it out or give it a value"})
	}
}

// pairs calls f for every pair of a mapping, with its path.
func (d *decoder) pairs(n *yaml.Node, path string, f func(key, at string, value *yaml.Node, line int)) {
	if !d.is(n, yaml.MappingNode, path) {
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, ok := d.text(n.Content[i], path)
		at := entry(path, key)
		switch {
		case !ok:
		case seen[key]:
			d.syntax(n.Content[i], at, "is given twice")
		default:
			seen[key] = true
			f(key, at, n.Content[i+1], n.Content[i].Line)
		}
	}
}

func (d *decoder) table(n *yaml.Node, v reflect.Value, path string) {
	v.Set(reflect.MakeMap(v.Type()))
	d.pairs(n, path, func(key, at string, value *yaml.Node, _ int) {
		element := reflect.New(v.Type().Elem()).Elem()
		d.value(value, element, at, false)
		v.SetMapIndex(reflect.ValueOf(key), element)
	})
}

func (d *decoder) list(n *yaml.Node, v reflect.Value, path string) {
	if !d.is(n, yaml.SequenceNode, path) {
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, element := range n.Content {
		d.value(element, v.Index(i), fmt.Sprintf("%s[%d]", path, i), len(n.Content) == 1)
	}
}

func (d *decoder) number(n *yaml.Node, v reflect.Value, path string) {
	if !d.isScalar(n, "!!int", path, "a whole number without quotes") {
		return
	}
	// YAML 1.1 reads 010 as 8 and 1_0 as 10; here both are refused.
	i, err := strconv.Atoi(n.Value)
	if digits := strings.TrimLeft(n.Value, "+-"); err != nil || digits[0] == '0' && len(digits) > 1 {
		d.syntax(n, path, "must be a whole number in decimal digits")
		return
	}
	v.SetInt(int64(i))
}

func (d *decoder) duration(n *yaml.Node, v reflect.Value, path string) {
	const want = "must be a duration with a unit, such as 800ms, 2s or 1m30s"
	if n.Kind != yaml.ScalarNode || n.Tag != "!!str" {
		d.syntax(n, path, want)
		return
	}
	t, err := time.ParseDuration(n.Value)
	if err != nil {
		d.syntax(n, path, want)
		return
	}
	v.SetInt(int64(t))
}

func (d *decoder) time(n *yaml.Node, v reflect.Value, path string) {
	t, err := time.Parse(time.RFC3339Nano, n.Value)
	t = t.UTC() // as it is written; that can need a fifth digit for the year
	if n.Kind != yaml.ScalarNode || err != nil || t.Year() < 0 || t.Year() > 9999 {
		d.syntax(n, path, "must be a time such as 2026-11-21T08:00:00Z")
		return
	}
	v.Set(reflect.ValueOf(t))
}

// text reads a text. Of what looks like another type only a date is one: YAML 1.2 knows none.
func (d *decoder) text(n *yaml.Node, path string) (string, bool) {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!timestamp" {
		return n.Value, true
	}
	return n.Value, d.isScalar(n, "!!str", path, "a text; put it in quotes if it looks like something else")
}

func (d *decoder) isScalar(n *yaml.Node, tag, path, want string) bool {
	if n.Kind == yaml.ScalarNode && n.Tag == tag {
		return true
	}
	d.syntax(n, path, "must be "+want)
	return false
}

func (d *decoder) is(n *yaml.Node, kind yaml.Kind, path string) bool {
	if n.Kind == kind {
		return true
	}
	want := map[yaml.Kind]string{yaml.MappingNode: "a mapping with named entries", yaml.SequenceNode: "a list"}[kind]
	d.syntax(n, path, "must be "+want)
	return false
}

func (d *decoder) syntax(n *yaml.Node, path, message string) {
	d.add(Problem{Line: n.Line, Field: path, Value: shown(n), Message: message, Syntax: true})
}

// shown is a node as an error repeats it.
func shown(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode && len(n.Content) == 0:
		return "{}"
	case n.Kind == yaml.SequenceNode && len(n.Content) == 0:
		return "[]"
	case n.Kind == yaml.MappingNode:
		return "{…}"
	case n.Kind == yaml.SequenceNode:
		return "[…]"
	case n.Tag == "!!null":
		return "null"
	case n.Tag == "!!str":
		return quote(n.Value)
	}
	return strings.Trim(quote(n.Value), `"`)
}
