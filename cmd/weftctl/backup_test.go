package main

import (
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
)

const content = "a backup\x00\x01"

// only wants a directory to have these files and nothing else, such as a part of one.
func only(t *testing.T, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("there is %q, want %q", got, want)
	}
}

func TestBackup(t *testing.T) {
	write(t, map[string]string{"old": "old"})
	get := exchange{want: "GET /v1/backup", answer: content, mime: octets}
	serve(t, get, get, exchange{want: "GET /v1/backup", answer: `{}`}, exchange{want: "GET /v1/backup", status: 403, answer: `{"status": 403, "detail": "an admin's"}`})
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"backup new", 0, "new: 10 bytes\n"},
		{"backup old", exitFailed, "old is there already"},
		{"backup old --force", 0, "old: 10 bytes\n"},
		{"backup other", exitFailed, "is not a registry server"},
		{"backup other", exitFailed, "an admin's"},
		{"backup absent/file -n shop", exitUsage, "about the whole server"},
		{"backup", exitUsage, "want FILE"},
	} {
		if code, stdout, stderr := ctl(t, "", strings.Fields(c.args)...); code != c.code || !strings.Contains(stdout+stderr, c.says) {
			t.Errorf("%s: %d %q %q", c.args, code, stdout, stderr)
		}
	}
	only(t, "new", "old")
	for _, name := range []string{"new", "old"} {
		data, err := os.ReadFile(name)
		info, _ := os.Stat(name)
		if err != nil || string(data) != content || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %q, %v, %v", name, data, info.Mode(), err)
		}
	}
}

// TestHalfABackup is none: what was there before stays, and nothing is left lying about.
func TestHalfABackup(t *testing.T) {
	for name, cut := range map[string]bool{"cut off": true, "whole, the control": false} {
		t.Run(name, func(t *testing.T) {
			write(t, map[string]string{"old": "old"})
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", octets)
				w.Write([]byte(content))
				http.NewResponseController(w).Flush()
				if cut {
					panic(http.ErrAbortHandler)
				}
			}))
			defer s.Close()
			t.Setenv("WEFT_HTTP", s.URL)
			t.Setenv("WEFT_TOKEN", "secret")
			code, _, stderr := ctl(t, "", "backup", "old", "--force")
			data, err := os.ReadFile("old")
			if want := map[bool]string{true: "old", false: content}[cut]; err != nil || string(data) != want || (code != 0) != cut {
				t.Errorf("%d %q: %q, %v", code, stderr, data, err)
			}
			only(t, "old")
		})
	}
}

func TestBackupWhereItCannotBe(t *testing.T) {
	t.Chdir(t.TempDir())
	serve(t, exchange{want: "GET /v1/backup", answer: content, mime: octets})
	if code, _, stderr := ctl(t, "", "backup", "absent/file"); code != exitFailed || !strings.Contains(stderr, "no backup is written") {
		t.Error(code, stderr)
	}
}

func TestRestore(t *testing.T) {
	write(t, map[string]string{"weft.backup": content, "empty": ""})
	if err := os.Mkdir("dir", 0o700); err != nil {
		t.Fatal(err)
	}
	status := func(epoch string) exchange {
		return exchange{want: "GET /v1/status", answer: `{"epoch": "` + epoch + `", "revision": "` + epoch + `-7", "rules": 3, "store": {"state": "ok"}}`}
	}
	starting := exchange{want: "GET /v1/status", status: 503, answer: `{"status": 503, "detail": "starting"}`}
	post := exchange{want: "POST /v1/restore", body: content, header: []string{"Content-Type: " + octets}, status: 202, answer: `{"accepted": true}`}
	refused := post
	refused.status, refused.answer = 422, `{"status": 422, "detail": "the backup cannot be used: its checksum is wrong"}`
	tr := &transcript{t: t}
	for _, c := range []struct {
		args      string
		exchanges []exchange
	}{
		{"restore weft.backup", nil},
		{"restore absent --yes", nil},
		{"restore empty --yes", nil},
		{"restore dir --yes", nil},
		{"restore weft.backup --yes", []exchange{status("1f"), post, status("1f"), starting, status("20")}},
		{"restore weft.backup --yes -o json", []exchange{status("1f"), post, status("20")}},
		{"restore weft.backup --yes", []exchange{status("1f"), refused}},
		{"restore weft.backup --yes", []exchange{status("1f"), post, {want: "GET /v1/status", status: 401, answer: `{"status": 401, "detail": "the token is not known to this server"}`}}},
		{"restore weft.backup --yes", []exchange{{want: "GET /v1/status", status: 401, answer: `{"status": 401, "detail": "no"}`}}},
	} {
		tr.run("", strings.Fields(c.args), c.exchanges...)
	}
	tr.compare("restore.txt")
}

// TestReplaceKeepsItPrivate looks at the file before it has its name.
func TestReplaceKeepsItPrivate(t *testing.T) {
	t.Chdir(t.TempDir())
	looked := 0
	_, err := replace("x", reader(func(p []byte) (int, error) {
		entries, err := os.ReadDir(".")
		for _, e := range entries {
			info, _ := e.Info()
			if info.Mode().Perm() != 0o600 {
				t.Errorf("%s has mode %v", e.Name(), info.Mode())
			}
			looked++
		}
		return 0, errors.Join(fs.ErrClosed, err) // it breaks off
	}))
	if err == nil || looked != 1 {
		t.Errorf("%v; looked at %d files", err, looked)
	}
	only(t)
}

type reader func([]byte) (int, error)

func (r reader) Read(p []byte) (int, error) { return r(p) }
