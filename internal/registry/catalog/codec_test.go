package catalog

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/store"
)

// decode reads a value as a start does.
func decode(value []byte, number uint64) (discovery.Name, *instance, error) {
	c := &Catalog{}
	l := loader{c: c, d: &draft{c: c}, services: make(map[string]*loading), shapes: make(map[string]shape)}
	if err := l.instance(store.Entry{Key: instanceKey(number), Value: value, Revision: 7}); err != nil {
		return discovery.Name{}, nil, err
	}
	for _, s := range l.services {
		return s.name, s.instances[0], nil
	}
	return discovery.Name{}, nil, errors.New("nothing")
}

func TestCodec(t *testing.T) {
	full := instance1("p1")
	full.HTTP2, full.TLS, full.State, full.Process = true, true, discovery.Draining, "x"
	full.Labels = map[string]string{"a": "", "b": "é", "c": "3"}
	for name, in := range map[string]discovery.Instance{
		"full":    full,
		"minimal": {ID: "a/b", Service: "s", Namespace: "n", Address: "h:1", Protocol: discovery.GRPC, Weight: 1, State: discovery.Up},
	} {
		for _, terms := range []Terms{{}, {TTL: 5e9}, {Check: &Check{Type: "tcp", Interval: 1e10, Timeout: 2e9, Failures: 3}}} {
			r, err := newRecord(in, manner{terms: terms, owned: terms.TTL > 0})
			if err != nil {
				t.Fatal(err)
			}
			got, read, err := decode(r.value, 3)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if !read.same(r.in) || read.number != 3 || read.revision != 7 || got != r.key.Service {
				t.Errorf("%s: read %+v, want %+v", name, read, r.in)
			}
			if diff := cmp.Diff(in, read.public(got)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
	}
}

// FuzzInstance: what is stored is read without a panic, and what can be read is written as it was read.
func FuzzInstance(f *testing.F) {
	r, err := newRecord(instance1("p1"), manner{terms: Terms{TTL: 1e9, Check: &Check{Type: "tcp"}}, owned: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(r.value)
	f.Add(r.value[:len(r.value)-3])
	f.Add([]byte{fieldState<<3 | 2, 4, 'g', 'o', 'n', 'e'})
	f.Fuzz(func(t *testing.T, value []byte) {
		name, in, err := decode(value, 1)
		if err != nil {
			return
		}
		again, err := encodeInstance(name, in)
		if err != nil {
			t.Fatal(err)
		}
		name2, in2, err := decode(again, 1)
		if err != nil || name2 != name || !in2.same(in) {
			t.Fatalf("%+v became %+v: %v", in, in2, err)
		}
	})
}

// FuzzStore: no key and value makes a start panic.
func FuzzStore(f *testing.F) {
	f.Add("n/shop/1:2", []byte("product.shop"))
	f.Add("o/shop/product/p1", []byte(`{"process":"a","weight":5,"deleted":true}`))
	f.Add("h/shop/Route/a/0000000000000001", []byte(`{"outcome":"created"}`))
	f.Add(ceilingKey, []byte("12345678"))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		st := store.NewMemory()
		if err := st.Commit([]store.Write{{Key: key, Value: value}}); err != nil {
			return
		}
		c, err := Open(st, nil)
		if err != nil {
			return
		}
		defer c.Close()
		c.Services("")
		c.Aliases("")
		if k, _, err := splitVersionKey(key); err == nil {
			if _, err := c.History(k); err != nil && !errors.Is(err, store.ErrCorrupt) {
				t.Error(err)
			}
		}
	})
}
