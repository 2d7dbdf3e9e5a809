// Compare measures Weft against what it builds on and prints the tables of docs/benchmarks.md.
//
//	go run ./cmd/compare                  # all of them
//	go run ./cmd/compare -rounds 21 grpc  # one, with more patience
//
// The cases of a table take turns, so that whatever else runs on the machine hits all of them.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/weftmesh/weft/bench/measure"
)

func main() {
	rounds := flag.Int("rounds", 11, "how often each case is measured")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: compare [-rounds n] [grpc] [http] [engine] [pick]")
		flag.PrintDefaults()
	}
	flag.Parse()
	if err := run(os.Stdout, *rounds, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

func run(out io.Writer, rounds int, names []string) error {
	if rounds < 1 || rounds > 1000 {
		return fmt.Errorf("-rounds %d: want 1 to 1000", rounds)
	}
	chosen, err := choose(names)
	if err != nil {
		return err
	}
	for _, t := range chosen {
		if err := t.print(out, rounds); err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
	}
	return nil
}

// choose finds tables by name; no name means all.
func choose(names []string) ([]table, error) {
	if len(names) == 0 {
		return tables, nil
	}
	var list []table
	for _, name := range names {
		found := false
		for _, t := range tables {
			if t.name == name {
				list, found = append(list, t), true
			}
		}
		if !found {
			return nil, fmt.Errorf("there is no table %q; there are grpc, http, engine and pick", name)
		}
	}
	return list, nil
}

// print measures a table's cases one after the other and with many at once, and writes a row for each.
func (t table) print(out io.Writer, rounds int) (err error) {
	cases, stop, err := t.start()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	one, err := measure.Compare(cases, measure.Size{Calls: t.calls}, rounds)
	if err != nil {
		return err
	}
	many, err := measure.Compare(cases, measure.Size{Calls: t.calls, Goroutines: t.goroutines}, rounds)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "### %s\n\n", t.title)
	fmt.Fprintf(out, "| case | allocs | added | bytes | added | ns, one at a time | CPU, one at a time | CPU, %d at once | ratio (least to most) |\n", t.goroutines)
	fmt.Fprintf(out, "|%s\n", strings.Repeat("---|", 9))
	for i := range one {
		fmt.Fprintln(out, row(one[i], many[i]))
	}
	_, err = fmt.Fprintln(out)
	return err
}

func row(one, many measure.Comparison) string {
	r := many.CPURatio
	return fmt.Sprintf("| %s | %.0f | %+.0f | %.0f | %+.0f | %.0f | %s | %s | %.2f (%.2f to %.2f) |", one.Name, one.Cost.Allocs, one.AddedAllocs,
		one.Cost.Bytes, one.AddedBytes, one.Cost.Time, duration(one.Cost.CPU), duration(many.Cost.CPU), r.Median, r.Least, r.Most)
}

// duration writes nanoseconds with the unit that suits them.
func duration(ns float64) string {
	if ns >= 1000 {
		return fmt.Sprintf("%.1f µs", ns/1000)
	}
	return fmt.Sprintf("%.0f ns", ns)
}
