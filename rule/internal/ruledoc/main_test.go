package main

import (
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/weftmesh/weft/rule"
)

const source = "../.."

// TestPagesAreCurrent fails when a struct, a comment or an example changed and docs/rules did not.
func TestPagesAreCurrent(t *testing.T) {
	committed := readAll(t, filepath.Join(source, "..", "docs", "rules"))
	pages, err := render(source)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(pages, committed); diff != "" {
		t.Errorf("docs/rules differs; run go generate ./rule (-want +committed):\n%s", diff)
	}
}

func TestWrite(t *testing.T) {
	target := filepath.Join(t.TempDir(), "rules")
	if err := write(source, target); err != nil {
		t.Fatal(err)
	}
	pages, err := render(source)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(pages, readAll(t, target)); diff != "" {
		t.Error(diff)
	}
	if err := write(t.TempDir(), target); err == nil {
		t.Error("pages were written without examples")
	}
}

func readAll(t *testing.T, folder string) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		found[filepath.Base(name)] = string(data)
	}
	return found
}

// TestEverythingIsExplained fails for a field without a comment and for a word that the index does not explain.
func TestEverythingIsExplained(t *testing.T) {
	c, err := readComments(source)
	if err != nil {
		t.Fatal(err)
	}
	explained := map[string]bool{}
	for _, w := range words {
		explained[w[0]] = true
	}
	types := []reflect.Type{reflect.TypeFor[rule.Rule]()}
	for _, kind := range rule.Kinds() {
		types = append(types, objects(reflect.TypeOf(rule.New(kind)).Elem())...)
	}
	for _, typ := range types {
		for i := range typ.NumField() {
			f := typ.Field(i)
			if c.prose(typ.Name()+"."+f.Name) == "" {
				t.Errorf("%s.%s has no doc comment", typ.Name(), f.Name)
			}
			for _, tag := range []string{"format", "keys"} {
				if word := f.Tag.Get(tag); word != "" && !explained[word] {
					t.Errorf("%s.%s: the index does not explain %q", typ.Name(), f.Name, word)
				}
			}
		}
	}
}

func TestEveryKindHasItsPage(t *testing.T) {
	pages, err := render(source)
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range rule.Kinds() {
		for _, want := range []string{"# " + string(kind), "```yaml\nkind: " + string(kind), "## spec"} {
			if !strings.Contains(pages[pageName(kind)], want) {
				t.Errorf("%s lacks %q; pages: %v", pageName(kind), want, slices.Sorted(maps.Keys(pages)))
			}
		}
	}
}
