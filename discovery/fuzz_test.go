package discovery

import "testing"

// What is read of a name is written the same way, and is a name.
func FuzzParseName(f *testing.F) {
	for _, seed := range []string{"product", "product.shop", "1001:20", "1001:20.shop", ".", "a.", "*", "a.b.c", "é", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		name, err := ParseName(text, DefaultNamespace)
		if err != nil {
			return
		}
		again, err := ParseName(name.String(), "other")
		if err != nil || again != name || !IsLabel(name.Namespace) {
			t.Errorf("%q is %+v, and again %+v: %v", text, name, again, err)
		}
	})
}

func FuzzParseRevision(f *testing.F) {
	for _, seed := range []string{"1f-42", "0-0", "ffffffffffffffff-18446744073709551615", "-", "1-", "+1-1", "1_0-1", "1-01"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRevision(text)
		if err != nil {
			return
		}
		if again, err := ParseRevision(r.String()); err != nil || again != r {
			t.Errorf("%q is %+v, and again %+v: %v", text, r, again, err)
		}
	})
}
