package docs

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weftmesh/weft/internal/registry/server"
)

// block is a fenced block of a page.
type block struct{ language, text string }

var fence = regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$")

func blocks(t *testing.T, page string) (list []block) {
	t.Helper()
	for _, m := range fence.FindAllStringSubmatch(read(t, page), -1) {
		list = append(list, block{m[1], m[2]})
	}
	return list
}

func read(t *testing.T, page string) string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The tour is taken: every command of the page runs, one after the other in one shell, and says what the page says.
func TestTourOfREST(t *testing.T) {
	for _, tool := range []string{"bash", "curl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(tool + " is not here: the tour was not taken")
		}
	}
	dir := t.TempDir()
	s := serve(t, filepath.Join(dir, "weft-data"))
	var script strings.Builder
	commands := 0
	for _, b := range blocks(t, "rest.md") {
		switch b.language {
		case "sh":
			commands++
			fmt.Fprintf(&script, "echo '=== %d'\n%s\necho\n", commands, strings.ReplaceAll(b.text, "127.0.0.1:7080", s.HTTPAddr()))
		case "text":
		default:
			t.Fatalf("a block of %s: want sh, or text for what it prints", b.language)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	shell := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", script.String())
	shell.Dir = dir
	out, err := shell.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	said := regexp.MustCompile(`(?m)^=== \d+\n`).Split(string(out), -1)[1:]
	n := 0
	for _, b := range blocks(t, "rest.md") {
		switch b.language {
		case "sh":
			n++
		case "text":
			if missing := inOrder(said[n-1], b.text); missing != "" {
				t.Errorf("block %d does not print %q in its place:\n%s", n, missing, said[n-1])
			}
		}
	}
	if inOrder("a b c", "a…c…b") != "b" {
		t.Error("control: what is not there in that order was found")
	}
}

// inOrder looks for the parts of a text, which "…" separates, one after the other. It gives the first that is not there.
// Spaces do not count.
func inOrder(said, want string) string {
	said = squeeze(said)
	for part := range strings.SplitSeq(want, "…") {
		_, after, found := strings.Cut(said, squeeze(part))
		if !found {
			return strings.TrimSpace(part)
		}
		said = after
	}
	return ""
}

func squeeze(text string) string { return strings.Join(strings.Fields(text), "") }

// serve runs a server on a directory until the test ends.
func serve(t *testing.T, dir string) *server.Server {
	t.Helper()
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	s, err := server.New(server.Config{GRPCAddr: "127.0.0.1:0", HTTPAddr: "127.0.0.1:0", DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s
}

var metricName = regexp.MustCompile(`\bweft_[a-z_]+\b`)

// Every metric that the server shows is explained, and every one that is explained is in the server's sources.
func TestMetricsAreExplained(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := serve(t, dir)
	token := strings.TrimSpace(read(t, filepath.Join(dir, "admin.token")))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.HTTPAddr()+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var shown bytes.Buffer
	if _, err := shown.ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	page, sources := read(t, "operations.md"), source(t, "../internal/registry")
	n := 0
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (weft_\S+)`).FindAllStringSubmatch(shown.String(), -1) {
		n++
		if !strings.Contains(page, m[1]) {
			t.Errorf("operations.md says nothing about %s", m[1])
		}
	}
	if n < 3 {
		t.Errorf("the server shows %d metrics of its own", n)
	}
	names := metricName.FindAllString(page, -1)
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if !strings.Contains(sources, `"`+strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_count")+`"`) {
			t.Errorf("operations.md explains %s, which the server does not have", name)
		}
	}
}

// source joins the Go files of a folder that are not tests.
func source(t *testing.T, folder string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		all.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

var (
	link    = regexp.MustCompile(`\]\(([^)#\s]+)(?:#[^)]*)?\)`)
	flagged = regexp.MustCompile("`--([a-z][a-z-]+)")
)

// Links of pages lead to files that are there.
func TestLinks(t *testing.T) {
	pages, err := filepath.Glob("*.md")
	if err != nil || len(pages) < 5 {
		t.Fatalf("%v, %v", pages, err)
	}
	for _, page := range pages {
		for _, m := range link.FindAllStringSubmatch(read(t, page), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat(m[1]); err != nil {
				t.Errorf("%s: %v", page, err)
			}
		}
	}
}

// Flags of the server that operations.md speaks of are there, and none is left out.
func TestFlagsAreExplained(t *testing.T) {
	out, err := exec.Command("go", "run", "../registry-server", "--help").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	page := read(t, "operations.md")
	server, _, _ := strings.Cut(page, "\n## Backups")
	for _, m := range regexp.MustCompile(`(?m)^  -([a-z-]+)`).FindAllSubmatch(out, -1) {
		if name := string(m[1]); name != "version" && !strings.Contains(server, "`--"+name) {
			t.Errorf("operations.md says nothing about --%s", name)
		}
	}
	for _, m := range flagged.FindAllStringSubmatch(server, -1) {
		if !bytes.Contains(out, []byte("\n  -"+m[1])) {
			t.Errorf("operations.md speaks of --%s, which the server does not have", m[1])
		}
	}
}
