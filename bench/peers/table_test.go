package peers

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

// table is printed in Markdown, so that it can go into a page as it is.
type table struct{ rows [][]string }

func newTable(head ...string) *table { return &table{rows: [][]string{head}} }

func (tb *table) add(cells ...any) {
	row := make([]string, len(cells))
	for i, c := range cells {
		row[i] = fmt.Sprint(c)
	}
	tb.rows = append(tb.rows, row)
}

func (tb *table) print(t *testing.T, title string) {
	t.Helper()
	width := make([]int, len(tb.rows[0]))
	for _, row := range tb.rows {
		for i, cell := range row {
			width[i] = max(width[i], len([]rune(cell)))
		}
	}
	var b strings.Builder
	for n, row := range tb.rows {
		for i, cell := range row {
			fmt.Fprintf(&b, "| %-*s ", width[i], cell)
		}
		b.WriteString("|\n")
		if n == 0 {
			for _, w := range width {
				fmt.Fprintf(&b, "|%s", strings.Repeat("-", w+2))
			}
			b.WriteString("|\n")
		}
	}
	t.Logf("%s\n%s", title, b.String())
}

func mib(bytes int) string { return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20)) }

func micros(d time.Duration) string {
	return fmt.Sprintf("%.1f µs", float64(d)/float64(time.Microsecond))
}

func millis(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}

// quantile of sorted values.
func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func median[T int | float64 | time.Duration](values []T) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// atMost and atLeast hold a figure to a bound: the first in a full run, the second in a small one, which is what
// is usual there with room for a machine that gives others half of its time. A run that shows only that the harness
// works holds none.
func atMost(t *testing.T, what string, got, whole, ci float64) {
	t.Helper()
	if bound := pick(whole, ci, math.Inf(1)); got > bound {
		t.Errorf("%s: %.3g, want at most %.3g", what, got, bound)
	}
}

func atLeast(t *testing.T, what string, got, whole, ci float64) {
	t.Helper()
	if bound := pick(whole, ci, 0); got < bound {
		t.Errorf("%s: %.3g, want at least %.3g", what, got, bound)
	}
}
