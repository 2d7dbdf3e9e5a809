package server_test

import (
	"fmt"
	"strings"
	"testing"
)

// value reads a metric without labels.
func (s *running) value(t *testing.T, name string) (v float64) {
	t.Helper()
	_, text := s.call(t, "GET", "/metrics", "")
	_, after, found := strings.Cut(text, "\n"+name+" ")
	if _, err := fmt.Sscan(after, &v); err != nil || !found {
		t.Fatalf("%s is not among the metrics: %v", name, err)
	}
	return v
}

func TestMetricsOfTheStore(t *testing.T) {
	s := start(t, config(t, t.TempDir()))
	commits, syncs := s.value(t, "weft_registry_commit_seconds_count"), s.value(t, "weft_registry_syncs_total")
	for i := range 3 {
		if status, body := s.call(t, "PUT", fmt.Sprintf("/v1/services/product/instances/p%d", i), `{"address":"10.0.0.7:80","protocol":"http"}`, asJSON); status != 201 {
			t.Fatal(status, body)
		}
	}
	syncs = s.value(t, "weft_registry_syncs_total") - syncs
	commits = s.value(t, "weft_registry_commit_seconds_count") - commits
	if commits < 3 || syncs < 2*commits || syncs > 3*commits {
		t.Errorf("%g commits with %g syncs of three writes one after the other: want two each, and one more where the file grew", commits, syncs)
	}
	if got := s.value(t, "weft_registry_commit_writes_total"); got < 3 {
		t.Errorf("%g keys written", got)
	}
	for _, name := range []string{"weft_registry_writes_waiting", "weft_registry_pushes_total", "weft_registry_push_bytes_total", "weft_registry_evictions_total"} {
		if got := s.value(t, name); got != 0 {
			t.Errorf("%s is %g while nobody waits and nobody has a session", name, got)
		}
	}
}
