package rest

import (
	"encoding/json"
	"io"

	"github.com/danielgtaylor/huma/v2"
	"go.yaml.in/yaml/v3"
)

// marshalYAML writes what JSON would, as YAML: the order of fields stays. Problems stay JSON.
func marshalYAML(w io.Writer, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if _, ok := v.(*huma.ErrorModel); ok {
		_, err := w.Write(data)
		return err
	}
	var n yaml.Node
	if err := yaml.Unmarshal(data, &n); err != nil {
		return err
	}
	plain(&n)
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(&n); err != nil {
		return err
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
