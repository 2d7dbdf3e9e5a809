package rest

import (
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/weftmesh/weft/rule"
)

// bodyOf describes a body that the handler reads itself.
func bodyOf[T any](api huma.API, media ...string) *huma.RequestBody {
	t := reflect.TypeFor[T]()
	content := make(map[string]*huma.MediaType, len(media))
	for _, m := range media {
		content[m] = &huma.MediaType{Schema: api.OpenAPI().Components.Schemas.Schema(t, true, t.Name())}
	}
	return &huma.RequestBody{Required: true, Content: content}
}

// created describes the second answer of a PUT, beside 200.
func created() map[string]*huma.Response {
	return map[string]*huma.Response{strconv.Itoa(http.StatusCreated): {Description: "Created; the answer is as for 200"}}
}

// TransformSchema implements [huma.SchemaTransformer]: the address of a PUT says who the instance is.
func (registration) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	s.Required = []string{"address", "protocol"}
	return s
}

// Schema implements [huma.SchemaProvider]: the documents of package rule are described by the same tags by which it
// reads them.
func (document) Schema(r huma.Registry) *huma.Schema {
	const name = "Rule"
	if r.Map()[name] == nil {
		s := &huma.Schema{}
		r.Map()[name] = s
		*s = *ruleSchema(r)
	}
	return &huma.Schema{Ref: "#/components/schemas/" + name}
}

func ruleSchema(r huma.Registry) *huma.Schema {
	s := object(r, reflect.TypeFor[rule.Rule]())
	kinds := make([]any, len(rule.Kinds()))
	specs := make([]*huma.Schema, len(kinds))
	for i, kind := range rule.Kinds() {
		kinds[i] = string(kind)
		specs[i] = schemaOf(r, reflect.TypeOf(rule.New(kind)), "")
	}
	s.Properties["kind"].Enum = kinds
	s.Properties["spec"] = &huma.Schema{OneOf: specs, Description: "by kind"}
	for _, name := range []string{"revision", "updatedAt", "updatedBy"} {
		s.Properties[name].Description = "managed by the server; ignored in a write"
	}
	return s
}

// schemaOf describes a type of package rule.
func schemaOf(r huma.Registry, t reflect.Type, tag reflect.StructTag) *huma.Schema {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return &huma.Schema{Type: huma.TypeString, Description: "a duration" + bounds(tag), Examples: []any{"800ms"}}
	case t == reflect.TypeFor[time.Time]():
		return &huma.Schema{Type: huma.TypeString, Format: "date-time"}
	case t == reflect.TypeFor[rule.StringMatch]():
		return &huma.Schema{OneOf: []*huma.Schema{{Type: huma.TypeString, Description: "exactly this"}, named(r, t)}}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return schemaOf(r, t.Elem(), tag)
	case reflect.Struct:
		return named(r, t)
	case reflect.Slice:
		return &huma.Schema{Type: huma.TypeArray, Items: schemaOf(r, t.Elem(), ""), MaxItems: bound[int](tag, "max")}
	case reflect.Map:
		return &huma.Schema{Type: huma.TypeObject, AdditionalProperties: schemaOf(r, t.Elem(), ""), MaxProperties: bound[int](tag, "max")}
	case reflect.Int:
		return &huma.Schema{Type: huma.TypeInteger, Minimum: bound[float64](tag, "min"), Maximum: bound[float64](tag, "max")}
	case reflect.Bool:
		return &huma.Schema{Type: huma.TypeBoolean}
	case reflect.String:
		return &huma.Schema{Type: huma.TypeString, Enum: words(tag), MaxLength: bound[int](tag, "max")}
	}
	return &huma.Schema{}
}

// named describes a struct once, as a component: matches contain themselves.
func named(r huma.Registry, t reflect.Type) *huma.Schema {
	name := "Rule" + t.Name()
	if r.Map()[name] == nil {
		s := &huma.Schema{}
		r.Map()[name] = s
		*s = *object(r, t)
	}
	return &huma.Schema{Ref: "#/components/schemas/" + name}
}

func object(r huma.Registry, t reflect.Type) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeObject, Properties: map[string]*huma.Schema{}, AdditionalProperties: false}
	for i := range t.NumField() {
		f := t.Field(i)
		name := f.Tag.Get("json")
		field := schemaOf(r, f.Type, f.Tag)
		if text := f.Tag.Get("default"); text != "" && field.Ref == "" {
			field.Description = strings.TrimSpace(field.Description + " (default " + text + ")")
		}
		s.Properties[name] = field
		if f.Tag.Get("required") == "true" {
			s.Required = append(s.Required, name)
		}
	}
	return s
}

// bound reads a bound of package rule's tags; nil if there is none.
func bound[N int | float64](tag reflect.StructTag, name string) *N {
	n, err := strconv.Atoi(tag.Get(name))
	if err != nil {
		return nil
	}
	b := N(n)
	return &b
}

func bounds(tag reflect.StructTag) string {
	if most := tag.Get("max"); most != "" {
		return " of at most " + most
	}
	return ""
}

func words(tag reflect.StructTag) []any {
	var out []any
	for w := range strings.FieldsSeq(tag.Get("one")) {
		out = append(out, w)
	}
	return out
}
