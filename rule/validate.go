package rule

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Validate reports everything that is wrong with r as an [*Error], each problem with field, value and bound. It
// takes any rule, however it was made, and judges it as [Rule.WithDefaults] would complete it.
func (r Rule) Validate() error {
	c := new(checker)
	c.value(reflect.ValueOf(r), field{}, "")
	return c.err()
}

// The bounds that hold where a field's tags say nothing.
const (
	maxText  = 1024 // bytes of a text
	maxDepth = 32   // of a document; the schema needs 12
)

// checker walks a value: tags first, then what the type's own check method says.
type checker struct {
	problems
	depth int
}

func (c *checker) value(v reflect.Value, f field, path string) {
	switch {
	case v.Type() == durationType:
		c.duration(time.Duration(v.Int()), f, path)
	case isObject(v.Type()):
		c.object(v, path)
	case v.Kind() == reflect.Pointer && !v.IsNil():
		c.value(v.Elem(), f, path)
	case v.Kind() == reflect.Map:
		c.entries(v, f, path)
	case v.Kind() == reflect.Slice:
		c.size(v.Len(), f, path)
		for i := range v.Len() {
			c.value(v.Index(i), field{tag: elementTag(f)}, fmt.Sprintf("%s[%d]", path, i))
		}
	case v.Kind() == reflect.String:
		c.text(v.String(), f, path)
	case v.Kind() == reflect.Int:
		c.number(int(v.Int()), f, path)
	}
}

// elementTag is what a list's tags say of its elements.
func elementTag(f field) reflect.StructTag {
	return reflect.StructTag(fmt.Sprintf("format:%q", f.tag.Get("format")))
}

func (c *checker) object(v reflect.Value, path string) {
	if c.depth++; c.depth > maxDepth { // a match that contains itself; reported where it is nested
		c.depth--
		return
	}
	defer func() { c.depth-- }()
	for _, f := range fieldsOf(v.Type()) {
		switch fv := v.Field(f.index); {
		case empty(fv) && f.required():
			c.invalid(join(path, f.name), "", "is missing")
		case !empty(fv):
			c.value(fv, f, join(path, f.name))
		}
	}
	p := reflect.New(v.Type())
	p.Elem().Set(v)
	if own, ok := p.Interface().(interface{ check(*checker, string) }); ok {
		own.check(c, path)
	}
}

func (c *checker) entries(v reflect.Value, f field, path string) {
	c.size(v.Len(), f, path)
	values := map[string]reflect.Value{}
	for key, value := range v.Seq2() {
		values[key.String()] = value
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		at := entry(path, key)
		if key == "" {
			c.invalid(at, "", "must have a name")
		}
		c.text(key, field{tag: reflect.StructTag(fmt.Sprintf("format:%q", f.tag.Get("keys")))}, at)
		c.value(values[key], field{}, at)
	}
}

func (c *checker) size(n int, f field, path string) {
	if most, ok := f.bound("max"); ok && n > most {
		c.invalid(path, "", fmt.Sprintf("has %d entries; must have at most %d", n, most))
	}
}

func (c *checker) text(s string, f field, path string) {
	most, ok := f.bound("max")
	if !ok {
		most = maxText
	}
	least, _ := f.bound("min")
	fits, want := formatOf(f.tag.Get("format"))
	words := strings.Fields(f.tag.Get("one"))
	switch {
	case len(s) < least || len(s) > most:
		c.invalid(path, quote(s), fmt.Sprintf("has %d bytes; must have %d to %d", len(s), least, most))
	case !utf8.ValidString(s):
		c.invalid(path, quote(s), "must be UTF-8")
	case len(words) > 0 && !slices.Contains(words, s):
		c.invalid(path, quote(s), "must be "+strings.Join(words, " or "))
	case f.tag.Get("format") != "" && !fits(s):
		c.invalid(path, quote(s), want)
	}
}

func (c *checker) number(n int, f field, path string) {
	least, _ := f.bound("min")
	most, _ := f.bound("max")
	if n < least || n > most {
		c.invalid(path, strconv.Itoa(n), fmt.Sprintf("must be %d to %d", least, most))
	}
}

func (c *checker) duration(d time.Duration, f field, path string) {
	if most, _ := f.bound("max"); d <= 0 || d > time.Duration(most) {
		c.invalid(path, durationText(d), "must be more than 0 and at most "+durationText(time.Duration(most)))
	}
}
