package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/weftmesh/weft/rule"
)

// bundle is the documents of several files in one body, so that the server writes all or none.
type bundle struct {
	files []source
	body  []byte
}

// source is what a file has put into a bundle.
type source struct {
	name      string
	line      int // how many lines of the body come before it; -1 if its lines are not those of the body
	documents int
}

// fileFlag adds -f.
func fileFlag(cmd *cobra.Command, files *[]string) {
	cmd.Flags().StringArrayVarP(files, "file", "f", nil, "file of YAML or JSON documents, a directory of such files, or - for the standard input; may be given several times")
	if err := cmd.MarkFlagFilename("file", "yaml", "yml", "json"); err != nil {
		panic(err) // the flag is added above
	}
}

// readBundle reads files, directories and the standard input. That one cannot be read is an error of usage; that one is
// not YAML or JSON, a refusal.
func readBundle(cmd *cobra.Command, names []string) (*bundle, error) {
	b := new(bundle)
	for _, name := range names {
		files, err := expand(name)
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			data, err := readFile(cmd, file)
			if err != nil {
				return nil, err
			}
			if err := b.add(file, data); err != nil {
				return nil, err
			}
		}
	}
	return b, nil
}

// expand gives the documents of a directory by name, or the one file.
func expand(name string) ([]string, error) {
	if name == "-" {
		return []string{name}, nil
	}
	info, err := os.Stat(name)
	if err != nil || !info.IsDir() {
		return []string{name}, err
	}
	entries, err := os.ReadDir(name)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		if slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(e.Name())) && !e.IsDir() {
			files = append(files, filepath.Join(name, e.Name()))
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("directory %s: has no file that ends in .yaml, .yml or .json", name)
	}
	return files, nil
}

func readFile(cmd *cobra.Command, name string) ([]byte, error) {
	in := cmd.InOrStdin()
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, rule.MaxInput+1))
	if err == nil && len(data) > rule.MaxInput {
		err = fmt.Errorf("%s: is larger than %d bytes; split it up", sourceName(name), rule.MaxInput)
	}
	return data, err
}

func sourceName(file string) string {
	if file == "-" {
		return "standard input"
	}
	return file
}

// add appends a file. YAML is taken as it is, so that lines keep their numbers; JSON, which may be several values in a row,
// becomes YAML documents.
func (b *bundle) add(file string, data []byte) error {
	s := source{name: sourceName(file), line: -1}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	values, isJSON := splitJSON(data)
	if !isJSON {
		count, err := countYAML(data)
		if err != nil {
			return failed("%s: %w", s.name, err)
		}
		s.documents = count
		values = [][]byte{data}
	}
	for _, value := range values {
		b.separate()
		if !isJSON {
			s.line = bytes.Count(b.body, []byte("\n"))
		} else {
			s.documents += countJSON(value)
		}
		b.body = append(b.body, value...)
	}
	b.files = append(b.files, s)
	return nil
}

// separate begins a new document, without adding to the one before.
func (b *bundle) separate() {
	switch {
	case len(b.body) == 0:
		return
	case !bytes.HasSuffix(b.body, []byte("\n")):
		b.body = append(b.body, '\n')
	}
	b.body = append(b.body, "---\n"...)
}

// splitJSON gives the values of JSON text. A flow mapping of YAML starts the same way and is none.
func splitJSON(data []byte) (values [][]byte, ok bool) {
	if text := bytes.TrimLeft(data, " \t\r\n"); len(text) == 0 || text[0] != '{' && text[0] != '[' {
		return nil, false
	}
	for dec := json.NewDecoder(bytes.NewReader(data)); ; {
		var v json.RawMessage
		err := dec.Decode(&v)
		if errors.Is(err, io.EOF) {
			return values, true
		}
		var compact bytes.Buffer // YAML would stumble over tabs
		if err != nil || json.Compact(&compact, v) != nil {
			return nil, false
		}
		values = append(values, compact.Bytes())
	}
}

// countJSON says how many documents a value is: a list is as many as it has elements.
func countJSON(value []byte) int {
	var list []json.RawMessage
	if json.Unmarshal(value, &list) == nil {
		return len(list)
	}
	return 1
}

func countYAML(data []byte) (int, error) {
	count := 0
	for dec := yaml.NewDecoder(bytes.NewReader(data)); ; {
		var n yaml.Node
		switch err := dec.Decode(&n); {
		case errors.Is(err, io.EOF):
			return count, nil
		case err != nil:
			return 0, err
		case n.Content[0].Kind == yaml.SequenceNode:
			count += len(n.Content[0].Content)
		case n.Content[0].Kind != yaml.ScalarNode || n.Content[0].Value != "":
			count++
		}
	}
}

// documents is how many there are in all.
func (b *bundle) documents() int {
	count := 0
	for _, s := range b.files {
		count += s.documents
	}
	return count
}

// blame says in the words of the files what the server does not like about the body.
func (b *bundle) blame(err error) error {
	var p *problem
	if !errors.As(err, &p) || p.status == http.StatusConflict { // which names the rules themselves
		return err
	}
	if p.status == http.StatusBadRequest || p.status == http.StatusUnprocessableEntity {
		p.hint = "; correct it and try again"
	}
	blamed := false
	for i, e := range p.Errors {
		if location, ok := strings.CutPrefix(e.Location, "body"); ok {
			p.Errors[i] = b.find(location, e)
			blamed = true
		}
	}
	if blamed {
		p.Detail = "" // it says the same in the words of the body
	}
	return err
}

var (
	atDocument = regexp.MustCompile(`^\[(\d+)\]`)
	atLine     = regexp.MustCompile(`\(line (\d+)\)$`)
)

// find moves a location such as "[2].spec.timeout" to "b.yaml: document 1: spec.timeout", and the line with it.
func (b *bundle) find(location string, e fieldError) fieldError {
	index := 0
	if at := atDocument.FindStringSubmatch(location); at != nil {
		index, _ = strconv.Atoi(at[1])
		location = location[len(at[0]):]
	}
	for _, s := range b.files {
		if index >= s.documents {
			index -= s.documents
			continue
		}
		e.Location = s.name
		if s.documents > 1 {
			e.Location += fmt.Sprintf(": document %d", index+1)
		}
		if field := strings.TrimPrefix(location, "."); field != "" {
			e.Location += ": " + field
		}
		e.Message = atLine.ReplaceAllStringFunc(e.Message, func(text string) string {
			line, _ := strconv.Atoi(atLine.FindStringSubmatch(text)[1])
			if s.line < 0 {
				return ""
			}
			return fmt.Sprintf("(line %d)", line-s.line)
		})
		return e
	}
	return e
}
