package rest

import (
	"errors"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/go-cmp/cmp"
)

func TestDecodeJSON(t *testing.T) {
	for _, c := range []struct {
		name, data string
		want       []string // locations; nil: it is taken
	}{
		{"all fields", `{"address": "a:1", "protocol": "http", "labels": {"v": "1", "V": "2"}, "locality": {"zone": "a"}, "ttl": "3s"}`, nil},
		{"empty", ``, []string{"body"}},
		{"half", `{"address": `, []string{"body"}},
		{"two values", `{} {}`, []string{"body"}},
		{"unknown", `{"adress": "a:1"}`, []string{"body.adress"}},
		{"another case", `{"Address": "a:1"}`, []string{"body.Address"}},
		{"twice", `{"address": "a:1", "address": "b:1"}`, []string{"body.address"}},
		{"twice by escape", `{"address": "a:1", "\u0061ddress": "b:1"}`, []string{"body.address"}},
		{"label twice", `{"labels": {"v": "1", "v": "2"}}`, []string{"body.labels.v"}},
		{"unknown within", `{"locality": {"Zone": "a", "rack": "b"}}`, []string{"body.locality.Zone", "body.locality.rack"}},
		{"within an unknown", `{"x": {"y": 1, "y": 2}}`, []string{"body.x"}},
		{"a number for a text", `{"address": 1}`, []string{"body.address"}},
		{"an object for a text", `{"address": {"x": 1}}`, []string{"body.address"}},
		{"a fraction for a number", `{"weight": 1.5}`, []string{"body.weight"}},
		{"a list", `[]`, []string{"body"}},
		{"null for a text", `{"address": null}`, []string{"body.address"}},
		{"a number too large", `{"weight": 99999999999999999999}`, []string{"body.weight"}},
		{"two wrong types", `{"address": 1, "http2": "yes", "labels": []}`, []string{"body.address", "body.http2", "body.labels"}},
		{"deep", `{"labels": ` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`, []string{"body"}},
		{"Ready is not a field", `{"Ready": null}`, []string{"body.Ready"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r registration
			err := decodeJSON([]byte(c.data), &r)
			var p *huma.ErrorModel
			if !errors.As(err, &p) {
				if err != nil || c.want != nil {
					t.Fatalf("error %v, want %v", err, c.want)
				}
				return
			}
			var got []string
			for _, e := range p.Errors {
				got = append(got, e.Location)
			}
			if diff := cmp.Diff(c.want, got); diff != "" || p.Status != 400 {
				t.Error(p.Status, p.Detail, diff)
			}
		})
	}
}

func FuzzDecodeJSON(f *testing.F) {
	f.Add([]byte(`{"address": "a:1", "labels": {"v": "1"}, "locality": {"zone": "a"}, "weight": 3}`))
	f.Add([]byte(`{"x": [[{}], 1e9, null, "\ud800"]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var r registration
		var p *huma.ErrorModel
		if err := decodeJSON(data, &r); err != nil && !errors.As(err, &p) {
			t.Errorf("%q: %v is not a problem", data, err)
		}
	})
}
