package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// maxDepth bounds the nesting of a JSON body, and maxWrong how many fields an error lists.
const (
	maxDepth = 16
	maxWrong = 20
)

// decodeJSON reads one JSON value into v, a pointer. Unlike [json.Unmarshal] it refuses a field that is unknown,
// is given twice or differs from a known one in case, and whatever follows the value.
func decodeJSON(data []byte, v any) error {
	s := &strict{dec: json.NewDecoder(bytes.NewReader(data)), fields: make(map[reflect.Type][]field, 4)}
	s.dec.UseNumber()
	err := s.value(reflect.TypeOf(v).Elem(), "body", 0)
	if err == nil {
		err = s.end()
	}
	switch {
	case err != nil:
		return problem(http.StatusBadRequest, "the body is not JSON: "+readable(err), wrong("body", readable(err), nil))
	case len(s.wrong) > 0:
		return problem(http.StatusBadRequest, "the body cannot be taken as it is: "+s.wrong[0].Location+": "+s.wrong[0].Message, s.wrong...)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return problem(http.StatusBadRequest, err.Error(), wrong("body", err.Error(), nil))
	}
	return nil
}

func readable(err error) string {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "it ends too early"
	}
	return err.Error()
}

// strict walks JSON beside the type it is meant for, and collects the fields that do not fit.
type strict struct {
	dec    *json.Decoder
	fields map[reflect.Type][]field // of the structs met so far: reflect takes longer than all the rest
	wrong  []*huma.ErrorDetail
}

// field is one that JSON may set.
type field struct {
	name string
	kind reflect.Type
}

// value walks one value. A nil type means that anything goes: the field has been refused already.
func (s *strict) value(t reflect.Type, path string, depth int) error {
	token, err := s.dec.Token()
	if err != nil {
		return err
	}
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	delim, _ := token.(json.Delim)
	if want := mustBe(t, token); want != "" {
		s.refuse(path, "must be "+want, shown(token))
		t = nil
	}
	switch {
	case depth > maxDepth && delim != 0:
		return fmt.Errorf("%s is nested more than %d deep", path, maxDepth)
	case delim == '{':
		return s.object(t, path, depth)
	case delim == '[':
		return s.array(t, path, depth)
	}
	return nil
}

// mustBe says what a token should have been for a type; "" if it is. The types are those of bodies.
func mustBe(t reflect.Type, token json.Token) string {
	if t == nil {
		return ""
	}
	var ok bool
	var want string
	switch t.Kind() {
	case reflect.String:
		_, ok = token.(string)
		want = "a text"
	case reflect.Bool:
		_, ok = token.(bool)
		want = "true or false"
	case reflect.Int:
		n, isNumber := token.(json.Number)
		_, err := strconv.Atoi(n.String())
		ok, want = isNumber && err == nil, "a whole number"
	case reflect.Slice:
		ok, want = token == json.Delim('['), "a list"
	default:
		ok, want = token == json.Delim('{'), "an object"
	}
	if ok {
		return ""
	}
	return want
}

// shown is a token in an error.
func shown(token json.Token) any {
	switch t := token.(type) {
	case json.Delim:
		return string(t) + "…"
	case nil:
		return "null"
	}
	return token
}

func (s *strict) object(t reflect.Type, path string, depth int) error {
	seen := map[string]bool{}
	for s.dec.More() {
		token, err := s.dec.Token()
		if err != nil {
			return err
		}
		name := token.(string) // the decoder takes nothing else for a key
		at := path + "." + name
		inner, ok := s.member(t, name, at)
		if ok && seen[name] {
			s.refuse(at, "is given twice", name)
		}
		seen[name] = true
		if err := s.value(inner, at, depth+1); err != nil {
			return err
		}
	}
	_, err := s.dec.Token()
	return err
}

// member gives the type of a member of an object; false if there is none, which it has noted then.
func (s *strict) member(t reflect.Type, name, at string) (reflect.Type, bool) {
	if t == nil {
		return nil, false
	}
	switch t.Kind() {
	case reflect.Map:
		return t.Elem(), true
	case reflect.Struct:
		if inner := s.field(t, name); inner != nil {
			return inner, true
		}
		s.refuse(at, "is not a field; the fields are "+strings.Join(s.names(t), ", "), name)
	}
	return nil, false
}

// field gives the type of the field with exactly this name in its tag; nil if there is none.
func (s *strict) field(t reflect.Type, name string) reflect.Type {
	for _, f := range s.visible(t) {
		if f.name == name {
			return f.kind
		}
	}
	return nil
}

func (s *strict) names(t reflect.Type) (names []string) {
	for _, f := range s.visible(t) {
		names = append(names, f.name)
	}
	return names
}

// visible gives the fields that JSON may set. Those of embedded structs come in their place.
func (s *strict) visible(t reflect.Type) []field {
	fields, known := s.fields[t]
	if known {
		return fields
	}
	fields = make([]field, 0, 16)
	for i := range t.NumField() {
		f := t.Field(i)
		switch name, _, _ := strings.Cut(f.Tag.Get("json"), ","); {
		case f.Anonymous:
			fields = append(fields, s.visible(f.Type)...)
		case name != "-":
			fields = append(fields, field{name, f.Type})
		}
	}
	s.fields[t] = fields
	return fields
}

func (s *strict) array(t reflect.Type, path string, depth int) error {
	var inner reflect.Type
	if t != nil && t.Kind() == reflect.Slice {
		inner = t.Elem()
	}
	for i := 0; s.dec.More(); i++ {
		at := path
		if inner != nil { // else nothing in it is named
			at = fmt.Sprintf("%s[%d]", path, i)
		}
		if err := s.value(inner, at, depth+1); err != nil {
			return err
		}
	}
	_, err := s.dec.Token()
	return err
}

func (s *strict) refuse(location, message string, value any) {
	if len(s.wrong) < maxWrong {
		s.wrong = append(s.wrong, wrong(location, message, value))
	}
}

func (s *strict) end() error {
	if _, err := s.dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the value")
	}
	return nil
}
