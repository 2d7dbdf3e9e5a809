package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// write makes files in a new directory and goes there, so that messages name them shortly.
func write(t *testing.T, files map[string]string) {
	t.Helper()
	t.Chdir(t.TempDir())
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

const retry = "kind: Retry\nname: NAME\nservice: NAME\nspec: {attempts: 5}\n"

func named(name string) string { return strings.ReplaceAll(retry, "NAME", name) }

// TestFilesAreOneTransaction sends all files, also those of a directory, in one call to a real server.
func TestFilesAreOneTransaction(t *testing.T) {
	start(t)
	write(t, map[string]string{
		"a.yaml":          named("a") + "---\n" + named("b") + "---\n",
		"rules/c.yml":     named("c"),
		"rules/d.json":    `{"kind": "Retry", "name": "d", "service": "d",` + "\n\t" + `"spec": {"attempts": 2}} [{"kind": "Retry", "name": "e", "service": "e", "spec": {"attempts": 2}}]`,
		"rules/README.md": "no rule",
		"bad.yaml":        named("f") + "---\n" + strings.Replace(named("g"), "attempts", "attemps", 1),
		"worse.json":      `[{"kind": "Retry", "name": "h", "service": "h", "spec": {"attempts": 2}}, {"kind": "Retry", "name": "i", "service": "i", "spec": {"attempts": 700}}]`,
		"broken.yaml":     "kind: [\n",
		"empty.yaml":      "# nothing\n",
		"nothing/x.txt":   "",
	})
	for _, c := range []struct {
		args string
		code int
		says []string
	}{
		{"-f a.yaml -f bad.yaml -f worse.json", exitFailed, []string{"\n  bad.yaml: document 2: spec.attemps: is not a field", "(line 9)"}},
		{"-f a.yaml -f worse.json", exitFailed, []string{"\n  worse.json: document 2: spec.attempts: ", "(it is 700)"}},
		{"-f worse.json", exitFailed, []string{"worse.json: document 2: spec.attempts"}},
		{"-f a.yaml -f broken.yaml", exitFailed, []string{"broken.yaml: yaml: line "}},
		{"-f empty.yaml", exitFailed, []string{"there is no document in empty.yaml"}},
		{"-f nothing", exitUsage, []string{"no file that ends in .yaml"}},
		{"-f a.yaml -f absent.yaml", exitUsage, []string{"absent.yaml: no such file", "weftctl help apply"}},
		{"-f a.yaml -f rules", 0, nil},
	} {
		if _, stdout, _ := ctl(t, "", "get", "rules", "-o", "name"); stdout != "" {
			t.Fatalf("before %s there is %s", c.args, stdout)
		}
		code, stdout, stderr := ctl(t, "", append([]string{"apply"}, strings.Fields(c.args)...)...)
		if code != c.code {
			t.Errorf("%s: code %d, want %d: %s%s", c.args, code, c.code, stdout, stderr)
		}
		for _, says := range c.says {
			if !strings.Contains(stderr, says) {
				t.Errorf("%s: %q does not say %q", c.args, stderr, says)
			}
		}
	}
	if _, stdout, _ := ctl(t, "", "get", "rules", "-o", "name"); strings.Count(stdout, "retry/") != 5 {
		t.Errorf("there is %q, want a to e", stdout)
	}
}

// TestBundlesAddNothing joins files so that each reads as it does alone.
func TestBundlesAddNothing(t *testing.T) {
	for _, files := range [][]string{
		{"a: |+\n  x\n\n", "b: 1\n"},
		{"a: 1", "\ufeffb: 2\n...\n", "# c\n", `{"d": "\t"}` + "\n[{}, {}]"},
		{"---\na: 1\n---\n", "---\nb: 1\n"},
	} {
		b := new(bundle)
		var want, got []any
		for _, text := range files {
			if err := b.add("x", []byte(text)); err != nil {
				t.Fatal(err)
			}
			alone := new(bundle)
			if err := alone.add("x", []byte(text)); err != nil {
				t.Fatal(err)
			}
			want = append(want, decode(t, alone.body)...)
		}
		got = decode(t, b.body)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: %s", files, diff)
		}
	}
}

// decode gives the documents of YAML but for empty ones.
func decode(t *testing.T, data []byte) (documents []any) {
	t.Helper()
	for dec := yaml.NewDecoder(bytes.NewReader(data)); ; {
		var v any
		switch err := dec.Decode(&v); {
		case errors.Is(err, io.EOF):
			return documents
		case err != nil:
			t.Fatal(err)
		case v != nil:
			documents = append(documents, v)
		}
	}
}

func TestTooLargeAFile(t *testing.T) {
	serve(t)
	write(t, map[string]string{"large.yaml": named("a") + strings.Repeat("#", 1<<20)})
	if code, _, stderr := ctl(t, "", "apply", "-f", "large.yaml"); code != exitUsage || !strings.Contains(stderr, "large.yaml: is larger than 1048576 bytes") {
		t.Error(code, stderr)
	}
}

// FuzzBundle adds anything, and counts no more documents than there can be.
func FuzzBundle(f *testing.F) {
	for _, seed := range []string{documents, `{"a": 1} [2, 3]`, "- a\n- b\n", "---\n---\n", "{a: b}", "[", "\x00", "%YAML 1.2\n---\na: b\n..."} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		b := new(bundle)
		if err := b.add("a", data); err != nil {
			return
		}
		if n := b.documents(); n < 0 || n > len(data)+1 {
			t.Errorf("%d documents in %d bytes", n, len(data))
		}
		for _, location := range []string{"", "[0].spec", "[7]", "[99999999999999999999].x"} {
			b.find(location, fieldError{Message: "is wrong (line 3)"})
		}
	})
}
