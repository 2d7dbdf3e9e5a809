package routing

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type pair struct{ Name, Value string }

func readAll(line string) (pairs []pair) {
	for line != "" {
		var name, value string
		if name, value, line = nextCookie(line); readable(name, value) {
			pairs = append(pairs, pair{name, value})
		}
	}
	return pairs
}

func TestNextCookie(t *testing.T) {
	tests := map[string][]pair{
		"":                          nil,
		";;; ;":                     nil,
		"a=1":                       {{"a", "1"}},
		" a=1 ;\tb=2":               {{"a", "1"}, {"b", "2"}},
		`a="1"; b="`:                {{"a", "1"}},
		"a":                         {{"a", ""}},
		"=1; a=2":                   {{"a", "2"}},
		"a=b=c":                     {{"a", "b=c"}},
		"a =1; b= 2":                {{"a", "1"}, {"b", " 2"}},
		"a=1, 2":                    {{"a", "1, 2"}},
		"a b=1; c=2":                {{"c", "2"}},
		"a=ü; ü=a; b=\x00; c=\\; d": {{"d", ""}},
	}
	for line, want := range tests {
		if diff := cmp.Diff(want, readAll(line)); diff != "" {
			t.Errorf("%q: -want +got\n%s", line, diff)
		}
	}
}

func TestFirstCookie(t *testing.T) {
	lines := []string{"a=; b=1", "a=\x01; a=2; a=3"}
	for name, want := range map[string]string{"a": "2", "b": "1", "c": ""} {
		if got := firstCookie(lines, name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// The parser reads every line as net/http does.
func FuzzNextCookie(f *testing.F) {
	for _, line := range []string{"", "a=1; b=2", `a="1"`, "a;=;b", " \t a = 1 ;", "a=\x7f; b=\"", "ü=ü"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		var want []pair
		for _, c := range (&http.Request{Header: http.Header{"Cookie": {line}}}).Cookies() {
			want = append(want, pair{c.Name, c.Value})
		}
		if len(want) == 0 && len(line) > 3000 {
			return // net/http reads no more than 3000 cookies
		}
		if diff := cmp.Diff(want, readAll(line)); diff != "" {
			t.Errorf("%q: -net/http +got\n%s", line, diff)
		}
	})
}
