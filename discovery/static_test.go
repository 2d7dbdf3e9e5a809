package discovery

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// first returns a source's first snapshot.
func first(t *testing.T, source Source, service string) (got Snapshot, err error) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err = source.Watch(ctx, service, func(s Snapshot) { got = s; cancel() })
	return got, err
}

func TestStatic(t *testing.T) {
	given := map[string][]Instance{
		"product":      {{Address: "10.0.0.2:80", Protocol: HTTP, Labels: map[string]string{"version": "v1"}}, {Address: "10.0.0.1:80", Protocol: HTTP}},
		"product.shop": {{ID: "x", Address: "10.0.0.3:80", Protocol: GRPC}},
	}
	source := Static(given)
	given["product"][0].Labels["version"] = "v2"
	for service, want := range map[string]Snapshot{
		"product.default": {Service: "product.default", Instances: []Instance{
			{ID: "10.0.0.1:80/http", Service: "product", Namespace: "default", Address: "10.0.0.1:80", Protocol: HTTP},
			{ID: "10.0.0.2:80/http", Service: "product", Namespace: "default", Address: "10.0.0.2:80", Protocol: HTTP, Labels: map[string]string{"version": "v1"}},
		}},
		"product.shop": {Service: "product.shop", Instances: []Instance{
			{ID: "x", Service: "product", Namespace: "shop", Address: "10.0.0.3:80", Protocol: GRPC},
		}},
		"stock.shop": {Service: "stock.shop", Missing: true},
	} {
		got, err := first(t, source, service)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: error %v, want the ctx's", service, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", service, d)
		}
	}
}

func TestStaticRefusesABadName(t *testing.T) {
	_, err := first(t, Static(map[string][]Instance{"No Name": nil}), "product.shop")
	if !errors.Is(err, ErrInvalid) {
		t.Errorf("error %v, want ErrInvalid", err)
	}
}

func ExampleStatic() {
	source := Static(map[string][]Instance{
		"product.shop": {{Address: "10.0.0.1:8080", Protocol: HTTP}, {Address: "10.0.0.2:8080", Protocol: HTTP}},
	})
	ctx, cancel := context.WithCancel(context.Background())
	err := source.Watch(ctx, "product.shop", func(s Snapshot) {
		for _, in := range s.Instances {
			fmt.Println(in.Address)
		}
		cancel() // Watch blocks until then
	})
	fmt.Println(err)
	// Output:
	// 10.0.0.1:8080
	// 10.0.0.2:8080
	// context canceled
}
