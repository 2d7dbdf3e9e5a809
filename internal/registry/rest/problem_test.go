package rest

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/catalog"
	"github.com/weftmesh/weft/internal/registry/store"
	"github.com/weftmesh/weft/rule"
)

func TestRefuse(t *testing.T) {
	api := newAPI(t)
	key := rule.Key{Kind: rule.KindRoute, Namespace: "default", Name: "canary"}
	for _, c := range []struct {
		err    error
		status int
	}{
		{&rule.Error{Problems: []rule.Problem{{Message: "bad"}}}, 422},
		{&rule.Error{Problems: []rule.Problem{{Message: "bad"}, {Message: "worse", Syntax: true}}}, 400},
		{rule.ErrTooLarge, 413},
		{catalog.ErrLimit, 409},
		{&catalog.Conflict{Rule: key, First: key, Service: "product"}, 409},
		{&catalog.Precondition{Rule: key, Want: discovery.Revision{Epoch: 1, Number: 2}}, 412},
		{catalog.ErrNotFound, 404},
		{discovery.ErrInvalid, 422},
		{store.ErrFull, 507},
		{store.ErrBroken, 503},
		{store.ErrClosed, 503},
		{context.Canceled, 503},
		{context.DeadlineExceeded, 503},
		{errors.New("secret of the house"), 500},
	} {
		for _, err := range []error{c.err, fmt.Errorf("within: %w", c.err)} {
			var p *huma.ErrorModel
			if !errors.As(api.refuse(err), &p) || p.Status != c.status || p.Title == "" || p.Detail == "" {
				t.Errorf("%v: %+v, want status %d", err, p, c.status)
			}
			if c.status == 500 && p.Detail != "the server failed at this request; its log says more" {
				t.Errorf("the cause is told to the client: %s", p.Detail)
			}
		}
	}
}

func TestGatherIsBounded(t *testing.T) {
	var all rule.Error
	for i := range 2 * maxProblems {
		gather(&all, errors.New("bad"), i, 2*maxProblems)
	}
	if len(all.Problems) != maxProblems || all.More != maxProblems || all.Problems[1].Document != 2 {
		t.Errorf("%d problems and %d more", len(all.Problems), all.More)
	}
}
