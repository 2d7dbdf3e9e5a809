package rule

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestEveryKindIsComplete walks the kinds: each needs a row, a validator, an example and a page of documentation.
func TestEveryKindIsComplete(t *testing.T) {
	for _, kind := range Kinds() {
		for _, problem := range incomplete(kind, New(kind)) {
			t.Errorf("%s: %s", kind, problem)
		}
	}
}

// TestIncompleteKindIsNoticed is the control of the test above.
func TestIncompleteKindIsNoticed(t *testing.T) {
	want := []string{
		"New returns no spec of the kind", "no description", "KindOf does not find it", "no validator", "field Anything has no name", "field Anything has no max",
		"no example: testdata/examples/bare.yaml", "no page: ../docs/rules/bare.md",
	}
	if diff := cmp.Diff(want, incomplete("Bare", &bare{})); diff != "" {
		t.Error(diff)
	}
}

type bare struct{ Anything int }

func (*bare) kind() Kind { return "Bare" }

// incomplete says what a kind lacks.
func incomplete(kind Kind, spec Spec) (lacks []string) {
	lack := func(format string) { lacks = append(lacks, format) }
	if made := New(kind); made == nil || made.kind() != kind {
		lack("New returns no spec of the kind")
	}
	if About(kind) == "" {
		lack("no description")
	}
	if found, ok := KindOf(strings.ToUpper(string(kind))); !ok || found != kind {
		lack("KindOf does not find it")
	}
	if _, ok := spec.(interface{ check(*checker, string) }); !ok {
		lack("no validator")
	}
	lacks = append(lacks, badTags(reflect.TypeOf(spec).Elem(), map[reflect.Type]bool{})...)
	example := filepath.Join("testdata", "examples", strings.ToLower(string(kind))+".yaml")
	data, err := os.ReadFile(example)
	if err != nil {
		lack("no example: " + example)
	} else if err := valid(kind, data); err != "" {
		lack(err)
	}
	page := filepath.Join("..", "docs", "rules", strings.ToLower(string(kind))+".md")
	if text, err := os.ReadFile(page); err != nil {
		lack("no page: " + page)
	} else if !strings.Contains(string(text), "```yaml\n"+string(data)+"```\n") {
		lack("the page lacks the example")
	}
	return lacks
}

// valid reads an example, which must be one valid rule of the kind that shows every field.
func valid(kind Kind, data []byte) string {
	rules, err := Parse(data)
	if err != nil {
		return err.Error()
	}
	if len(rules) != 1 || rules[0].Kind != kind {
		return "the example is not one rule of the kind"
	}
	if err := rules[0].Validate(); err != nil {
		return err.Error()
	}
	spec := reflect.ValueOf(rules[0].Spec).Elem()
	for i := range spec.NumField() {
		if spec.Field(i).IsZero() {
			return "the example does not show " + spec.Type().Field(i).Name
		}
	}
	return ""
}

// badTags reports tags that the code would misread: they are read when they are used, and there nothing checks them.
func badTags(t reflect.Type, seen map[reflect.Type]bool) (bad []string) {
	if seen[t] || !isObject(t) {
		return nil
	}
	seen[t] = true
	for _, f := range fieldsOf(t) {
		ft := t.Field(f.index)
		if f.name == "" || strings.ContainsAny(f.name, ",-") {
			bad = append(bad, "field "+ft.Name+" has no name")
		}
		if text, ok := f.fallback(true); ok {
			d := new(decoder)
			v := reflect.New(ft.Type).Elem()
			if d.value(scalar(text), v, ft.Name, true); d.err() != nil || v.IsZero() {
				bad = append(bad, "field "+ft.Name+": default "+text+" is not one")
			}
		}
		for _, name := range []string{"min", "max"} {
			if _, ok := f.bound(name); !ok && f.tag.Get(name) != "" {
				bad = append(bad, "field "+ft.Name+": "+name+" "+f.tag.Get(name)+" is not one")
			}
		}
		for _, name := range []string{"format", "keys"} {
			if _, want := formatOf(f.tag.Get(name)); want == "" && f.tag.Get(name) != "" {
				bad = append(bad, "field "+ft.Name+": "+name+" "+f.tag.Get(name)+" is unknown")
			}
		}
		if _, ok := f.bound("max"); !ok && bounded(ft.Type) {
			bad = append(bad, "field "+ft.Name+" has no max")
		}
		element := ft.Type
		for element.Kind() == reflect.Pointer || element.Kind() == reflect.Slice || element.Kind() == reflect.Map {
			element = element.Elem()
		}
		bad = append(bad, badTags(element, seen)...)
	}
	return bad
}

// bounded reports whether a type needs a bound of its own; texts share one.
func bounded(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Int, reflect.Slice, reflect.Map:
		return true
	case reflect.Pointer:
		return t.Elem().Kind() == reflect.Int
	}
	return t == durationType
}

func TestTags(t *testing.T) {
	if bad := badTags(reflect.TypeFor[Rule](), map[reflect.Type]bool{}); len(bad) > 0 {
		t.Error(bad)
	}
	type broken struct {
		A int               `json:"a" default:"x" max:"10"`
		B time.Duration     `json:"b"`
		C string            `json:"c" format:"lable" max:"lots"`
		D map[string]string `json:"d" keys:"tokens"`
		E *int              `json:"e"`
	}
	want := []string{"field A: default x is not one", "field B has no max", "field C: max lots is not one", "field C: format lable is unknown",
		"field D: keys tokens is unknown", "field D has no max", "field E has no max"}
	if diff := cmp.Diff(want, badTags(reflect.TypeFor[broken](), map[reflect.Type]bool{})); diff != "" {
		t.Error(diff)
	}
}

func TestKindTable(t *testing.T) {
	if diff := cmp.Diff([]Kind{KindRoute, KindRetry}, Kinds()); diff != "" {
		t.Error(diff)
	}
	Kinds()[0] = "changed"
	if Kinds()[0] != KindRoute {
		t.Error("Kinds hands out the table")
	}
	if New(KindRoute) == New(KindRoute) {
		t.Error("New returns the same spec twice")
	}
	if k, ok := KindOf("nothing"); ok || k != "" || New("nothing") != nil || New("route") != nil || Many("nothing") || About("nothing") != "" {
		t.Error("an unknown kind is known")
	}
	if Many(KindRoute) || Many(KindRetry) {
		t.Error("a service has one Route and one Retry")
	}
}

func TestWithDefaults(t *testing.T) {
	for _, tt := range []struct {
		name       string
		spec, want Spec
	}{
		{"retry", &Retry{Methods: []RetryMethod{{}}}, &Retry{
			Attempts: 3, On: []string{"unavailable", "reset", "503"}, Backoff: Backoff{25 * time.Millisecond, 250 * time.Millisecond},
			Budget: Budget{ptr(10), ptr(3)}, Methods: []RetryMethod{{}},
		}},
		{"explicit zeros", &Retry{Attempts: 1, On: []string{}, Budget: Budget{Percent: ptr(0)}}, &Retry{
			Attempts: 1, On: []string{}, Backoff: Backoff{25 * time.Millisecond, 250 * time.Millisecond}, Budget: Budget{ptr(0), ptr(3)},
		}},
		{"route", &Route{}, &Route{}},
		{"entries", &Route{Rules: []RouteRule{
			{},
			{Split: []Destination{{Subset: "v1"}}, WhenEmpty: Fail},
			{Split: []Destination{{Subset: "v1", Weight: 100}, {Subset: "v2"}}},
		}}, &Route{Rules: []RouteRule{
			{Split: []Destination{{Weight: 100}}, WhenEmpty: Rest},
			{Split: []Destination{{Subset: "v1", Weight: 100}}, WhenEmpty: Fail},
			{Split: []Destination{{Subset: "v1", Weight: 100}, {Subset: "v2"}}, WhenEmpty: Rest},
		}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := Rule{Kind: tt.spec.kind(), Name: "n", Service: "s", Spec: tt.spec}.WithDefaults()
			want := Rule{Kind: tt.spec.kind(), Namespace: "default", Name: "n", Service: "s", Mode: Enforce, Spec: tt.want}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	kept := Rule{Kind: KindRoute, Namespace: "shop", Mode: Observe}
	if diff := cmp.Diff(kept, kept.WithDefaults()); diff != "" {
		t.Error(diff)
	}
}

func TestKey(t *testing.T) {
	r := Rule{Kind: KindRoute, Name: "n"}
	if got := r.Key(); got != (Key{KindRoute, "default", "n"}) || got.String() != "Route/default/n" || got != r.WithDefaults().Key() {
		t.Error(got)
	}
	r.Namespace = "shop"
	if got := r.Key().String(); got != "Route/shop/n" {
		t.Error(got)
	}
}
