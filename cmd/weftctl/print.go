package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"go.yaml.in/yaml/v3"
)

// print writes items as a table, a JSON array, or a stream of YAML documents; apply reads rules of both back.
func (o *options) print(w io.Writer, t table, items []json.RawMessage) error {
	switch o.output {
	case "json":
		return printJSON(w, items)
	case "yaml":
		return printYAML(w, items)
	}
	tw := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(tw, t.header)
	for _, item := range items {
		row, err := t.row(item)
		if err != nil {
			return noContact("the answer cannot be read: %w; is weftctl of the same version as the server?", err)
		}
		fmt.Fprintln(tw, row)
	}
	return tw.Flush()
}

func printJSON(w io.Writer, items []json.RawMessage) error {
	if items == nil {
		items = []json.RawMessage{}
	}
	data, err := json.MarshalIndent(items, "", "  ")
	if err != nil {
		return noContact("the answer cannot be read: %w", err)
	}
	_, err = w.Write(append(data, '\n'))
	return err
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
			return noContact("the answer cannot be read: %w", err)
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
