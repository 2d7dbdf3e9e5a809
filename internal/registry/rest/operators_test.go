package rest

import (
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/catalog"
	"github.com/weftmesh/weft/internal/registry/session"
	"github.com/weftmesh/weft/internal/registry/store"
	"github.com/weftmesh/weft/rule"
)

func TestAliases(t *testing.T) {
	api := newAPI(t)
	const one = "/v1/aliases/64030:65536"
	must(t, api, 404, "GET", one, "")
	a := must(t, api, 201, "PUT", one, `{"service": "product.shop"}`)
	if v := a.json(t); v["name"] != "64030:65536" || v["namespace"] != "default" || v["service"] != "product.shop" || v["revision"] != a.tag() {
		t.Error(a.body)
	}
	if b := must(t, api, 200, "PUT", one, `{"service": "product.shop"}`); b.tag() != a.tag() {
		t.Error("the same again has a new revision", b)
	}
	if b := must(t, api, 200, "PUT", one, `{"service": "product"}`); b.json(t)["service"] != "product.default" || b.tag() == a.tag() {
		t.Error(b)
	}
	must(t, api, 201, "PUT", "/v1/aliases/goods", `{"service": "product"}`)
	if items := must(t, api, 200, "GET", "/v1/aliases", "").items(t); len(items) != 2 || items[0]["name"] != "64030:65536" || items[1]["name"] != "goods" {
		t.Error(items)
	}
	if items := must(t, api, 200, "GET", "/v1/aliases?limit=1&after=64030:65536", "").items(t); len(items) != 1 || items[0]["name"] != "goods" {
		t.Error(items)
	}
	if items := must(t, api, 200, "GET", "/v1/aliases?namespace=shop", "").items(t); len(items) != 0 {
		t.Error(items)
	}
	must(t, api, 201, "PUT", product+"/p1", `{"address": "127.0.0.1:9000", "protocol": "http"}`)
	for name, body := range map[string]string{"product": `{"service": "stock"}`, "other": `{"service": "goods"}`} {
		must(t, api, 409, "PUT", "/v1/aliases/"+name, body) // a service; the alias of an alias
	}
	must(t, api, 422, "PUT", "/v1/aliases/a%2Fb", `{"service": "product"}`)
	if b := must(t, api, 422, "PUT", "/v1/aliases/a", `{"service": "a b"}`); !strings.Contains(b.body, `"location":"body.service"`) {
		t.Error(b.body)
	}
	must(t, api, 400, "PUT", "/v1/aliases/a", `{"target": "product"}`)
	must(t, api, 204, "DELETE", one, "")
	must(t, api, 404, "DELETE", one, "")
}

func TestTokens(t *testing.T) {
	api := newAPI(t)
	a := must(t, api, 201, "POST", "/v1/tokens", `{"name": "ci", "role": "operator", "namespaces": ["shop"], "ttl": "1h"}`)
	v := a.json(t)
	if v["token"] != "text-ci" || v["id"] != "id-ci" || v["role"] != "operator" || v["createdBy"] != "admin" || v["expiresAt"] == nil || a.header.Get("Cache-Control") != "no-store" {
		t.Error(a)
	}
	if list := must(t, api, 200, "GET", "/v1/tokens", ""); strings.Contains(list.body, "text-ci") || len(list.items(t)) != 1 || list.items(t)[0]["name"] != "ci" {
		t.Error(list.body)
	}
	must(t, api, 200, "GET", "/v1/services?namespace=shop", "", "Authorization: Bearer text-ci")
	must(t, api, 204, "DELETE", "/v1/tokens/id-ci", "")
	must(t, api, 401, "GET", "/v1/services?namespace=shop", "", "Authorization: Bearer text-ci")
	must(t, api, 404, "DELETE", "/v1/tokens/id-ci", "")
	for body, location := range map[string]string{
		`{"name": "", "role": "reader"}`:                 "body.name",
		`{"name": "a", "role": "reader", "ttl": "10ms"}`: "body.ttl",
		`{"name": "a", "role": "reader", "ttl": "soon"}`: "body.ttl",
	} {
		if a := must(t, api, 422, "POST", "/v1/tokens", body); !strings.Contains(a.body, `"location":"`+location+`"`) {
			t.Error(a.body)
		}
	}
	must(t, api, 400, "POST", "/v1/tokens", `{"name": "a", "roles": ["reader"]}`)
}

func TestClients(t *testing.T) {
	sessions := &clients{}
	api := newAPIWith(t, store.NewMemory(), Config{Sessions: sessions})
	name := func(s, ns string) discovery.Name { return discovery.Name{Service: s, Namespace: ns} }
	at := func(n uint64) discovery.Revision { return discovery.Revision{Epoch: 1, Number: n} }
	sessions.live = []session.Client{
		{Process: "w2", Service: name("web", "default"), Address: "127.0.0.1:2", SDKVersion: "v1", Token: "workload", Since: time.Now(),
			Instances: []catalog.InstanceKey{{Service: name("web", "default"), ID: "w2"}},
			Services: []session.Subscription{{Name: name("product", "shop"), Sent: at(7), Acked: at(6), Latest: at(7),
				Nacks: []rule.Nack{{Kind: rule.KindRoute, Namespace: "shop", Name: "canary", Revision: "1-7", Reason: "no"}}}}},
		{Process: "w1", Service: name("web", "default"), Address: "127.0.0.1:1", Services: []session.Subscription{{Name: name("product", "shop"), Acked: at(7), Latest: at(7)}}},
		{Process: "s1", Service: name("stock", "shop"), Address: "127.0.0.1:3"},
	}
	first := must(t, api, 200, "GET", "/v1/clients", "")
	items := first.items(t)
	if len(items) != 3 || items[0]["process"] != "w1" || items[1]["process"] != "w2" || items[2]["process"] != "s1" {
		t.Fatal(first.body)
	}
	for _, want := range []string{`"instances":["web.default/w2"]`, `"behind":true`, `"token":"workload"`, `"sent":"1-7","acked":"1-6","latest":"1-7"`,
		`"nacks":[{"kind":"Route","name":"canary","namespace":"shop","revision":"1-7","reason":"no"}]`} {
		if strings.Count(first.body, want) != 1 {
			t.Errorf("%s is not there once: %s", want, first.body)
		}
	}
	for query, want := range map[string]int{
		"?service=product.shop": 2, "?service=product": 0, "?service=web": 2, "?namespace=shop": 1, "?namespace=shop&service=stock": 1, "?limit=1": 1,
	} {
		if items := must(t, api, 200, "GET", "/v1/clients"+query, "").items(t); len(items) != want {
			t.Errorf("%s: %v, want %d", query, items, want)
		}
	}
	if items := must(t, api, 200, "GET", "/v1/clients", "", "Authorization: Bearer shop-reader").items(t); len(items) != 1 || items[0]["process"] != "s1" {
		t.Error("a token of shop sees", items)
	}
	next := must(t, api, 200, "GET", "/v1/clients?limit=2", "").json(t)["next"].(string)
	if items := must(t, api, 200, "GET", "/v1/clients?limit=2&after="+next, "").items(t); len(items) != 1 || items[0]["process"] != "s1" {
		t.Error(items)
	}
	metrics := must(t, api, 200, "GET", "/metrics", "").body
	for _, want := range []string{"\nweft_registry_sessions 3\n", "\nweft_registry_subscriptions_behind 1\n", "\nweft_registry_nacks 1\n"} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %q", want)
		}
	}
}

func TestAudit(t *testing.T) {
	api := newAPI(t)
	must(t, api, 201, "PUT", product+"/p1", `{"address": "127.0.0.1:9000", "protocol": "http"}`, "Authorization: Bearer operator")
	must(t, api, 201, "PUT", canaryPath, canary, asYAML)
	must(t, api, 201, "PUT", canaryPath+"?namespace=shop", canary, asYAML, "Authorization: Bearer shop-operator")
	must(t, api, 200, "PUT", canaryPath+"?dryRun=true", shares(80), asYAML)
	must(t, api, 204, "PUT", "/v1/protection", `{"for": "10m"}`)
	items := must(t, api, 200, "GET", "/v1/audit", "").items(t)
	var got []string
	for _, e := range items {
		got = append(got, fmt.Sprint(e["who"], " ", e["from"], " ", e["action"], " ", e["kind"], " ", e["namespace"], " ", e["target"]))
	}
	want := []string{
		"admin 192.0.2.1 override protection <nil> *",
		"shop-operator 192.0.2.1 put Route shop canary",
		"admin 192.0.2.1 put Route default canary",
		"operator 192.0.2.1 put instance default product/p1",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%q, want %q", got, want)
	}
	for query, want := range map[string]int{
		"?who=operator": 1, "?kind=Route": 2, "?target=canary": 2, "?namespace=shop": 1, "?limit=2": 2, fmt.Sprintf("?before=%v", items[2]["number"]): 1,
	} {
		if items := must(t, api, 200, "GET", "/v1/audit"+query, "").items(t); len(items) != want {
			t.Errorf("%s: %v, want %d", query, items, want)
		}
	}
	page := must(t, api, 200, "GET", "/v1/audit?limit=3", "")
	if rest := must(t, api, 200, "GET", "/v1/audit?limit=3&before="+page.json(t)["next"].(string), ""); len(rest.items(t)) != 1 || rest.json(t)["next"] != nil {
		t.Error(rest.body)
	}
	if items := must(t, api, 200, "GET", "/v1/audit", "", "Authorization: Bearer shop-operator").items(t); len(items) != 1 || items[0]["namespace"] != "shop" {
		t.Error("a token of shop sees", items)
	}
	must(t, api, 403, "GET", "/v1/audit", "", "Authorization: Bearer reader")
}

// Half of 20 leases fall silent at once: they are protected, until somebody says otherwise.
func TestProtection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newAPI(t)
		for i := range 20 {
			must(t, api, 201, "PUT", fmt.Sprintf("%s/p%02d", product, i), `{"address": "127.0.0.1:9000", "protocol": "http", "ttl": "10s"}`)
		}
		for range 30 {
			time.Sleep(5 * time.Second)
			for i := range 10 {
				must(t, api, 204, "POST", fmt.Sprintf("%s/p%02d/renew", product, i), "")
			}
		}
		items := must(t, api, 200, "GET", "/v1/protection?namespace=default", "").items(t)
		if len(items) != 1 || items[0]["service"] != "product" || items[0]["leases"] != 20. || items[0]["missing"] != 10. || items[0]["overriddenUntil"] != nil {
			t.Fatal(items)
		}
		if items := must(t, api, 200, "GET", "/v1/protection", "", "Authorization: Bearer shop-reader").items(t); len(items) != 0 {
			t.Error("a token of shop sees", items)
		}
		metrics := must(t, api, 200, "GET", "/metrics", "").body
		if !strings.Contains(metrics, "weft_registry_protected_missing ") || strings.Contains(metrics, "weft_registry_protected 0\n") {
			t.Error("the metrics do not say so")
		}
		for body, want := range map[string]int{
			`{"for": "25h"}`: 422, `{"for": "-1s"}`: 422, `{}`: 422, `{"service": "a b", "for": "1m"}`: 422, `{"for": 10}`: 400, `{"service": "none", "for": "1m"}`: 404,
		} {
			must(t, api, want, "PUT", "/v1/protection", body)
		}
		must(t, api, 403, "PUT", "/v1/protection?namespace=shop", `{"service": "product.default", "for": "1m"}`, "Authorization: Bearer shop-operator")
		must(t, api, 403, "PUT", "/v1/protection", `{"for": "1m"}`, "Authorization: Bearer shop-operator")
		must(t, api, 204, "PUT", "/v1/protection", `{"service": "product", "for": "10m"}`)
		if items := must(t, api, 200, "GET", "/v1/protection?namespace=default", "").items(t); items[0]["overriddenUntil"] == nil {
			t.Error(items)
		}
		must(t, api, 204, "PUT", "/v1/protection", `{"service": "product", "for": "0s"}`)
		if items := must(t, api, 200, "GET", "/v1/protection?namespace=default", "").items(t); items[0]["overriddenUntil"] != nil {
			t.Error(items)
		}
	})
}

func TestChecks(t *testing.T) {
	api := newAPI(t)
	body := func(check string) string {
		return `{"address": "127.0.0.1:9000", "protocol": "http", "check": ` + check + `}`
	}
	must(t, api, 201, "PUT", product+"/p1", body(`{"type": "http", "path": "/health", "interval": "5s", "timeout": "1s", "failures": 2}`))
	must(t, api, 201, "PUT", product+"/p2", body(`{"type": "grpc", "service": "shop.Stock", "interval": "1s"}`))
	must(t, api, 201, "PUT", product+"/p3", body(`{"type": "tcp"}`))
	want := map[string]catalog.Check{
		"p1": {Type: "http", Path: "/health", Interval: 5 * time.Second, Timeout: time.Second, Failures: 2},
		"p2": {Type: "grpc", Service: "shop.Stock", Interval: time.Second, Timeout: time.Second, Failures: 3},
		"p3": {Type: "tcp", Interval: 10 * time.Second, Timeout: 2 * time.Second, Failures: 3},
	}
	checked := api.Catalog.Checked()
	if len(checked) != 3 {
		t.Fatal(checked)
	}
	for _, c := range checked {
		if c.Check != want[c.ID] {
			t.Errorf("%s: %+v, want %+v", c.ID, c.Check, want[c.ID])
		}
	}
	for check, location := range map[string]string{
		`{"type": "icmp"}`:                                              "type",
		`{}`:                                                            "type",
		`{"type": "http", "path": "health"}`:                            "path",
		`{"type": "tcp", "path": "/"}`:                                  "path",
		`{"type": "tcp", "service": "a"}`:                               "service",
		`{"type": "tcp", "interval": "500ms"}`:                          "interval",
		`{"type": "tcp", "interval": "61m"}`:                            "interval",
		`{"type": "tcp", "interval": "1s", "timeout": "2s"}`:            "timeout",
		`{"type": "tcp", "timeout": "99ms"}`:                            "timeout",
		`{"type": "tcp", "failures": 101}`:                              "failures",
		`{"type": "tcp", "failures": -1}`:                               "failures",
		`{"type": "http", "path": "/` + strings.Repeat("a", 256) + `"}`: "path",
	} {
		if a := must(t, api, 422, "PUT", product+"/p4", body(check)); !strings.Contains(a.body, `"location":"body.check.`+location+`"`) {
			t.Errorf("%s: %s", check, a.body)
		}
	}
	must(t, api, 400, "PUT", product+"/p4", body(`{"type": "tcp", "port": 80}`))
	must(t, api, 200, "PUT", product+"/p3", `{"address": "127.0.0.1:9000", "protocol": "http"}`)
	if n := len(api.Catalog.Checked()); n != 2 {
		t.Errorf("%d checks after one was taken away", n)
	}
}

func TestStatus(t *testing.T) {
	api := newAPIWith(t, store.NewMemory(), Config{StoreStatus: func() Store { return Store{Path: "/data", Bytes: 42, State: "full"} }})
	must(t, api, 201, "PUT", product+"/p1", `{"address": "127.0.0.1:9000", "protocol": "http"}`)
	v := must(t, api, 200, "GET", "/v1/status", "").json(t)
	revision := api.Catalog.Revision().String()
	epoch, _, _ := strings.Cut(revision, "-")
	if v["version"] != "v0" || v["revision"] != revision || v["epoch"] != epoch || v["services"] != 1. || v["instances"] != 1. || v["rules"] != 0. ||
		v["sessions"] != 0. || v["protected"] != 0. || fmt.Sprint(v["store"]) != "map[bytes:42 path:/data state:full]" || v["lastBackup"] != nil || v["startedAt"] == nil {
		t.Error(v)
	}
	metrics := must(t, api, 200, "GET", "/metrics", "", "Authorization: Bearer shop-reader").body
	for _, want := range []string{"weft_registry_store_bytes 42\n", "weft_registry_store_writable 0\n", "weft_registry_last_backup_timestamp_seconds 0\n", `weft_registry_requests_running{lane="write"} 0`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %q", want)
		}
	}
}

func TestBackup(t *testing.T) {
	fail := error(nil)
	api := newAPIWith(t, store.NewMemory(), Config{Backup: func(w io.Writer) error {
		if fail != nil {
			return fail
		}
		_, err := io.WriteString(w, "all there is")
		return err
	}})
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
	api := newAPIWith(t, store.NewMemory(), Config{Restore: func(r io.Reader) (err error) {
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
	api := newAPIWith(t, store.NewMemory(), Config{Restore: func(r io.Reader) error { _, err := io.Copy(io.Discard, r); return err }})
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
		api := newAPIWith(t, store.NewMemory(), Config{Restore: func(r io.Reader) error {
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
