package rest

import (
	"strings"
	"testing"
	"time"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/catalog"
	"github.com/weftmesh/weft/internal/registry/session"
	"github.com/weftmesh/weft/internal/registry/store"
	"github.com/weftmesh/weft/rule"
)

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
