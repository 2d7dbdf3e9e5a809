package main

import (
	"strings"
	"testing"
)

// listings are the commands that list, with what the server answers; each is shown in every format.
var listings = []struct {
	name, args, want string
	items            []string
}{
	{"services", "get services -n shop", "GET /v1/services?namespace=shop", []string{
		`{"name": "cart", "namespace": "shop", "instances": 0, "rules": 1, "revision": "1f-40"}`,
		`{"name": "product", "namespace": "shop", "instances": 3, "states": {"up": 2, "draining": 1}, "rules": 2, "revision": "1f-42"}`,
	}},
	{"instances", "get instances product.shop", "GET /v1/services/product/instances?namespace=shop", []string{
		`{"id": "p1", "service": "product", "namespace": "shop", "process": "7c1e", "address": "10.0.0.7:9001", "protocol": "http", "http2": true, "tls": true, "labels": {"version": "v2", "tier": "gold"}, "weight": 100, "locality": {"region": "eu", "zone": "a"}, "state": "up"}`,
		`{"id": "p10", "service": "product", "namespace": "shop", "address": "10.0.0.8:9001", "protocol": "grpc", "weight": 7, "state": "draining"}`,
	}},
	{"rules", "get rules route --service product", "GET /v1/rules?kind=route&service=product", []string{
		`{"kind": "Route", "namespace": "default", "name": "canary", "service": "product", "spec": {"rules": [{"split": [{"subset": "v1"}]}]}, "revision": "1f-41", "updatedAt": "2026-11-21T11:56:30Z", "updatedBy": "alice"}`,
		`{"kind": "Mirage", "namespace": "default", "name": "new-kind", "service": "*", "mode": "observe", "spec": {"on": "yes <&>"}, "revision": "1f-42", "updatedAt": "2026-11-19T11:56:30Z", "updatedBy": "ci"}`,
	}},
	{"aliases", "get aliases", "GET /v1/aliases", []string{
		`{"name": "64001:17", "namespace": "default", "service": "product", "revision": "1f-3"}`,
		`{"name": "items", "namespace": "default", "service": "product.shop", "revision": "1f-4"}`,
	}},
	{"clients", "clients --service product", "GET /v1/clients?service=product", []string{behindClient, freshClient}},
	{"tokens", "tokens list", "GET /v1/tokens", []string{
		`{"id": "3f9a", "name": "ci", "role": "operator", "namespaces": ["shop", "web"], "createdAt": "2026-11-20T10:00:00Z", "createdBy": "admin", "expiresAt": "2026-11-22T11:00:00Z"}`,
		`{"id": "77d0", "name": "product", "role": "workload", "services": ["product.shop"], "createdAt": "2026-11-21T11:59:15Z", "createdBy": "alice"}`,
	}},
	{"protection", "protection", "GET /v1/protection", []string{
		`{"leases": 100, "missing": 60, "since": "2026-11-21T11:58:00Z"}`,
		`{"service": "product", "namespace": "shop", "leases": 12, "missing": 9, "since": "2026-11-21T11:50:00Z", "overriddenUntil": "2026-11-21T12:07:30Z"}`,
	}},
	{"history", "history route canary", "GET /v1/rules/route/canary/history", []string{
		`{"revision": "1f-42", "at": "2026-11-21T11:57:00Z", "by": "alice", "outcome": "deleted"}`,
		`{"revision": "1f-41", "at": "2026-11-21T09:00:00Z", "by": "ci", "outcome": "configured", "rule": {"kind": "Route", "name": "canary", "service": "product", "mode": "enforce", "spec": {}}}`,
	}},
	{"audit", "audit --who alice --kind instance --target product/p1 --since 1h --limit 5", "GET /v1/audit?kind=instance&limit=5&target=product%2Fp1&who=alice", []string{
		`{"number": 9, "at": "2026-11-21T11:59:00Z", "who": "alice", "from": "10.0.0.1", "action": "order", "kind": "instance", "namespace": "default", "target": "product/p1", "revision": "1f-9", "detail": "weight 10"}`,
		`{"number": 7, "at": "2026-11-21T10:59:00Z", "who": "alice", "from": "10.0.0.1", "action": "put", "kind": "instance", "namespace": "default", "target": "product/p1", "revision": "1f-7"}`,
	}},
}

const (
	behindClient = `{"process": "7c1e", "service": "web", "namespace": "default", "address": "10.0.0.9:50112", "sdkVersion": "v0.3.0", "token": "workload", "since": "2026-11-21T07:00:00Z", "instances": [{"service": "web", "id": "w1"}],
		"services": [{"service": "product.default", "sent": "1f-42", "acked": "1f-41", "latest": "1f-42", "behind": true, "nacks": [{"kind": "Route", "name": "canary", "namespace": "default", "revision": "1f-42", "reason": "spec.rules[0]: unknown subset\nv9"}]},
			{"service": "stock.default", "sent": "1f-30", "acked": "1f-30", "latest": "1f-30", "behind": false, "nacks": []}]}`
	freshClient = `{"process": "8d2f", "address": "10.0.0.10:50113", "sdkVersion": "v0.3.0", "token": "ci", "since": "2026-11-21T11:59:50Z", "instances": [], "services": [{"service": "product.default", "sent": "1f-42", "acked": "1f-42", "latest": "1f-42", "behind": false, "nacks": []}]}`
)

// TestListings shows each list in each format, full and empty.
func TestListings(t *testing.T) {
	for _, l := range listings {
		t.Run(l.name, func(t *testing.T) {
			tr := &transcript{t: t}
			for _, output := range outputs {
				tr.run("", append(strings.Fields(l.args), "-o", output), exchange{want: l.want, answer: page(l.items...)})
			}
			for _, output := range []string{"table", "json", "yaml", "name"} {
				tr.run("", append(strings.Fields(l.args), "-o", output), exchange{want: l.want, answer: page()})
			}
			tr.compare("list-" + l.name + ".txt")
		})
	}
}

// TestOtherNames runs the commands that are another way to a list.
func TestOtherNames(t *testing.T) {
	for args, want := range map[string]string{
		"get clients": "GET /v1/clients", "get clients --service product": "GET /v1/clients?service=product",
		"get tokens": "GET /v1/tokens", "get protection": "GET /v1/protection",
		"alias list": "GET /v1/aliases", "get aliases -n shop": "GET /v1/aliases?namespace=shop", "get service": "GET /v1/services",
		"get instance product": "GET /v1/services/product/instances", "get rule": "GET /v1/rules",
	} {
		t.Run(args, func(t *testing.T) {
			serve(t, exchange{want: want, answer: page()})
			if code, _, stderr := ctl(t, "", strings.Fields(args)...); code != 0 {
				t.Error(code, stderr)
			}
		})
	}
}

// answers of writes of rules.
const (
	applied = `{"items": [
		{"kind": "Route", "namespace": "default", "name": "canary", "outcome": "created", "rule": {"kind": "Route", "name": "canary"}},
		{"kind": "Retry", "namespace": "default", "name": "patient", "outcome": "configured", "rule": {"kind": "Retry", "name": "patient"}},
		{"kind": "Retry", "namespace": "default", "name": "other", "outcome": "unchanged", "rule": {"kind": "Retry", "name": "other"}}], "revision": "1f-42"}`
	dryRun = `{"items": [
		{"kind": "Route", "namespace": "default", "name": "canary", "outcome": "created", "rule": {}, "diff": "--- Route/default/canary\n+++ Route/default/canary\n@@ -0,0 +1,2 @@\n+kind: Route\n+name: canary\n"},
		{"kind": "Retry", "namespace": "default", "name": "patient", "outcome": "configured", "rule": {}, "diff": "--- Retry/default/patient@1f-3\n+++ Retry/default/patient\n@@ -6 +6 @@\n-  attempts: 5\n+  attempts: \u001b[31m4\n"},
		{"kind": "Retry", "namespace": "default", "name": "other", "outcome": "unchanged", "rule": {}}], "revision": "1f-41", "dryRun": true}`
	undecided = `{"items": [{"kind": "Retry", "namespace": "default", "name": "other", "outcome": "unchanged", "rule": {}}], "revision": "1f-41", "dryRun": true}`
	acked     = `, "acknowledged": {"live": 12, "acked": 12, "complete": true}}`
	notAcked  = `, "acknowledged": {"live": 12, "acked": 9, "complete": false}}`
)

func with(answer, more string) string { return strings.TrimSuffix(answer, "}") + more }

func TestWritesOfRules(t *testing.T) {
	const deletedOne = `{"items": [{"kind": "Route", "namespace": "default", "name": "canary", "outcome": "deleted", "rule": {}}], "revision": "1f-43"}`
	yaml := []string{"Content-Type: application/yaml"}
	post := func(query, answer string) exchange {
		return exchange{want: "POST /v1/rules" + query, body: documents, header: yaml, answer: answer}
	}
	versions := page(
		`{"revision": "1f-42", "at": "2026-11-21T11:57:00Z", "by": "alice", "outcome": "configured", "rule": {}}`,
		`{"revision": "1f-41", "at": "2026-11-21T09:00:00Z", "by": "ci", "outcome": "created", "rule": {}}`)
	gone := page(
		`{"revision": "1f-42", "at": "2026-11-21T11:57:00Z", "by": "alice", "outcome": "deleted"}`,
		`{"revision": "1f-41", "at": "2026-11-21T09:00:00Z", "by": "ci", "outcome": "created", "rule": {}}`)
	again := page(
		`{"revision": "1f-42", "at": "2026-11-21T11:57:00Z", "by": "alice", "outcome": "created", "rule": {}}`,
		`{"revision": "1f-41", "at": "2026-11-21T09:00:00Z", "by": "ci", "outcome": "deleted"}`)
	one := page(`{"revision": "1f-42", "at": "2026-11-21T11:57:00Z", "by": "alice", "outcome": "created", "rule": {}}`)
	history := func(answer string) exchange {
		return exchange{want: "GET /v1/rules/route/canary/history?limit=2", answer: answer}
	}
	back := func(query string, header ...string) exchange {
		return exchange{want: "POST /v1/rules/route/canary/rollback" + query, body: `{"revision":"1f-41"}`, header: header,
			answer: `{"items": [{"kind": "Route", "namespace": "default", "name": "canary", "outcome": "configured", "rule": {}}], "revision": "1f-43"` + dry(query) + "}"}
	}
	versionDiff := `{"from": "1f-41", "to": "1f-42", "diff": "--- a\n+++ b\n@@ -1 +1 @@\n-x\n+y\n"}`
	tr := &transcript{t: t}
	for _, c := range []struct {
		args      string
		exchanges []exchange
	}{
		{"apply -f -", []exchange{post("", applied)}},
		{"apply -f - -o name", []exchange{post("", applied)}},
		{"apply -f - -o json", []exchange{post("", with(applied, acked))}},
		{"apply -f - -o yaml -n shop", []exchange{post("?namespace=shop", applied)}},
		{"apply -f - --dry-run", []exchange{post("?dryRun=true", dryRun)}},
		{"apply -f - --wait", []exchange{post("?wait=true&waitTimeout=10s", with(applied, acked))}},
		{"apply -f - --wait=0.9 --wait-timeout 1m -o name", []exchange{post("?wait=0.9&waitTimeout=1m0s", with(applied, acked))}},
		{"apply -f - --wait", []exchange{post("?wait=true&waitTimeout=10s", with(applied, notAcked))}},
		{"apply -f - --delete route/old --delete retry/older", []exchange{post("?delete=route%2Fold&delete=retry%2Folder", applied)}},
		{"apply -f - --delete route", nil},
		{"apply -f - --wait=2", nil},
		{"apply -f - --wait=some", nil},
		{"apply -f - --wait --wait-timeout 2m", nil},
		{"apply -f - --wait-timeout 20s", nil},
		{"apply -f - --wait --dry-run", nil},
		{"diff -f -", []exchange{post("?dryRun=true", dryRun)}},
		{"diff -f - -o name", []exchange{post("?dryRun=true", dryRun)}},
		{"diff -f - -o json", []exchange{post("?dryRun=true", undecided)}},
		{"diff -f -", []exchange{post("?dryRun=true", undecided)}},
		{"diff route canary", []exchange{{want: "GET /v1/rules/route/canary/diff", answer: versionDiff}}},
		{"diff route canary -o json", []exchange{{want: "GET /v1/rules/route/canary/diff", answer: versionDiff}}},
		{"diff route canary --from 1f-40 --to 1f-42", []exchange{{want: "GET /v1/rules/route/canary/diff?from=1f-40&to=1f-42", answer: `{"from": "1f-40", "to": "1f-42", "diff": ""}`}}},
		{"diff -f - --from 1f-40", nil},
		{"diff route", nil},
		{"delete route canary", []exchange{{want: "DELETE /v1/rules/route/canary", answer: deletedOne}}},
		{"delete route canary --dry-run -o name", []exchange{{want: "DELETE /v1/rules/route/canary?dryRun=true", answer: deletedOne}}},
		{"delete route canary --wait", []exchange{{want: "DELETE /v1/rules/route/canary?wait=true&waitTimeout=10s", answer: with(deletedOne, acked)}}},
		{"rollback route canary", []exchange{history(versions), back("", `If-Match: "1f-42"`)}},
		{"rollback route canary --wait -o name", []exchange{history(versions), back("?wait=true&waitTimeout=10s", `If-Match: "1f-42"`)}},
		{"rollback route canary --to 1f-41 --dry-run", []exchange{back("?dryRun=true")}},
		{"rollback route canary -n default", []exchange{
			{want: "GET /v1/rules/route/canary/history?limit=2&namespace=default", answer: gone}, back("?namespace=default"),
		}},
		{"rollback route canary", []exchange{history(again)}},
		{"rollback route canary", []exchange{history(one)}},
		{"rollback route canary", []exchange{history(versions), {
			want: "POST /v1/rules/route/canary/rollback", body: `{"revision":"1f-41"}`, header: []string{`If-Match: "1f-42"`}, status: 412,
			answer: `{"status": 412, "detail": "rule Route/default/canary is at 1f-43, not at 1f-42"}`,
		}}},
		{"delete route canary --wait --wait-timeout 0s", nil},
		{"rollback route", nil},
		{"history", nil},
	} {
		tr.run(documents, strings.Fields(c.args), c.exchanges...)
	}
	tr.compare("rules-written.txt")
}

func TestOrders(t *testing.T) {
	const path = "PATCH /v1/services/product/instances/p1"
	in := func(state, weight string) string {
		return `{"id": "p1", "service": "product", "namespace": "default", "address": "10.0.0.7:9001", "protocol": "http", "state": "` + state + `", "weight": ` + weight + `}`
	}
	tr := &transcript{t: t}
	for _, c := range []struct {
		args string
		e    *exchange
	}{
		{"drain product p1", &exchange{want: path, body: `{"state":"draining"}`, answer: in("draining", "100")}},
		{"drain product.shop p1 --wait --wait-timeout 30s", &exchange{want: path + "?namespace=shop&wait=true&waitTimeout=30s", body: `{"state":"draining"}`, answer: with(in("draining", "100"), acked)}},
		{"drain product p1 --wait", &exchange{want: path + "?wait=true&waitTimeout=10s", body: `{"state":"draining"}`, answer: with(in("draining", "100"), notAcked)}},
		{"drain product p1 -o json --wait", &exchange{want: path + "?wait=true&waitTimeout=10s", body: `{"state":"draining"}`, answer: with(in("draining", "100"), acked)}},
		{"drain product p1 -o name", &exchange{want: path, body: `{"state":"draining"}`, answer: in("draining", "100")}},
		{"isolate product p1", &exchange{want: path, body: `{"state":"isolated"}`, answer: in("isolated", "100")}},
		{"resume product p1 -o yaml", &exchange{want: path, body: `{"state":"up"}`, answer: in("up", "100")}},
		{"weight product p1 7", &exchange{want: path, body: `{"weight":7}`, answer: in("up", "7")}},
		{"weight product p1 --reset", &exchange{want: path, body: `{"reset":true}`, answer: in("up", "100")}},
		{"drain product a/b%", &exchange{want: "PATCH /v1/services/product/instances/a%2Fb%25", body: `{"state":"draining"}`, status: 404, answer: `{"status": 404, "detail": "there is no instance \"a/b%\" of service product.default"}`}},
		{"remove product p1", &exchange{want: "DELETE /v1/services/product/instances/p1", status: 204}},
		{"remove product p1 -o json", &exchange{want: "DELETE /v1/services/product/instances/p1", status: 204}},
		{"remove product p1 --wait", &exchange{want: "DELETE /v1/services/product/instances/p1?wait=true&waitTimeout=10s", answer: `{"acknowledged": {"live": 1, "acked": 1, "complete": true}}`}},
		{"weight product p1 0", nil},
		{"weight product p1 ten", nil},
		{"weight product p1", nil},
		{"weight product p1 7 --reset", nil},
		{"drain product", nil},
		{"drain product.shop p1 -n web", nil},
		{"drain product.Shop p1", nil},
		{"drain Product p1", nil},
	} {
		var exchanges []exchange
		if c.e != nil {
			exchanges = append(exchanges, *c.e)
		}
		tr.run("", strings.Fields(c.args), exchanges...)
	}
	tr.compare("orders.txt")
}

func TestBehind(t *testing.T) {
	tr := &transcript{t: t}
	for _, args := range []string{"clients --behind --service product", "clients --behind --service product -o json", "clients --behind --service product -o name"} {
		tr.run("", strings.Fields(args), exchange{want: "GET /v1/clients?service=product", answer: page(behindClient, freshClient)})
	}
	tr.run("", []string{"clients", "--behind"}, exchange{want: "GET /v1/clients", answer: page(freshClient)})
	tr.compare("behind.txt")
}

func TestTokens(t *testing.T) {
	const made = `{"token": "weft-3f9a-c2VjcmV0", "id": "3f9a", "name": "ci", "role": "operator", "namespaces": ["shop"], "createdAt": "2026-11-21T12:00:00Z", "createdBy": "admin", "expiresAt": "2026-11-22T12:00:00Z"}`
	create := func(body string) exchange {
		return exchange{want: "POST /v1/tokens", body: body, status: 201, answer: made}
	}
	tr := &transcript{t: t}
	for _, c := range []struct {
		args      string
		exchanges []exchange
	}{
		{"tokens create --name ci --role operator --namespaces shop,web --ttl 24h", []exchange{create(`{"name":"ci","role":"operator","namespaces":["shop","web"],"ttl":"24h0m0s"}`)}},
		{"tokens create --name product --role workload --services product.shop", []exchange{create(`{"name":"product","role":"workload","services":["product.shop"]}`)}},
		{"tokens create --name ci --role operator -o json", []exchange{create(`{"name":"ci","role":"operator"}`)}},
		{"tokens create --name ci --role operator -o name", []exchange{create(`{"name":"ci","role":"operator"}`)}},
		{"tokens revoke 3f9a 77d0", []exchange{{want: "DELETE /v1/tokens/3f9a", status: 204}, {want: "DELETE /v1/tokens/77d0", status: 404, answer: `{"status": 404, "detail": "there is no token 77d0"}`}}},
		{"tokens create --role operator", nil},
		{"tokens create --name ci --role root", nil},
		{"tokens create --name ci --role reader --ttl -5m", nil},
		{"tokens revoke", nil},
		{"tokens", nil},
		{"tokens list -n shop", nil},
		{"tokens burn", nil},
		{"tokens list", []exchange{{want: "GET /v1/tokens", status: 403, answer: `{"status": 403, "detail": "the token \"ci\" is an operator's, and this takes an admin's"}`}}},
	} {
		tr.run("", strings.Fields(c.args), c.exchanges...)
	}
	tr.compare("tokens.txt")
}

func TestAliasAndProtection(t *testing.T) {
	tr := &transcript{t: t}
	for _, c := range []struct {
		args      string
		exchanges []exchange
	}{
		{"alias set 64001:17 product", []exchange{{want: "PUT /v1/aliases/64001:17", body: `{"service":"product"}`, status: 201, answer: `{"name": "64001:17", "namespace": "default", "service": "product", "revision": "1f-9"}`}}},
		{"alias set items product.shop -n web --wait -o json", []exchange{{want: "PUT /v1/aliases/items?namespace=web&wait=true&waitTimeout=10s", body: `{"service":"product.shop"}`, answer: `{"name": "items", "service": "product.shop"` + acked}}},
		{"alias set product cart", []exchange{{want: "PUT /v1/aliases/product", body: `{"service":"cart"}`, status: 409, answer: `{"status": 409, "detail": "product.default is a service already"}`}}},
		{"alias delete 64001:17", []exchange{{want: "DELETE /v1/aliases/64001:17", status: 204}}},
		{"alias delete 64001:17 --wait", []exchange{{want: "DELETE /v1/aliases/64001:17?wait=true&waitTimeout=10s", answer: `{"acknowledged": {"live": 0, "acked": 0, "complete": true}}`}}},
		{"alias set a", nil},
		{"alias", nil},
		{"protection override product.shop --for 10m", []exchange{{want: "PUT /v1/protection?namespace=shop", body: `{"for":"10m0s","service":"product"}`, status: 204}}},
		{"protection override --all --for 1h", []exchange{{want: "PUT /v1/protection", body: `{"for":"1h0m0s"}`, status: 204}}},
		{"protection end product", []exchange{{want: "PUT /v1/protection", body: `{"for":"0s","service":"product"}`, status: 204}}},
		{"protection end --all -o name", []exchange{{want: "PUT /v1/protection", body: `{"for":"0s"}`, status: 204}}},
		{"protection override product", nil},
		{"protection override product --for 25h", nil},
		{"protection override product --all --for 1h", nil},
		{"protection end", nil},
		{"protection product", nil},
	} {
		tr.run("", strings.Fields(c.args), c.exchanges...)
	}
	tr.compare("alias-protection.txt")
}

func TestStatus(t *testing.T) {
	const answer = `{"version": "v0.3.0", "epoch": "1f", "revision": "1f-42", "startedAt": "2026-11-18T12:00:00Z", "services": 5, "instances": 40, "rules": 7, "sessions": 12, "protected": 1, "store": {"path": "/var/lib/weft/registry.db", "bytes": 262144, "state": "ok"}}`
	tr := &transcript{t: t}
	for _, output := range outputs {
		tr.run("", []string{"status", "-o", output}, exchange{want: "GET /v1/status", answer: answer})
	}
	tr.run("", []string{"status"}, exchange{want: "GET /v1/status", answer: with(answer, `, "lastBackup": "2026-11-21T03:00:00Z"}`)})
	tr.compare("status.txt")
}

// TestAuditPages goes on page by page until there is enough, or it is old enough.
func TestAuditPages(t *testing.T) {
	at := func(number, at string) string {
		return `{"number": ` + number + `, "at": "` + at + `", "who": "alice", "action": "put", "kind": "Route", "target": "canary"}`
	}
	first := `{"items": [` + at("9", "2026-11-21T11:59:00Z") + `], "next": 9}`
	for _, c := range []struct {
		args, want string
		exchanges  []exchange
	}{
		{"--limit 2", "9\n8\n", []exchange{{want: "GET /v1/audit?limit=2", answer: first}, {want: "GET /v1/audit?before=9&limit=1", answer: `{"items": [` + at("8", "2026-11-20T12:00:00Z") + `], "next": 8}`}}},
		{"--limit 0 --since 2026-11-21T11:00:00Z", "9\n", []exchange{{want: "GET /v1/audit?limit=1000", answer: first}, {want: "GET /v1/audit?before=9&limit=1000", answer: `{"items": [` + at("8", "2026-11-20T12:00:00Z") + `], "next": "8"}`}}},
		{"--limit 1 --kind rOUTE", "9\n", []exchange{{want: "GET /v1/audit?kind=Route&limit=1", answer: first}}},
		{"--limit 1", "9\n", []exchange{{want: "GET /v1/audit?limit=1", answer: first}}},
	} {
		t.Run(c.args, func(t *testing.T) {
			serve(t, c.exchanges...)
			if code, stdout, stderr := ctl(t, "", append(strings.Fields("audit -o name"), strings.Fields(c.args)...)...); code != 0 || stdout != c.want {
				t.Error(code, stdout, stderr)
			}
		})
	}
}

// TestRefusals words what a server can answer.
func TestRefusals(t *testing.T) {
	fields := `{"status": 422, "detail": "two things", "errors": [{"location": "body.name", "message": "is missing"}, {"location": "query.limit", "message": "must be at most 10000", "value": 70000}]}`
	tr := &transcript{t: t}
	for _, c := range []struct {
		args string
		e    exchange
	}{
		{"get services", exchange{status: 401, answer: `{"status": 401, "detail": "the token has expired"}`}},
		{"get services -n a", exchange{status: 422, answer: fields}},
		{"get services -n b", exchange{status: 429, answer: `{"status": 429, "detail": "too many calls"}`, extra: []string{"Retry-After: 7"}}},
		{"get services -n c", exchange{status: 503, answer: `{"status": 503, "detail": "the store is broken; restart the server"}`}},
		{"get services -n d", exchange{status: 507, answer: "{\"status\": 507, \"detail\": \"the disk is full\\u001b[31m\"}"}},
		{"get services -n e", exchange{status: 200, answer: `<html>`, mime: "text/html"}},
		{"get services -n f", exchange{status: 500, answer: `oops`}},
		{"get services -n g", exchange{status: 200, answer: `{"items": [{"name": 7}]}`}},
		{"get services -n h", exchange{status: 200, answer: `{"items": 7}`}},
		{"get services -n i", exchange{status: 302, extra: []string{"Location: /elsewhere"}}},
	} {
		words := strings.Fields(c.args)
		c.e.want = "GET /v1/services"
		if len(words) > 2 {
			c.e.want += "?namespace=" + words[3]
		}
		tr.run("", words, c.e)
	}
	tr.compare("refusals.txt")
}

// dry is what a server adds when it was asked to change nothing.
func dry(query string) string {
	if strings.Contains(query, "dryRun") {
		return `, "dryRun": true`
	}
	return ""
}
