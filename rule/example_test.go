package rule_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/weftmesh/weft/rule"
)

func ExampleParse() {
	rules, err := rule.Parse([]byte(`
kind: Route
name: product-canary
service: product
spec:
  subsets: {v1: {version: v1}, v2: {version: v2}}
  rules:
    - match: [{headers: {x-user-tier: gold}}]
      split: [{subset: v2}]
    - split: [{subset: v1, weight: 90}, {subset: v2, weight: 10}]
---
kind: Retry
name: product-retries
service: product
spec: {attempts: 2, timeout: 2s}
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, r := range rules {
		fmt.Println(r.Key(), "for", r.Service)
	}
	retry := rules[1].WithDefaults().Spec.(*rule.Retry)
	fmt.Println(retry.Attempts, retry.On, retry.Timeout)
	// Output:
	// Route/default/product-canary for product
	// Retry/default/product-retries for product
	// 2 [unavailable reset 503] 2s
}

func ExampleParse_errors() {
	_, err := rule.Parse([]byte(`
kind: Retry
name: product-retries
service: product
spec:
  atempts: 3
  timeout: 800
`))
	var wrong *rule.Error
	if errors.As(err, &wrong) {
		for _, p := range wrong.Problems {
			fmt.Println(p)
		}
		fmt.Println("unreadable:", wrong.Syntax())
	}
	// Output:
	// spec.atempts: is not a field; the fields are attempts, on, perTryTimeout, timeout, backoff, budget, methods (line 6)
	// spec.timeout: 800: must be a duration with a unit, such as 800ms, 2s or 1m30s (line 7)
	// unreadable: true
}

func ExampleRule_Validate() {
	r := rule.Rule{
		Kind: rule.KindRoute, Name: "canary", Service: "product",
		Spec: &rule.Route{
			Subsets: map[string]map[string]string{"v1": {"version": "v1"}},
			Rules:   []rule.RouteRule{{Split: []rule.Destination{{Subset: "v1", Weight: 90}, {Subset: "v2", Weight: 20}}}},
		},
	}
	err := r.Validate()
	var wrong *rule.Error
	if errors.As(err, &wrong) {
		for _, p := range wrong.Problems {
			fmt.Println(p)
		}
	}
	// Output:
	// spec.rules[0].split: 110: weights must total 100
	// spec.rules[0].split[1].subset: "v2": must be one of spec.subsets: v1
}

func ExampleYAML() {
	r := rule.Rule{
		Kind: rule.KindRetry, Name: "careful", Service: rule.AllServices,
		Spec: &rule.Retry{Attempts: 2, On: []string{"unavailable", "503"}, Timeout: 1500 * time.Millisecond},
	}
	text, err := rule.YAML(r)
	fmt.Printf("%s%v\n", text, err)
	line, err := json.Marshal(r)
	fmt.Printf("%s %v\n", line, err)
	// Output:
	// kind: Retry
	// name: careful
	// service: "*"
	// spec:
	//   attempts: 2
	//   "on":
	//     - unavailable
	//     - "503"
	//   timeout: 1.5s
	// <nil>
	// {"kind":"Retry","name":"careful","service":"*","spec":{"attempts":2,"on":["unavailable","503"],"timeout":"1.5s"}} <nil>
}
