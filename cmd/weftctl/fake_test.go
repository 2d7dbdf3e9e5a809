package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// noon is when all tests run that show ages.
var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// exchange is one call that a fake server expects, and what it answers.
type exchange struct {
	want   string   // "METHOD /path?query", the query sorted
	body   string   // of the request; "": none
	header []string // "Name: value" of the request, besides the token
	status int      // 0: 200
	answer string
	mime   string   // of the answer; "": JSON
	extra  []string // "Name: value" of the answer
}

// fake answers what is expected, in order, and nothing else.
type fake struct {
	t    *testing.T
	mu   sync.Mutex
	todo []exchange
}

// serve runs a fake server to which weftctl is directed.
func serve(t *testing.T, exchanges ...exchange) *httptest.Server {
	t.Helper()
	f := &fake{t: t, todo: exchanges}
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	t.Cleanup(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, e := range f.todo {
			t.Errorf("nobody asked for %s", e.want)
		}
	})
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("WEFT_HTTP", s.URL)
	t.Setenv("WEFT_TOKEN", "secret")
	t.Setenv("WEFT_PIN", "")
	return s
}

// ServeHTTP implements [http.Handler].
func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	if len(f.todo) == 0 {
		f.mu.Unlock()
		f.t.Errorf("unexpected %s %s", r.Method, r.URL)
		http.Error(w, "unexpected", http.StatusTeapot)
		return
	}
	e := f.todo[0]
	f.todo = f.todo[1:]
	f.mu.Unlock()
	f.check(e, r)
	w.Header().Set("Content-Type", first(e.mime, "application/json"))
	for _, h := range e.extra {
		name, value, _ := strings.Cut(h, ": ")
		w.Header().Set(name, value)
	}
	w.WriteHeader(max(e.status, http.StatusOK))
	if e.status != http.StatusNoContent {
		io.WriteString(w, e.answer)
	}
}

func (f *fake) check(e exchange, r *http.Request) {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		f.t.Error(err)
	}
	got := r.Method + " " + r.URL.EscapedPath()
	if query := r.URL.Query().Encode(); query != "" {
		got += "?" + query
	}
	if got != e.want {
		f.t.Errorf("asked %s, want %s", got, e.want)
	}
	if string(data) != e.body {
		f.t.Errorf("%s: body %q, want %q", got, data, e.body)
	}
	want := append([]string{"Authorization: Bearer secret"}, e.header...)
	if e.body != "" && !slices.ContainsFunc(want, func(h string) bool { return strings.HasPrefix(h, "Content-Type") }) {
		want = append(want, "Content-Type: application/json")
	}
	for _, h := range want {
		name, value, _ := strings.Cut(h, ": ")
		if r.Header.Get(name) != value {
			f.t.Errorf("%s: header %s is %q, want %q", got, name, r.Header.Get(name), value)
		}
	}
	for _, guard := range []string{"If-Match", "If-None-Match", "Last-Event-Id"} {
		if value := r.Header.Get(guard); value != "" && !slices.Contains(want, guard+": "+value) {
			f.t.Errorf("%s: unexpected header %s: %s", got, guard, value)
		}
	}
}

// page is a list in one page.
func page(items ...string) string {
	return `{"items": [` + strings.Join(items, ",") + `], "revision": "1f-42"}`
}

// transcript collects what commands print.
type transcript struct {
	t   *testing.T
	out strings.Builder
}

// run runs a command against a fake server that expects the exchanges, and writes down what it prints.
func (tr *transcript) run(stdin string, args []string, exchanges ...exchange) {
	tr.t.Helper()
	tr.t.Run(strings.Join(args, " "), func(t *testing.T) {
		serve(t, exchanges...)
		tr.write(args, func() (int, string, string) { return ctl(t, stdin, args...) })
	})
}

func (tr *transcript) write(args []string, run func() (int, string, string)) {
	code, stdout, stderr := run()
	server := regexp.MustCompile(`http://127\.0\.0\.1:\d+`)
	stdout, stderr = server.ReplaceAllString(stdout, "http://SERVER"), server.ReplaceAllString(stderr, "http://SERVER")
	tr.out.WriteString("$ weftctl " + strings.Join(args, " ") + "\n" + stdout)
	for line := range strings.Lines(stderr) {
		tr.out.WriteString("! " + line)
	}
	if code != 0 {
		tr.out.WriteString("exit code " + string(rune('0'+code)) + "\n")
	}
	tr.out.WriteString("\n")
}

// compare compares with a golden file; -update writes it anew.
func (tr *transcript) compare(name string) { golden(tr.t, name, tr.out.String()) }

// testdata holds also when a test works in another directory.
var testdata, _ = filepath.Abs("testdata")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join(testdata, name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Error(diff)
	}
}

// ctl runs weftctl.
func ctl(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, world{strings.NewReader(stdin), &out, &errs, func() time.Time { return noon }})
	return code, out.String(), errs.String()
}
