package rest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/access"
	"github.com/weftmesh/weft/internal/registry/catalog"
	"github.com/weftmesh/weft/internal/registry/store"
	"github.com/weftmesh/weft/rule"
)

// problem makes an error of RFC 9457.
func problem(status int, detail string, fields ...*huma.ErrorDetail) *huma.ErrorModel {
	return &huma.ErrorModel{Title: http.StatusText(status), Status: status, Detail: detail, Errors: fields}
}

// wrong is one entry of a problem's errors.
func wrong(location, message string, value any) *huma.ErrorDetail {
	return &huma.ErrorDetail{Location: location, Message: message, Value: value}
}

func tooLarge(size string) *huma.ErrorModel {
	const limit = "at most 262144 bytes are read"
	return problem(http.StatusRequestEntityTooLarge, "the body is too large: "+limit, wrong("body", limit, size))
}

func writeProblem(w http.ResponseWriter, p *huma.ErrorModel) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Del("Content-Length")
	if again(p.Status) && w.Header().Get("Retry-After") == "" {
		w.Header().Set("Retry-After", "1")
	}
	w.WriteHeader(p.Status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(p) //nolint:errchkjson // fails only if the client is gone
}

// again reports whether a status asks the client to try again, after a second if nothing else is known.
func again(status int) bool {
	return status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable
}

// completeProblem works on every answer that huma writes. A problem stays problem+json for who asks for YAML, as
// RFC 9457 has no YAML (see [marshalYAML]); and where huma says only that validation failed, the detail says of
// what.
func completeProblem(ctx huma.Context, _ string, v any) (any, error) {
	p, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	ctx.SetHeader("Content-Type", "application/problem+json")
	if again(p.Status) {
		ctx.SetHeader("Retry-After", "1")
	}
	if p.Detail == "validation failed" && len(p.Errors) > 0 {
		p.Detail = p.Errors[0].Location + ": " + p.Errors[0].Message
	}
	return p, nil
}

// refuse turns an error of the rooms below into a problem.
func (a *API) refuse(err error) error {
	var (
		conflict     *catalog.Conflict
		precondition *catalog.Precondition
		document     *rule.Error
	)
	switch {
	case errors.As(err, &document):
		return badRules(document)
	case errors.As(err, &conflict):
		return problem(http.StatusConflict, err.Error(), wrong("body.service", "has an enforced rule already: "+conflict.First.String(), conflict.Service))
	case errors.Is(err, catalog.ErrInUse), errors.Is(err, catalog.ErrLimit), errors.Is(err, access.ErrTooMany):
		return problem(http.StatusConflict, err.Error())
	case errors.As(err, &precondition):
		return problem(http.StatusPreconditionFailed, err.Error(), wrong("header.If-Match", "the current revision is "+revisionText(precondition.Current), revisionText(precondition.Want)))
	case errors.Is(err, catalog.ErrNotFound), errors.Is(err, access.ErrUnknown):
		return problem(http.StatusNotFound, err.Error())
	case errors.Is(err, discovery.ErrInvalid):
		return problem(http.StatusUnprocessableEntity, err.Error(), invalidField(err)...)
	case errors.Is(err, rule.ErrTooLarge):
		return problem(http.StatusRequestEntityTooLarge, err.Error())
	case errors.Is(err, store.ErrBusy):
		return problem(http.StatusTooManyRequests, err.Error())
	case errors.Is(err, store.ErrFull):
		return problem(http.StatusInsufficientStorage, err.Error())
	case errors.Is(err, store.ErrBroken), errors.Is(err, store.ErrClosed), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return problem(http.StatusServiceUnavailable, err.Error())
	}
	a.Log.Error("rest: a write failed", "error", err)
	return problem(http.StatusInternalServerError, "the server failed at this request; its log says more")
}

// revisionText is "none" for what does not exist.
func revisionText(r discovery.Revision) string {
	if r.IsZero() {
		return "none"
	}
	return r.String()
}

// badRules is 400 for what cannot be read, and 422 for what can but must not be.
func badRules(e *rule.Error) *huma.ErrorModel {
	status := http.StatusUnprocessableEntity
	if e.Syntax() {
		status = http.StatusBadRequest
	}
	fields := make([]*huma.ErrorDetail, len(e.Problems))
	for i, p := range e.Problems {
		fields[i] = ruleProblem(p)
	}
	return problem(status, e.Error(), fields...)
}

// ruleProblem locates a problem as "body.spec.timeout", or "body[1].spec.timeout" in the second of many documents.
func ruleProblem(p rule.Problem) *huma.ErrorDetail {
	location, message := "body", p.Message
	if p.Document > 0 {
		location = fmt.Sprintf("body[%d]", p.Document-1)
	}
	if p.Field != "" {
		location += "." + p.Field
	}
	if p.Line > 0 {
		message += fmt.Sprintf(" (line %d)", p.Line)
	}
	var value any
	if text, err := strconv.Unquote(p.Value); err == nil {
		value = text
	} else if p.Value != "" {
		value = p.Value
	}
	return wrong(location, message, value)
}

// invalidField locates what is wrong with an instance or a token.
func invalidField(err error) []*huma.ErrorDetail {
	if e, ok := errors.AsType[*discovery.InvalidError](err); ok {
		return []*huma.ErrorDetail{wrong("body."+e.Field, e.Want, e.Value)}
	}
	if e, ok := errors.AsType[*access.InvalidError](err); ok {
		location := "body." + e.Field
		if e.Field == "id" { // of a token, which only its address says
			location = "path.id"
		}
		return []*huma.ErrorDetail{wrong(location, "want "+e.Want, e.Value)}
	}
	return nil
}

// gather adds the problems of one document to those of all.
func gather(all *rule.Error, err error, index, of int) {
	var e *rule.Error
	if !errors.As(err, &e) {
		e = &rule.Error{Problems: []rule.Problem{{Message: err.Error()}}}
	}
	for _, p := range e.Problems {
		if of > 1 {
			p.Document = index + 1
		}
		if len(all.Problems) == maxProblems {
			all.More++
			continue
		}
		all.Problems = append(all.Problems, p)
	}
	all.More += e.More
}

// maxProblems bounds what is answered to hostile input.
const maxProblems = 100
