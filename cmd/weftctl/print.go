package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// table says how items become rows and names.
type table struct {
	header []string
	narrow int // how many columns there are without -o wide
	row    func(item json.RawMessage, now time.Time) ([]string, error)
	name   func(item json.RawMessage) (string, error)
}

// tableOf makes a table of items of a type. What stands behind | in the header is for -o wide.
func tableOf[T any](header string, row func(T, time.Time) []string, name func(T) string) table {
	narrow, wide, _ := strings.Cut(header, "|")
	t := table{header: strings.Fields(narrow + wide), narrow: len(strings.Fields(narrow))}
	t.row = func(item json.RawMessage, now time.Time) ([]string, error) {
		v, err := read[T](item)
		return row(v, now), err
	}
	t.name = func(item json.RawMessage) (string, error) {
		v, err := read[T](item)
		return name(v), err
	}
	return t
}

func read[T any](item json.RawMessage) (T, error) {
	var v T
	if err := json.Unmarshal(item, &v); err != nil {
		return v, failed("the answer cannot be read: %w; is weftctl of the same version as the server?", err)
	}
	return v, nil
}

// print writes a list: as a table, a JSON array, a stream of YAML documents, or names.
func (o *options) print(w io.Writer, t table, items []json.RawMessage) error {
	switch o.output {
	case asJSON:
		if items == nil {
			items = []json.RawMessage{}
		}
		return printJSON(w, items)
	case asYAML:
		return printYAML(w, items)
	case asName:
		return printNames(w, t, items)
	}
	return o.printTable(w, t, items)
}

// printOne writes one thing: in JSON, it is not in an array.
func (o *options) printOne(w io.Writer, t table, item json.RawMessage) error {
	if o.output == asJSON {
		return printJSON(w, item)
	}
	return o.print(w, t, []json.RawMessage{item})
}

func (o *options) printTable(w io.Writer, t table, items []json.RawMessage) error {
	columns := len(t.header)
	if o.output != asWide {
		columns = t.narrow
	}
	rows := [][]string{t.header}
	for _, item := range items {
		row, err := t.row(item, o.now())
		if err != nil {
			return err
		}
		rows = append(rows, row)
	}
	for i := range rows {
		rows[i] = rows[i][:columns]
	}
	return aligned(w, rows)
}

// aligned writes rows in columns.
func aligned(w io.Writer, rows [][]string) error {
	tw := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			row[i] = dash(oneLine(cell))
		}
		fmt.Fprintln(tw, strings.Join(row, "\t"))
	}
	return tw.Flush()
}

func printNames(w io.Writer, t table, items []json.RawMessage) error {
	for _, item := range items {
		name, err := t.name(item)
		if err != nil {
			return err
		}
		fmt.Fprintln(w, oneLine(name))
	}
	return nil
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func printYAML(w io.Writer, items []json.RawMessage) error {
	if len(items) == 0 {
		return nil
	}
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	for _, item := range items {
		var n yaml.Node
		if err := yaml.Unmarshal(item, &n); err != nil {
			return failed("the answer cannot be read: %w", err)
		}
		plain(&n)
		if err := enc.Encode(&n); err != nil {
			return err
		}
	}
	return enc.Close()
}

// plain drops JSON's braces and quotes; the encoder quotes what would read as something else.
func plain(n *yaml.Node) {
	n.Style = 0
	for _, child := range n.Content {
		plain(child)
	}
}

// structured says whether the whole answer is wanted, not words about it.
func (o *options) structured() bool { return o.output == asJSON || o.output == asYAML }

// printAnswer writes the answer of a change as it came. There is none if the server had nothing to say.
func (o *options) printAnswer(w io.Writer, answer json.RawMessage) error {
	if len(bytes.TrimSpace(answer)) == 0 {
		return nil
	}
	return o.printOne(w, table{}, answer)
}

// clean takes out what could steer a terminal: names, labels and reasons come from whoever registers.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}

// oneLine keeps a cell in its place.
func oneLine(s string) string {
	return clean(strings.NewReplacer("\n", " ", "\t", " ").Replace(s))
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// age says how long ago t was, or in how long it will be, in the largest unit.
func age(t, now time.Time) string {
	switch d := now.Sub(t); {
	case t.IsZero():
		return ""
	case d < -time.Second:
		return "in " + span(-d)
	default:
		return span(max(d, 0))
	}
}

func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// counts writes {"up": 2, "draining": 1} as "draining 1, up 2".
func counts(states map[string]int) string {
	var parts []string
	for _, state := range slices.Sorted(maps.Keys(states)) {
		parts = append(parts, fmt.Sprintf("%s %d", state, states[state]))
	}
	return strings.Join(parts, ", ")
}

func labels(l map[string]string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(l)) {
		parts = append(parts, name+"="+l[name])
	}
	return strings.Join(parts, ",")
}
