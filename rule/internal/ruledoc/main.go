// Command ruledoc writes docs/rules: one page for each kind of rule, from the structs of package rule. What a field
// means is its doc comment, how it is written and bounded are its tags, and the example is a file that tests
// parse and validate. Run it with go generate ./rule.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if err := write(".", filepath.Join("..", "docs", "rules")); err != nil {
		fmt.Fprintln(os.Stderr, "ruledoc:", err)
		os.Exit(1)
	}
}

// write makes all pages from the package in folder source.
func write(source, target string) error {
	pages, err := render(source)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	for name, text := range pages {
		if err := os.WriteFile(filepath.Join(target, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
