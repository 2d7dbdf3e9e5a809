package weft

import (
	"slices"
	"testing"
)

func TestLookup(t *testing.T) {
	type step struct {
		place   int
		what    string // "" is missing
		publish string // "-": nothing
	}
	for name, steps := range map[string][]step{
		"the caller's namespace wins":            {{0, "shop", "shop"}, {1, "default", "-"}},
		"default only once the other is missing": {{1, "default", "-"}, {0, "", "default"}},
		"neither exists":                         {{0, "", "-"}, {1, "", ""}},
		"kept until deleted":                     {{0, "", "-"}, {1, "default", "default"}, {0, "shop", "-"}, {1, "default2", "default2"}, {1, "", "shop"}},
		"gone and back":                          {{0, "shop", "shop"}, {1, "", "-"}, {0, "", ""}, {0, "again", "again"}},
	} {
		var got []string
		l := &lookup[string]{publish: func(s string) { got = append(got, s) }, missing: func(s string) bool { return s == "" }}
		for i, s := range steps {
			got = nil
			l.update(s.place, s.what)
			want := []string{s.publish}
			if s.publish == "-" {
				want = nil
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s, step %d: published %q, want %q", name, i+1, got, want)
			}
		}
	}
}
