package rule

import (
	"reflect"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// field is one field of a struct as documents have it. Everything that reading, checking, completing, writing and
// documentation must agree on is in its tags:
//
//	json:"attempts"    its name in documents
//	required:"true"    it cannot be left out
//	default:"3"        what it reads as when left out, written as in a document
//	alone:"100"        the same, but only if its struct is the one entry of a list
//	min:"1" max:"10"   bounds of a number or a duration (always more than 0), of a text in bytes, of the number
//	                   of entries of a list or a map
//	one:"rest fail"    the words a text may be
//	format:"label"     what a text, or each text of a list, must look like; see formats
//	keys:"token"       the same for the keys of a map
//	zero:"kept"        a list that is written as empty is not one that was left out
type field struct {
	index int
	name  string
	tag   reflect.StructTag
}

// fieldsOf returns the fields of a struct in order.
func fieldsOf(t reflect.Type) []field {
	fields := make([]field, t.NumField())
	for i := range fields {
		f := t.Field(i)
		fields[i] = field{i, f.Tag.Get("json"), f.Tag}
	}
	return fields
}

// fallback is the value of an absent field; alone says whether its struct is the one entry of a list.
func (f field) fallback(alone bool) (string, bool) {
	if text, ok := f.tag.Lookup("alone"); ok && alone {
		return text, true
	}
	return f.tag.Lookup("default")
}

// zeroMeans reports whether an explicit zero differs from leaving the field out.
func (f field) zeroMeans(alone bool) bool {
	_, ok := f.tag.Lookup("alone")
	return f.tag.Get("zero") == "kept" || ok && !alone
}

func (f field) required() bool { return f.tag.Get("required") == "true" }

// bound returns a bound as a number, or as a duration in nanoseconds.
func (f field) bound(name string) (int, bool) {
	text, ok := f.tag.Lookup(name)
	if !ok {
		return 0, false
	}
	if n, err := strconv.Atoi(text); err == nil {
		return n, true
	}
	d, err := time.ParseDuration(text)
	return int(d), err == nil
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	timeType     = reflect.TypeFor[time.Time]()
)

// isObject reports whether a type is a mapping with fields of its own in a document.
func isObject(t reflect.Type) bool { return t.Kind() == reflect.Struct && t != timeType }

// empty reports whether a value is what an absent field has. An object is never empty: its own fields are.
func empty(v reflect.Value) bool {
	switch {
	case v.Kind() == reflect.Slice, v.Kind() == reflect.Map:
		return v.Len() == 0
	case isObject(v.Type()):
		return false
	}
	return v.IsZero()
}

// absent is empty, but for a list whose emptiness means something.
func absent(v reflect.Value, f field) bool {
	if v.Kind() == reflect.Slice && f.zeroMeans(false) {
		return v.IsNil()
	}
	return empty(v)
}

// formats are the forms of texts: what is accepted, and what an error says of anything else.
func formatOf(name string) (ok func(string) bool, want string) {
	switch name {
	case "label":
		return isLabel, "must be 1 to 63 of a-z, 0-9 and -, starting and ending with a letter or digit"
	case "service":
		return func(s string) bool { return s == AllServices || isLabel(s) },
			`must be "*", or 1 to 63 of a-z, 0-9 and -, starting and ending with a letter or digit`
	case "token":
		return isToken, "must be a name of letters, digits and !#$%&'*+-.^_`|~ (pseudo-headers have no names here: use path and method)"
	case "condition":
		return isCondition, "must be a gRPC code in lower case (" + strings.Join(grpcCodes[:], ", ") + "), a code from \"400\" to \"599\", 4xx, 5xx, reset or timeout"
	}
	return func(string) bool { return true }, ""
}

// isLabel reports whether s is a DNS label (RFC 1123) in lower case.
func isLabel(s string) bool {
	return 0 < len(s) && len(s) <= 63 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == "" &&
		s[0] != '-' && s[len(s)-1] != '-'
}

// isToken reports whether s is a token (RFC 9110, section 5.6.2), as names of headers and cookies are.
func isToken(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~") == ""
}

// durationText writes a duration without the zeros that time.Duration adds: 5m, not 5m0s.
func durationText(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// scalar makes the node of a value that stands for itself, such as a default in a tag.
func scalar(text string) *yaml.Node {
	var n yaml.Node
	if err := yaml.Unmarshal([]byte(text), &n); err != nil || len(n.Content) == 0 {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null"}
	}
	return n.Content[0]
}
