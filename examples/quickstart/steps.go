package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// steps are the story, in order. Each prints its figure and fails if that is not what it should be.
var steps = []struct {
	title string
	run   func(context.Context, *world) error
}{
	{"A registry, a web front and three product instances (v1, v1, v2), each over gRPC and HTTP", discover},
	{"A canary by REST: 90 % to v1, 10 % to v2", canary},
	{"Gray release by header and by cookie", gray},
	{"A user stays where the split has put them", sticky},
	{"An instance is killed under load", killInstance},
	{"The registry is killed under load, and comes back", killRegistry},
	{"One metric and one trace", observe},
}

func discover(ctx context.Context, w *world) error {
	if err := w.startRegistry(); err != nil {
		return err
	}
	took, err := w.eventually(ctx, func(ctx context.Context) error {
		return request(ctx, http.MethodGet, "http://"+w.httpAddr+"/readyz", nil, "", nil)
	})
	if err != nil {
		return err
	}
	fmt.Printf("   registry ready after %d ms\n", took.Milliseconds())
	products := []struct{ name, version string }{{"p1", "v1"}, {"p2", "v1"}, {"p3", "v2"}}
	for _, p := range products {
		if err := w.start(p.name, "shopd", "product", "-id", p.name, "-version", p.version); err != nil {
			return err
		}
	}
	if err := w.start("web", "shopd", "web", "-addr", w.webAddr); err != nil {
		return err
	}
	took, err = w.eventually(ctx, func(ctx context.Context) error { return w.countUp(ctx, 6) })
	if err != nil {
		return err
	}
	fmt.Printf("   6 product instances registered %d ms after their processes were started\n", took.Milliseconds())
	for _, via := range protocols {
		took, err := w.eventually(ctx, func(ctx context.Context) error {
			t, err := w.calls(ctx, "n=30&via="+via)
			if err == nil && len(t.Instances) != len(products) {
				err = fmt.Errorf("%s calls reached %v, want all of p1, p2, p3", via, t.Instances)
			}
			return err
		})
		if err != nil {
			return err
		}
		fmt.Printf("   %s: calls by name reach all three (%d ms until so)\n", via, took.Milliseconds())
	}
	return nil
}

var protocols = []string{"grpc", "http"}

func (w *world) countUp(ctx context.Context, want int) error {
	list, err := w.instances(ctx, "product")
	up := 0
	for _, in := range list {
		if in.State == "up" {
			up++
		}
	}
	if err == nil && up != want {
		err = fmt.Errorf("%d product instances are up, want %d", up, want)
	}
	return err
}

const canaryRule = `
kind: Route
name: product-canary
service: product
spec:
  subsets: {v1: {version: v1}, v2: {version: v2}}
  rules:
    - match: [{headers: {x-user-tier: gold}}, {cookies: {beta: "1"}}]
      split: [{subset: v2}]
    - match: [{headers: {x-user-id: {present: true}}}]
      split: [{subset: v1, weight: 90}, {subset: v2, weight: 10}]
      stickyBy: {header: x-user-id}
    - split: [{subset: v1, weight: 90}, {subset: v2, weight: 10}]
`

func canary(ctx context.Context, w *world) error {
	if err := w.registry(ctx, http.MethodPut, "/v1/rules/route/product-canary", canaryRule, nil); err != nil {
		return err
	}
	took, err := w.eventually(ctx, func(ctx context.Context) error {
		t, err := w.calls(ctx, "via=http&n=1&header=x-user-tier:gold")
		if err == nil && t.Versions["v2"] != 1 {
			err = errors.New("the rule is not in force yet")
		}
		return err
	})
	if err != nil {
		return err
	}
	fmt.Printf("   in force %d ms after the write was acknowledged\n", took.Milliseconds())
	const n = 2000
	for _, via := range protocols {
		t, err := w.calls(ctx, fmt.Sprintf("via=%s&n=%d", via, n))
		if err != nil {
			return err
		}
		share := 100 * float64(t.Versions["v2"]) / n
		fmt.Printf("   %s: %d calls, %.1f %% to v2\n", via, n, share)
		if sigma := 100 * math.Sqrt(0.1*0.9/n); math.Abs(share-10) > 4*sigma {
			return fmt.Errorf("%.1f %% of the calls went to v2, want 10 %%", share)
		}
	}
	return nil
}

func gray(ctx context.Context, w *world) error {
	for _, mark := range []string{"header=x-user-tier:gold", "cookie=beta%3D1"} {
		for _, via := range protocols {
			t, err := w.calls(ctx, fmt.Sprintf("via=%s&n=200&%s", via, mark))
			if err != nil {
				return err
			}
			text, _ := url.QueryUnescape(mark)
			fmt.Printf("   %s, %s: %d of 200 calls to v2\n", via, text, t.Versions["v2"])
			if t.Versions["v2"] != 200 {
				return fmt.Errorf("%d of 200 marked calls went to v2", t.Versions["v2"])
			}
		}
	}
	return nil
}

func sticky(ctx context.Context, w *world) error {
	const users = 100
	moved, onV2 := 0, 0
	for user := range users {
		seen := map[string]bool{}
		for _, via := range protocols {
			t, err := w.calls(ctx, fmt.Sprintf("via=%s&n=5&header=x-user-id:user-%d", via, user))
			if err != nil {
				return err
			}
			for version := range t.Versions {
				seen[version] = true
			}
		}
		if len(seen) != 1 {
			moved++
		}
		if seen["v2"] {
			onV2++
		}
	}
	fmt.Printf("   %d users, 10 calls each over both protocols: %d on v2, %d moved between versions\n", users, onV2, moved)
	if moved > 0 || onV2 == 0 || onV2 > 30 {
		return fmt.Errorf("%d users moved, %d of %d are on v2; want none moved and about 10", moved, onV2, users)
	}
	return nil
}

const retryRule = `
kind: Retry
name: product-retry
service: product
spec: {attempts: 3}
`

func killInstance(ctx context.Context, w *world) error {
	if err := w.registry(ctx, http.MethodPut, "/v1/rules/retry/product-retry", retryRule, nil); err != nil {
		return err
	}
	reads, orders, err := w.underLoad(ctx, func() error {
		if err := w.kill("p1"); err != nil {
			return err
		}
		return sleep(ctx, 3*time.Second)
	})
	if err != nil {
		return err
	}
	fmt.Printf("   %d reads, which may be repeated: %d failed\n", reads.total(), reads.Failed)
	fmt.Printf("   %d orders, which must not be: %d failed (what was under way at the killed instance)\n", orders.total(), orders.Failed)
	if orders.Failed > 0 {
		fmt.Printf("   such a failure reads: %s\n", orders.Error)
	}
	if reads.Failed > 0 {
		return fmt.Errorf("%d reads failed, the first with: %s", reads.Failed, reads.Error)
	}
	if err := w.start("p1", "shopd", "product", "-id", "p1", "-version", "v1"); err != nil {
		return err
	}
	_, err = w.eventually(ctx, func(ctx context.Context) error { return w.countUp(ctx, 6) })
	return err
}

// underLoad runs do in the middle of load and returns what the load saw.
func (w *world) underLoad(ctx context.Context, do func() error) (reads, orders tally, err error) {
	if err := w.web(ctx, http.MethodPost, "/load", nil, nil); err != nil {
		return reads, orders, err
	}
	var report struct{ Reads, Orders tally }
	err = sleep(ctx, time.Second)
	if err == nil {
		err = do()
	}
	err = errors.Join(err, w.web(ctx, http.MethodDelete, "/load", nil, &report))
	return report.Reads, report.Orders, err
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func killRegistry(ctx context.Context, w *world) error {
	before, err := w.rules(ctx)
	if err != nil {
		return err
	}
	var took time.Duration
	reads, orders, err := w.underLoad(ctx, func() error {
		if err := w.kill("registry"); err != nil {
			return err
		}
		if err := sleep(ctx, 3*time.Second); err != nil {
			return err
		}
		if err := w.startRegistry(); err != nil {
			return err
		}
		took, err = w.eventually(ctx, func(ctx context.Context) error { return w.countUp(ctx, 6) })
		return err
	})
	if err != nil {
		return err
	}
	fmt.Printf("   %d calls before, while it was gone (3 s) and after: %d failed\n", reads.total()+orders.total(), reads.Failed+orders.Failed)
	if failed := reads.Failed + orders.Failed; failed > 0 {
		return fmt.Errorf("%d calls failed, the first with: %s%s", failed, reads.Error, orders.Error)
	}
	after, err := w.rules(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("   back: all 6 instances are up and %d of %d rules are there %d ms after its start\n", len(after), len(before), took.Milliseconds())
	if len(after) != len(before) {
		return fmt.Errorf("%d rules are left of %d", len(after), len(before))
	}
	return nil
}

func (w *world) rules(ctx context.Context) ([]json.RawMessage, error) {
	var list struct{ Items []json.RawMessage }
	err := w.registry(ctx, http.MethodGet, "/v1/rules", "", &list)
	return list.Items, err
}

const traceID = "4bf92f3577b34da6a3ce929d0e0e4736"

func observe(ctx context.Context, w *world) error {
	var metrics string
	if err := w.web(ctx, http.MethodGet, "/metrics", nil, &metrics); err != nil {
		return err
	}
	line := ""
	for l := range strings.Lines(metrics) {
		if strings.HasPrefix(l, "weft_requests_total{") && strings.Contains(l, "product") && strings.Contains(l, "Product/Get") {
			line = strings.TrimSpace(l)
			break
		}
	}
	if line == "" {
		return errors.New("/metrics of web has no weft_requests_total of product")
	}
	fmt.Printf("   %s\n", line)

	header := http.Header{"Traceparent": {"00-" + traceID + "-00f067aa0ba902b7-01"}}
	var t tally
	if err := w.web(ctx, http.MethodGet, "/calls?via=grpc&n=1", header, &t); err != nil {
		return err
	}
	spans, err := w.trace(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("   trace %s:\n", traceID)
	shown := show(spans, "00f067aa0ba902b7", 0)
	if shown < 4 {
		return fmt.Errorf("the trace has %d connected spans, want at least 4: web, its call, the attempt and product", shown)
	}
	return nil
}

type span struct {
	Service, Name, ID, Parent string
	Duration                  time.Duration
}

// trace collects the spans that each process has of the trace.
func (w *world) trace(ctx context.Context) (all []span, err error) {
	addrs := map[string]bool{w.webAddr: true}
	list, err := w.instances(ctx, "product")
	if err != nil {
		return nil, err
	}
	for _, in := range list {
		if in.Protocol == "http" {
			addrs[in.Address] = true
		}
	}
	_, err = w.eventually(ctx, func(ctx context.Context) error {
		all = nil
		for addr := range addrs {
			var some []span
			if err := request(ctx, http.MethodGet, "http://"+addr+"/spans?trace="+traceID, nil, "", &some); err != nil {
				return err
			}
			all = append(all, some...)
		}
		if len(all) < 4 {
			return fmt.Errorf("%d spans so far", len(all))
		}
		return nil
	})
	return all, err
}

// show prints the tree below a span and counts it.
func show(spans []span, parent string, depth int) (n int) {
	for _, s := range spans {
		if s.Parent == parent {
			fmt.Printf("   %s%s %s %.2f ms\n", strings.Repeat("  ", depth), s.Service, s.Name, float64(s.Duration)/float64(time.Millisecond))
			n += 1 + show(spans, s.ID, depth+1)
		}
	}
	return n
}
