package rest

import (
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/weftmesh/weft/discovery"
)

// Namespaced is part of every input. It is exported, as is all that inputs embed: huma passes over other fields.
type Namespaced struct {
	Namespace string `query:"namespace" maxLength:"63" doc:"the namespace; default if not given"`
}

func (n Namespaced) namespace() string {
	if n.Namespace == "" {
		return discovery.DefaultNamespace
	}
	return n.Namespace
}

const wantLabel = "must be a DNS label: a-z, 0-9 and -, at most 63 characters"

// name gives the full name of a service in a path.
func (n Namespaced) name(service string) (discovery.Name, error) {
	if !discovery.IsLabel(service) {
		return discovery.Name{}, problem(http.StatusUnprocessableEntity, "service: "+wantLabel, wrong("path.service", wantLabel, service))
	}
	return discovery.Name{Service: service, Namespace: n.namespace()}, nil
}

// Page is part of the input of every list.
type Page struct {
	Limit int    `query:"limit" minimum:"1" maximum:"10000" default:"1000" doc:"how many items at most"`
	After string `query:"after" maxLength:"400" doc:"the next of the answer before: the list goes on after it"`
}

// list answers with items in order.
type list[T any] struct {
	Items    []T                `json:"items" nullable:"false"`
	Revision discovery.Revision `json:"revision" doc:"of the last change of what is listed"`
	Next     string             `json:"next,omitempty" doc:"there is more: ask again with this as after"`
}

type listed[T any] struct {
	ETag string `header:"ETag"`
	Body list[T]
}

// paged cuts the page out of items, which key puts in ascending order.
func paged[T any](p Page, items []T, key func(T) string, revision discovery.Revision) *listed[T] {
	start := 0
	if p.After != "" {
		at, found := slices.BinarySearchFunc(items, p.After, func(item T, after string) int { return strings.Compare(key(item), after) })
		if start = at; found {
			start++
		}
	}
	return cut(p, items[start:], key, revision)
}

// cut gives the first page of items, in any order.
func cut[T any](p Page, items []T, key func(T) string, revision discovery.Revision) *listed[T] {
	out := &listed[T]{ETag: etag(revision), Body: list[T]{Items: items, Revision: revision}}
	if len(items) > p.Limit {
		out.Body.Items = items[:p.Limit]
		out.Body.Next = key(items[p.Limit-1])
	}
	return out
}

// convert maps a list; the result is never nil, so that it is [] in JSON.
func convert[A, B any](in []A, f func(A) B) []B {
	out := make([]B, len(in))
	for i, a := range in {
		out[i] = f(a)
	}
	return out
}

// operation fills in what all operations have in common.
func operation(id, method, path, summary string, errors ...int) huma.Operation {
	return huma.Operation{
		OperationID:      id,
		Method:           method,
		Path:             path,
		Summary:          summary,
		Errors:           append([]int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests, http.StatusServiceUnavailable}, errors...),
		BodyReadTimeout:  -1,   // it was read before
		SkipValidateBody: true, // read by decodeJSON and package rule, which say more
	}
}
