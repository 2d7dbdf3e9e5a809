package rule

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// texts are those that readers and writers of YAML and JSON get wrong.
var texts = []string{
	"v1", "503", "1.10", "on", "No", "null", "~", "1e3", "0x1f", "0b1", "2026-11-21", "1:30", "x-user", "# no", "a: b", "a #b", "- a", "? a", "<<",
	"a\nb", "a\n", "\n a", "a\r\n", "\ta", " a ", "\u2028", "\u0085", "\ufeff", "é😀", "'", `"\/`, "{a}", "[a", "!x", "&x", "*x", "%x", "@x", "`x", "|", ">", "=", "\x00\x7f",
}

// random fills v with what a document can say. A field of the kind that must not be empty is either absent or
// not empty.
func random(v reflect.Value, r *rand.Rand, depth int) {
	switch {
	case v.Type() == timeType:
		v.Set(reflect.ValueOf(time.Unix(r.Int64N(4e9), r.Int64N(1e9)).UTC()))
	case v.Type() == durationType:
		v.SetInt(1 + r.Int64N(int64(1)<<r.IntN(62)))
	case v.Kind() == reflect.Interface:
		spec := reflect.ValueOf(New(KindRoute))
		if r.IntN(2) == 0 {
			spec = reflect.ValueOf(New(KindRetry))
		}
		random(spec.Elem(), r, depth+1)
		v.Set(spec)
	case v.Kind() == reflect.Struct:
		for _, f := range fieldsOf(v.Type()) {
			if r.IntN(2) == 0 {
				random(v.Field(f.index), r, depth+1)
			}
			if fv := v.Field(f.index); fv.Kind() == reflect.Slice && f.zeroMeans(false) && r.IntN(4) == 0 {
				fv.Set(reflect.MakeSlice(fv.Type(), 0, 0))
			}
		}
	case v.Kind() == reflect.Pointer && depth < 12:
		v.Set(reflect.New(v.Type().Elem()))
		random(v.Elem(), r, depth+1)
	case v.Kind() == reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range 1 + r.IntN(3) {
			e := reflect.New(v.Type().Elem()).Elem()
			random(e, r, depth+1)
			v.SetMapIndex(reflect.ValueOf(texts[r.IntN(len(texts))]), e)
		}
	case v.Kind() == reflect.Slice:
		n := 1 + r.IntN(3)
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			random(v.Index(i), r, depth+1)
		}
	case v.Kind() == reflect.String:
		v.SetString(texts[r.IntN(len(texts))])
	case v.Kind() == reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case v.Kind() == reflect.Int:
		v.SetInt(r.Int64N(1000) - 500)
	}
}

func randomRule(seed uint64) Rule {
	var r Rule
	random(reflect.ValueOf(&r).Elem(), rand.New(rand.NewPCG(seed, 1)), 0)
	r.Kind = KindRetry
	if r.Spec != nil {
		r.Kind = r.Spec.kind()
	}
	return r
}

// written returns a rule in every form that Parse reads.
func written(t *testing.T, r Rule) map[string][]byte {
	t.Helper()
	one, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, one, "", "\t"); err != nil {
		t.Fatal(err)
	}
	stream, err := YAML(r)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := yaml.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{"JSON": one, "indented JSON": indented.Bytes(), "YAML": stream, "yaml.Marshal": plain}
}

// TestRoundTrip: whatever is written is read back as it was.
func TestRoundTrip(t *testing.T) {
	for seed := range uint64(500) {
		r := randomRule(seed)
		for form, data := range written(t, r) {
			got, err := Parse(data)
			if err != nil {
				t.Fatalf("seed %d, %s: %v\n%s", seed, form, err, data)
			}
			if diff := cmp.Diff([]Rule{r}, got); diff != "" {
				t.Fatalf("seed %d, %s: %s\n%s", seed, form, diff, data)
			}
		}
		var again Rule
		if err := json.Unmarshal(written(t, r)["JSON"], &again); err != nil || !cmp.Equal(r, again) {
			t.Fatalf("seed %d: json.Unmarshal: %v", seed, err)
		}
	}
}

// TestDefaultsOnce: completing what is complete changes nothing, and the copy shares nothing with the original.
func TestDefaultsOnce(t *testing.T) {
	for seed := range uint64(500) {
		r, same := randomRule(seed), randomRule(seed)
		once := r.WithDefaults()
		if diff := cmp.Diff(once, once.WithDefaults()); diff != "" {
			t.Fatalf("seed %d: %s", seed, diff)
		}
		overwrite(reflect.ValueOf(&once).Elem())
		if diff := cmp.Diff(same, r); diff != "" {
			t.Fatalf("seed %d: the original changed: %s", seed, diff)
		}
	}
}

// overwrite zeroes everything that v reaches.
func overwrite(v reflect.Value) {
	switch {
	case v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface:
		if !v.IsNil() && v.Elem().Kind() != reflect.Pointer {
			overwrite(v.Elem())
		} else if !v.IsNil() {
			overwrite(v.Elem().Elem())
		}
	case isObject(v.Type()):
		for i := range v.NumField() {
			overwrite(v.Field(i))
		}
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			overwrite(v.Index(i))
		}
	case v.Kind() == reflect.Map:
		v.Clear()
	}
	if v.CanSet() {
		v.SetZero()
	}
}

func TestWireForm(t *testing.T) {
	r := Rule{
		Kind: KindRoute, Name: "split", Service: "*", UpdatedAt: time.Date(2026, 11, 21, 9, 0, 0, 0, time.FixedZone("", 3600)),
		Spec: &Route{
			Subsets: map[string]map[string]string{"v2": {"b": "2", "a": "on"}, "v1": {"a": "1"}},
			Rules: []RouteRule{
				{Match: []Match{{Path: &StringMatch{Exact: ptr("/x")}, Method: &StringMatch{Not: &StringMatch{In: []string{"GET"}}}}}, Split: []Destination{{Subset: "v2"}}, Timeout: time.Hour},
				{Split: []Destination{{Subset: "v1", Weight: 100}, {Subset: "v2"}}, Timeout: 90 * time.Minute},
				{Split: []Destination{}, Match: []Match{}, Timeout: 61 * time.Second},
			},
		},
	}
	const wantJSON = `{"kind":"Route","name":"split","service":"*","spec":{"subsets":{"v1":{"a":"1"},"v2":{"a":"on","b":"2"}},` +
		`"rules":[{"match":[{"path":"/x","method":{"not":{"in":["GET"]}}}],"split":[{"subset":"v2"}],"timeout":"1h"},` +
		`{"split":[{"subset":"v1","weight":100},{"subset":"v2","weight":0}],"timeout":"1h30m"},{"timeout":"1m1s"}]},"updatedAt":"2026-11-21T08:00:00Z"}`
	const wantYAML = `kind: Route
name: split
service: "*"
spec:
  subsets:
    v1:
      a: "1"
    v2:
      a: "on"
      b: "2"
  rules:
    - match:
        - path: /x
          method:
            not:
              in:
                - GET
      split:
        - subset: v2
      timeout: 1h
    - split:
        - subset: v1
          weight: 100
        - subset: v2
          weight: 0
      timeout: 1h30m
    - timeout: 1m1s
updatedAt: 2026-11-21T08:00:00Z
`
	got := written(t, r)
	if diff := cmp.Diff(wantJSON, string(got["JSON"])); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(wantYAML, string(got["YAML"])); diff != "" {
		t.Error(diff)
	}
	two, err := YAML(r, r)
	if want := wantYAML + "---\n" + wantYAML; err != nil || string(two) != want {
		t.Errorf("a stream of two: %v\n%s", err, two)
	}
	if none, err := YAML(); len(none) != 0 || err != nil {
		t.Errorf("a stream of none: %q, %v", none, err)
	}
}

func TestWritingRefuses(t *testing.T) {
	loop := &StringMatch{}
	loop.Not = loop
	for want, r := range map[string]Rule{
		`rule Route/default/n: spec is *rule.Retry, which is not one of kind "Route"`:  {Kind: KindRoute, Name: "n", Spec: &Retry{}},
		`rule Route/default/n: spec is rule.foreign, which is not one of kind "Route"`: {Kind: KindRoute, Name: "n", Spec: foreign{}},
		`rule Route/default/n: spec is *rule.Route, which is not one of kind "Route"`:  {Kind: KindRoute, Name: "n", Spec: (*Route)(nil)},
		"rule is nested more than 32 deep":                                             {Kind: KindRoute, Name: "n", Spec: &Route{Rules: []RouteRule{{Match: []Match{{Path: loop}}}}}},
	} {
		_, asJSON := r.MarshalJSON()
		_, asYAML := YAML(r)
		if asJSON == nil || asJSON.Error() != want || asYAML == nil || asYAML.Error() != want {
			t.Errorf("got %v and %v, want %s", asJSON, asYAML, want)
		}
	}
}

func TestUnmarshalJSON(t *testing.T) {
	var page struct{ Items []Rule }
	err := json.Unmarshal([]byte(`{"items":[{"kind":"Retry","name":"n","service":"s","spec":{}}, null]}`), &page)
	want := []Rule{{Kind: KindRetry, Name: "n", Service: "s", Spec: &Retry{}}, {}}
	if diff := cmp.Diff(want, page.Items); err != nil || diff != "" {
		t.Error(err, diff)
	}
	err = json.Unmarshal([]byte(`{"items":[{"kind":"Retry","nam":"n"}]}`), &page)
	if err == nil || !strings.Contains(err.Error(), "nam: is not a field") {
		t.Errorf("an unknown field: %v", err)
	}
}

// FuzzParse: no input panics, and what is read and valid is written and read back as the same.
func FuzzParse(f *testing.F) {
	examples, err := filepath.Glob("testdata/examples/*.yaml")
	if err != nil || len(examples) == 0 {
		f.Fatal("no examples: ", err)
	}
	for _, name := range examples {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		rules, err := Parse(data)
		if err != nil {
			f.Fatal(err)
		}
		asJSON, err := json.Marshal(rules)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(asJSON)
	}
	for _, seed := range []string{"", "---\n---\n", "- a", "{a: &a [*a]}", `{"kind":"Retry","spec":{"on":[]}}`, "kind: Route\nspec: {rules: [{match: [{path: {not: {not: x}}}]}]}\n", "\ufeff{}", `"\ud800"`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = ParseOne(data)
		rules, err := Parse(data)
		if err != nil {
			if rules != nil || err.Error() == "" {
				t.Errorf("rules %v with error %q", rules, err)
			}
			return
		}
		for _, r := range rules {
			full := r.WithDefaults()
			if valid, whole := r.Validate(), full.Validate(); (valid == nil) != (whole == nil) {
				t.Errorf("as written: %v; completed: %v", valid, whole)
			}
			for form, text := range written(t, r) {
				again, err := Parse(text)
				if diff := cmp.Diff([]Rule{r}, again); err != nil || diff != "" {
					t.Errorf("%s: %v\n%s\n%s", form, err, diff, text)
				}
			}
		}
	})
}
