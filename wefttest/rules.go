package wefttest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/rule"
)

// Apply writes rules, one document or many, in YAML or JSON, as one transaction: the same as weftctl apply. It returns
// when every mesh that they concern works by them. A document that the server refuses, or a rule that a mesh cannot use,
// fails the test with the explanation.
func (r *Registry) Apply(documents string) {
	r.t.Helper()
	r.write("apply", http.MethodPost, "/v1/rules", documents)
}

// Delete removes a rule and returns when every mesh that it concerned does without. A rule outside the namespace "default"
// is named as services are: "product-canary.shop".
func (r *Registry) Delete(kind rule.Kind, name string) {
	r.t.Helper()
	n := r.name(name)
	r.write("delete", http.MethodDelete, "/v1/rules/"+string(kind)+"/"+n.Service+"?namespace="+n.Namespace, "")
}

// write makes a change by REST, so that a test is told what an operator would be told.
func (r *Registry) write(what, method, path, body string) {
	r.t.Helper()
	var answer struct {
		Items []struct {
			Kind, Namespace, Name string
			Rule                  struct{ Service string }
		}
	}
	if err := r.call(method, path, body, &answer); err != nil {
		r.t.Fatalf("wefttest: %s: %v", what, err)
	}
	for _, item := range answer.Items {
		r.settle(discovery.Name{Service: item.Rule.Service, Namespace: item.Namespace})
	}
	for _, item := range answer.Items {
		key := rule.Key{Kind: rule.Kind(item.Kind), Namespace: item.Namespace, Name: item.Name}
		if nack := r.nack(key); nack != "" {
			r.t.Fatalf("wefttest: %s: %s: a mesh cannot use it: %s", what, key, nack)
		}
	}
}

func (r *Registry) call(method, path, body string, out any) error {
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.URL()+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+r.AdminToken())
	req.Header.Set("Content-Type", "application/yaml") // which JSON is too
	resp, err := r.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return refusal(resp.Status, data)
	}
	return json.Unmarshal(data, out)
}

// refusal puts a problem of the server into words, one line for each field that is wrong.
func refusal(status string, body []byte) error {
	var problem struct {
		Detail string
		Errors []struct {
			Location, Message string
		}
	}
	if json.Unmarshal(body, &problem) != nil || problem.Detail == "" {
		return fmt.Errorf("%s: %s", status, body)
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s: %s", status, problem.Detail)
	for _, e := range problem.Errors {
		fmt.Fprintf(&text, "\n\t%s: %s", e.Location, e.Message)
	}
	return errors.New(text.String())
}

// nack gives the reason why a mesh cannot use a rule, "" if all can.
func (r *Registry) nack(key rule.Key) string {
	for _, c := range r.server.Sessions().Clients() {
		for _, s := range c.Services {
			for _, n := range s.Nacks {
				if (rule.Key{Kind: n.Kind, Namespace: n.Namespace, Name: n.Name}) == key {
					return n.Reason
				}
			}
		}
	}
	return ""
}
