package rest

import (
	"context"
	"errors"
	"io"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftmesh/weft/internal/registry/store"
)

func TestBackup(t *testing.T) {
	fail := error(nil)
	api := newAPIWith(t, store.NewMemory(), Config{Backup: func(w io.Writer) error {
		if fail != nil {
			return fail
		}
		_, err := io.WriteString(w, "all there is")
		return err
	}})
	if a := must(t, api, 200, "HEAD", "/v1/backup", ""); a.header.Get("Content-Type") != octets {
		t.Error(a)
	}
	if v := must(t, api, 200, "GET", "/v1/status", "").json(t); v["lastBackup"] != nil {
		t.Error("HEAD counts as a backup, of which nobody has a copy", v)
	}
	a := must(t, api, 200, "GET", "/v1/backup", "")
	if a.body != "all there is" || a.header.Get("Content-Type") != octets {
		t.Error(a)
	}
	if v := must(t, api, 200, "GET", "/v1/status", "").json(t); v["lastBackup"] == nil {
		t.Error(v)
	}
	fail = store.ErrBroken
	if a := must(t, api, 503, "GET", "/v1/backup", ""); a.header.Get("Content-Type") != "application/problem+json" || a.header.Get("Content-Disposition") != "" {
		t.Error(a)
	}
	api.copies.busy.Lock()
	must(t, api, 429, "GET", "/v1/backup", "")
	api.copies.busy.Unlock()
	must(t, newAPI(t), 501, "GET", "/v1/backup", "")
}

// Half a backup is not taken for one: the connection ends without the end of the body.
func TestABackupCutShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newAPIWith(t, store.NewMemory(), Config{Backup: func(w io.Writer) error {
			io.WriteString(w, strings.Repeat("x", 10_000))
			return errors.New("the disk is gone")
		}})
		conn := serve(t, api)("127.0.0.1")
		io.WriteString(conn, "GET /v1/backup HTTP/1.1\r\nHost: registry\r\nAuthorization: Bearer admin\r\n\r\n")
		data, _ := io.ReadAll(conn)
		if text := string(data); !strings.Contains(text, "200 OK") || strings.HasSuffix(text, "0\r\n\r\n") {
			t.Errorf("%.200q … %q", text, text[len(text)-20:])
		}
	})
}

func TestRestore(t *testing.T) {
	var got int64
	result := error(nil)
	api := newAPIWith(t, store.NewMemory(), Config{Restore: func(_ context.Context, r io.Reader) (err error) {
		if got, err = io.Copy(io.Discard, r); err != nil {
			return err
		}
		return result
	}})
	const octet = "Content-Type: application/octet-stream"
	large := strings.Repeat("x", 4*maxBody)
	if a := must(t, api, 202, "POST", "/v1/restore", large, octet); got != int64(len(large)) || a.json(t)["accepted"] != true {
		t.Errorf("%d bytes: %v", got, a)
	}
	must(t, api, 413, "POST", "/v1/rules", large, octet) // the control: others are bounded
	for err, want := range map[error]int{store.ErrBackup: 422, store.ErrFull: 507, store.ErrBusy: 429, io.ErrClosedPipe: 500} {
		result = err
		must(t, api, want, "POST", "/v1/restore", "x", octet)
	}
	must(t, api, 415, "POST", "/v1/restore", "x", "Content-Type: application/json")
	must(t, api, 415, "POST", "/v1/restore", "x", octet, "Content-Encoding: gzip")
	must(t, api, 403, "POST", "/v1/restore", "x", octet, "Authorization: Bearer operator")
	must(t, newAPI(t), 501, "POST", "/v1/restore", "x", octet)
}

func TestRestoreAtTheBound(t *testing.T) {
	if testing.Short() {
		t.Skip("reads 2 GiB of zeros")
	}
	api := newAPIWith(t, store.NewMemory(), Config{Restore: func(_ context.Context, r io.Reader) error { _, err := io.Copy(io.Discard, r); return err }})
	for size, want := range map[int64]int{maxRestore: 202, maxRestore + 1: 413} {
		r := httptest.NewRequest("POST", "/v1/restore", io.LimitReader(zeros{}, size))
		r.Header.Set("Authorization", "Bearer admin")
		r.Header.Set("Content-Type", octets)
		w := httptest.NewRecorder()
		api.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%d bytes: %d %s, want %d", size, w.Code, w.Body, want)
		}
	}
}

// A restore may take longer than the server gives a request, as long as bytes come; who stops sending is cut off.
func TestASlowRestore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var ends []error
		api := newAPIWith(t, store.NewMemory(), Config{Restore: func(_ context.Context, r io.Reader) error {
			_, err := io.Copy(io.Discard, r)
			mu.Lock()
			ends = append(ends, err)
			mu.Unlock()
			return err
		}})
		dial := serve(t, api)
		const head = "POST /v1/restore HTTP/1.1\r\nHost: registry\r\nAuthorization: Bearer admin\r\nContent-Type: application/octet-stream\r\nContent-Length: 10\r\n\r\n"
		slow := dial("127.0.0.1")
		io.WriteString(slow, head)
		for range 10 {
			time.Sleep(20 * time.Second)
			io.WriteString(slow, "x")
		}
		answer := make([]byte, 12)
		io.ReadFull(slow, answer)
		if string(answer) != "HTTP/1.1 202" {
			t.Errorf("%s", answer)
		}
		slow.Close()
		stalled := dial("127.0.0.1")
		io.WriteString(stalled, head+"x")
		start := time.Now()
		go io.Copy(io.Discard, stalled)
		time.Sleep(stallLimit + time.Second)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if len(ends) != 2 || ends[0] != nil || ends[1] == nil {
			t.Errorf("after %s: %v", time.Since(start), ends)
		}
	})
}
