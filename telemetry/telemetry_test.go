package telemetry_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weftmesh/weft/telemetry"
)

// diary writes down what an observer is told.
type diary struct{ lines *[]string }

func (d diary) Bind(b telemetry.Binding) telemetry.Recorder {
	*d.lines = append(*d.lines, "bind "+b.Service)
	return d
}
func (d diary) Attempt(e *telemetry.AttemptEvent) { *d.lines = append(*d.lines, "attempt "+e.Method) }
func (d diary) Call(e *telemetry.CallEvent)       { *d.lines = append(*d.lines, "call "+e.Method) }

func TestObserversAreAllTold(t *testing.T) {
	var a, b []string
	r := telemetry.Observers(diary{&a}, diary{&b}).Bind(telemetry.Binding{Service: "stock.shop"})
	r.Attempt(&telemetry.AttemptEvent{Method: "GET"})
	r.Call(&telemetry.CallEvent{Method: "GET"})
	want := []string{"bind stock.shop", "attempt GET", "call GET"}
	for name, got := range map[string][]string{"first": a, "second": b} {
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestClassNames(t *testing.T) {
	got := []string{telemetry.Success.String(), telemetry.Failure.String(), telemetry.Ignorable.String()}
	if diff := cmp.Diff([]string{"success", "failure", "ignorable"}, got); diff != "" {
		t.Error(diff)
	}
}
