package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strings"
)

// comments are the doc comments of a package's types ("Route") and of their fields ("Route.Rules").
type comments map[string]string

func readComments(folder string) (comments, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil {
		return nil, err
	}
	found := comments{}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		ast.Inspect(file, found.visit)
	}
	return found, nil
}

func (c comments) visit(n ast.Node) bool {
	decl, ok := n.(*ast.GenDecl)
	if !ok || decl.Tok != token.TYPE {
		return true
	}
	for _, spec := range decl.Specs {
		c.add(spec.(*ast.TypeSpec), decl.Doc)
	}
	return false
}

func (c comments) add(spec *ast.TypeSpec, doc *ast.CommentGroup) {
	c[spec.Name.Name] = doc.Text()
	body, ok := spec.Type.(*ast.StructType)
	if !ok {
		return
	}
	for _, f := range body.Fields.List {
		for _, name := range f.Names {
			c[spec.Name.Name+"."+name.Name] = f.Doc.Text()
		}
	}
}

var docLink = regexp.MustCompile(`\[([A-Z]\w*)\]`)

// prose returns a comment as one line without the Go name it starts with.
func (c comments) prose(key string) string {
	text := docLink.ReplaceAllString(strings.Join(strings.Fields(c[key]), " "), "$1")
	name := key[strings.LastIndex(key, ".")+1:]
	text = strings.TrimPrefix(text, name+" ")
	text = strings.TrimPrefix(strings.TrimPrefix(text, "is "), "are ")
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + text[1:]
}
