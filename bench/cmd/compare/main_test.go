package main

import (
	"io"
	"strings"
	"testing"
)

func TestRunRefuses(t *testing.T) {
	for _, c := range []struct {
		rounds int
		names  []string
		want   string
	}{
		{0, nil, "-rounds 0: want 1 to 1000"},
		{1, []string{"grpc", "gprc"}, `there is no table "gprc"`},
	} {
		if err := run(io.Discard, c.rounds, c.names); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("run(%d, %q): %v, want %q", c.rounds, c.names, err, c.want)
		}
	}
}

func TestRunPrintsATable(t *testing.T) {
	var out strings.Builder
	if err := run(&out, 1, []string{"engine"}); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	for _, want := range []string{"### The engine alone", "| engine | ", "| engine-rules | "} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in:\n%s", want, text)
		}
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "|") && strings.Count(line, "|") != 10 {
			t.Errorf("a row has not nine columns: %s", line)
		}
	}
}
