package rest

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/catalog"
	"github.com/weftmesh/weft/rule"
)

// documentTypes are the media types of rules; package rule tells JSON from YAML by itself.
var documentTypes = [...]string{"application/yaml", "application/json", "application/x-yaml", "text/yaml", "text/x-yaml"}

// document is a rule in an answer.
type document struct{ rule.Rule }

func documentOf(r rule.Rule) document { return document{r} }

// applied answers a write of rules.
type applied struct {
	Items    []outcome          `json:"items" nullable:"false" doc:"one for each rule, in the order given"`
	Revision discovery.Revision `json:"revision" doc:"after the write"`
	DryRun   bool               `json:"dryRun,omitempty" doc:"nothing was written: this is what would happen"`
}

// outcome is what a write did, or would do, to one rule.
type outcome struct {
	Kind      rule.Kind `json:"kind"`
	Namespace string    `json:"namespace"`
	Name      string    `json:"name"`
	Outcome   string    `json:"outcome" enum:"created,configured,unchanged,deleted"`
	Rule      document  `json:"rule" doc:"as it is now; of a deleted rule, as it was"`
}

func outcomeOf(r rule.Rule, what string) outcome {
	key := r.Key()
	return outcome{key.Kind, key.Namespace, key.Name, what, document{r}}
}

const deleted = "deleted"

type rulesWritten struct {
	Status int
	ETag   string `header:"ETag" doc:"the revision of the one rule that was put"`
	Body   applied
}

type listRules struct {
	Namespaced
	Page
	Kind    string `query:"kind" maxLength:"64" doc:"only rules of this kind"`
	Service string `query:"service" maxLength:"63" doc:"only rules that name this service; * for those of all services"`
}

// OneRule names a rule in a path.
type OneRule struct {
	Namespaced
	Kind string `path:"kind" maxLength:"64"`
	Name string `path:"name" maxLength:"63"`
}

func (in OneRule) key() (rule.Key, error) {
	kind, err := kindOf(in.Kind, "path.kind", http.StatusNotFound)
	return rule.Key{Kind: kind, Namespace: in.namespace(), Name: in.Name}, err
}

func kindOf(text, location string, status int) (rule.Kind, error) {
	kind, ok := rule.KindOf(text)
	if !ok {
		message := fmt.Sprintf("is not a kind; the kinds are %v", rule.Kinds())
		return "", problem(status, fmt.Sprintf("%q ", text)+message, wrong(location, message, text))
	}
	return kind, nil
}

// Guard is part of the input of writes to one rule.
type Guard struct {
	IfMatch     string `header:"If-Match" doc:"write only if the rule is at this revision; * for any that exists"`
	IfNoneMatch string `header:"If-None-Match" doc:"with *: write only if the rule does not exist"`
	DryRun      bool   `query:"dryRun" doc:"check, and answer what would happen, but write nothing"`
}

type putRule struct {
	OneRule
	Guard
	Payload
}

type deleteRule struct {
	OneRule
	Guard
}

type applyRules struct {
	Namespaced
	DryRun bool `query:"dryRun" doc:"check, and answer what would happen, but write nothing"`
	Payload
}

type ruleFound struct {
	ETag string `header:"ETag"`
	Body document
}

func (a *API) addRules() {
	const one = "/v1/rules/{kind}/{name}"
	writes := []int{http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity, http.StatusInsufficientStorage}
	huma.Register(a.huma, operation("list-rules", http.MethodGet, "/v1/rules", "List rules", http.StatusUnprocessableEntity), a.listRules)
	huma.Register(a.huma, operation("get-rule", http.MethodGet, one, "Read one rule", http.StatusNotFound), a.getRule)
	put := operation("put-rule", http.MethodPut, one, "Write one rule", append(writes, http.StatusNotFound, http.StatusPreconditionFailed)...)
	put.RequestBody = bodyOf[document](a.huma, documentTypes[:]...)
	put.Responses = created()
	huma.Register(a.huma, put, a.putRule)
	huma.Register(a.huma, operation("delete-rule", http.MethodDelete, one, "Delete one rule",
		http.StatusNotFound, http.StatusPreconditionFailed, http.StatusInsufficientStorage), a.deleteRule)
	post := operation("apply-rules", http.MethodPost, "/v1/rules",
		"Write one or many rules, all or none: a YAML stream, JSON values in a row, or a list", writes...)
	post.RequestBody = bodyOf[document](a.huma, documentTypes[:]...)
	huma.Register(a.huma, post, a.applyRules)
}

func (a *API) listRules(_ context.Context, in *listRules) (*listed[document], error) {
	filter := catalog.Filter{Namespace: in.namespace(), Service: in.Service}
	if in.Kind != "" {
		kind, err := kindOf(in.Kind, "query.kind", http.StatusUnprocessableEntity)
		if err != nil {
			return nil, err
		}
		filter.Kind = kind
	}
	rules, revision := a.Catalog.Rules(filter)
	key := func(d document) string { return string(d.Kind) + "/" + d.Name }
	return paged(in.Page, convert(rules, documentOf), key, revision), nil
}

func (a *API) getRule(_ context.Context, in *OneRule) (*ruleFound, error) {
	key, err := in.key()
	if err != nil {
		return nil, err
	}
	r, ok := a.Catalog.Rule(key)
	if !ok {
		return nil, noRule(key)
	}
	return &ruleFound{ETag: `"` + r.Revision + `"`, Body: document{r}}, nil
}

func noRule(key rule.Key) error {
	return problem(http.StatusNotFound, "there is no rule "+key.String())
}

func (a *API) putRule(ctx context.Context, in *putRule) (*rulesWritten, error) {
	key, err := in.key()
	if err != nil {
		return nil, err
	}
	rules, err := a.documents(in.Payload, in.Namespaced)
	if err != nil {
		return nil, err
	}
	if err := onlyOf(rules, key); err != nil {
		return nil, err
	}
	change := catalog.Change{Puts: rules, DryRun: in.DryRun}
	if change.If, err = a.guards(in.Guard, key); err != nil {
		return nil, err
	}
	out, err := a.write(ctx, change)
	if err != nil || in.DryRun {
		return out, err
	}
	written := out.Body.Items[0]
	out.ETag = `"` + written.Rule.Revision + `"` // an unchanged rule is older than the store
	if written.Outcome == string(catalog.Created) {
		out.Status = http.StatusCreated
	}
	return out, nil
}

// onlyOf refuses all but the one rule that the address names.
func onlyOf(rules []rule.Rule, key rule.Key) error {
	if len(rules) != 1 {
		message := fmt.Sprintf("has %d documents, must have the one that the address names; POST /v1/rules takes many", len(rules))
		return problem(http.StatusUnprocessableEntity, "the body "+message, wrong("body", message, nil))
	}
	got := rules[0].Key()
	for _, f := range []struct{ field, got, want string }{
		{"kind", string(got.Kind), string(key.Kind)},
		{"namespace", got.Namespace, key.Namespace},
		{"name", got.Name, key.Name},
	} {
		if f.got != f.want {
			message := fmt.Sprintf("must be %q as in the address", f.want)
			return problem(http.StatusUnprocessableEntity, f.field+": "+message, wrong("body."+f.field, message, f.got))
		}
	}
	return nil
}

func (a *API) deleteRule(ctx context.Context, in *deleteRule) (*rulesWritten, error) {
	key, err := in.key()
	if err != nil {
		return nil, err
	}
	change := catalog.Change{Deletes: []rule.Key{key}, DryRun: in.DryRun}
	if change.If, err = a.guards(in.Guard, key); err != nil {
		return nil, err
	}
	return a.write(ctx, change)
}

func (a *API) applyRules(ctx context.Context, in *applyRules) (*rulesWritten, error) {
	rules, err := a.documents(in.Payload, in.Namespaced)
	if err != nil {
		return nil, err
	}
	if len(rules) == 0 {
		return nil, problem(http.StatusUnprocessableEntity, "the body has no document", wrong("body", "must have at least one rule", nil))
	}
	return a.write(ctx, catalog.Change{Puts: rules, DryRun: in.DryRun})
}

// documents reads the rules of a body and checks them all, so that everything wrong is reported at once.
func (a *API) documents(b Payload, ns Namespaced) ([]rule.Rule, error) {
	if err := b.typed(documentTypes[:]...); err != nil {
		return nil, err
	}
	rules, err := rule.Parse(b.RawBody)
	if err != nil {
		return nil, a.refuse(err)
	}
	var all rule.Error
	for i := range rules {
		if err := ns.place(&rules[i]); err != nil {
			return nil, err
		}
		if err := rules[i].Validate(); err != nil {
			gather(&all, err, i, len(rules))
		}
	}
	if len(all.Problems) > 0 {
		return nil, badRules(&all)
	}
	return rules, nil
}

// place gives the query's namespace to a rule that states none, and refuses another than that.
func (n Namespaced) place(r *rule.Rule) error {
	switch {
	case r.Namespace == "":
		r.Namespace = n.namespace()
	case n.Namespace != "" && r.Namespace != n.Namespace:
		message := fmt.Sprintf("must be absent, or %q as in ?namespace", n.Namespace)
		return problem(http.StatusUnprocessableEntity, "namespace: "+message, wrong("body.namespace", message, r.Namespace))
	}
	return nil
}

// guards reads If-Match and If-None-Match.
func (a *API) guards(g Guard, key rule.Key) (map[rule.Key]discovery.Revision, error) {
	switch {
	case g.IfMatch != "" && g.IfNoneMatch != "":
		return nil, badGuard("If-None-Match", "cannot stand beside If-Match", g.IfNoneMatch)
	case g.IfNoneMatch == "*":
		return map[rule.Key]discovery.Revision{key: {}}, nil
	case g.IfNoneMatch != "":
		return nil, badGuard("If-None-Match", "must be *", g.IfNoneMatch)
	case g.IfMatch == "":
		return nil, nil
	case g.IfMatch == "*":
		return a.existing(key)
	}
	revision, err := discovery.ParseRevision(strings.Trim(g.IfMatch, `"`))
	if err != nil || revision.IsZero() {
		return nil, badGuard("If-Match", "must be * or one revision such as \"1f-42\", as the ETag or the revision of the rule says it", g.IfMatch)
	}
	return map[rule.Key]discovery.Revision{key: revision}, nil
}

func badGuard(header, message, value string) error {
	return problem(http.StatusBadRequest, header+": "+message, wrong("header."+header, message, value))
}

// existing guards a write by the revision that the rule has now, so that it cannot vanish before the write.
func (a *API) existing(key rule.Key) (map[rule.Key]discovery.Revision, error) {
	r, ok := a.Catalog.Rule(key)
	if !ok {
		return nil, problem(http.StatusPreconditionFailed, "rule "+key.String()+" does not exist", wrong("header.If-Match", "the current revision is none", "*"))
	}
	revision, err := discovery.ParseRevision(r.Revision)
	return map[rule.Key]discovery.Revision{key: revision}, err
}

func (a *API) write(ctx context.Context, change catalog.Change) (*rulesWritten, error) {
	change.By = "admin"
	done, err := a.Catalog.ApplyRules(ctx, change)
	if err != nil {
		return nil, a.refuse(err)
	}
	items := convert(done.Rules, func(r catalog.AppliedRule) outcome { return outcomeOf(r.Rule, string(r.Outcome)) })
	for _, r := range done.Deleted {
		items = append(items, outcomeOf(r, deleted))
	}
	return &rulesWritten{
		Status: http.StatusOK,
		Body:   applied{Items: items, Revision: done.Revision, DryRun: change.DryRun},
	}, nil
}
