package rest

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/access"
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

	Acknowledged *acknowledged `json:"acknowledged,omitempty" doc:"with ?wait="`
}

// outcome is what a write did, or would do, to one rule.
type outcome struct {
	Kind      rule.Kind `json:"kind"`
	Namespace string    `json:"namespace"`
	Name      string    `json:"name"`
	Outcome   string    `json:"outcome" enum:"created,configured,unchanged,deleted"`
	Rule      document  `json:"rule" doc:"as it is now; of a deleted rule, as it was"`
	Diff      string    `json:"diff,omitempty" doc:"with ?dryRun=true: a unified diff of the YAML; absent if nothing would change"`
}

func outcomeOf(r rule.Rule, what string) outcome {
	key := r.Key()
	return outcome{Kind: key.Kind, Namespace: key.Namespace, Name: key.Name, Outcome: what, Rule: document{r}}
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
	Waiting
	Payload
}

type deleteRule struct {
	OneRule
	Guard
	Waiting
}

type applyRules struct {
	Namespaced
	DryRun bool     `query:"dryRun" doc:"check, and answer what would happen, but write nothing"`
	Delete []string `query:"delete,explode" maxItems:"100" doc:"rules to delete in the same transaction, each as kind/name or kind/name.namespace" example:"route/product-canary"`
	Waiting
	Payload
}

type ruleFound struct {
	ETag string `header:"ETag"`
	Body document
}

func (a *API) addRules() {
	const one = "/v1/rules/{kind}/{name}"
	register(a, needs(access.Reader, inNamespace), operation("list-rules", http.MethodGet, "/v1/rules", "List rules", http.StatusUnprocessableEntity), a.listRules)
	register(a, needs(access.Reader, inNamespace), operation("get-rule", http.MethodGet, one, "Read one rule", http.StatusNotFound), a.getRule)
	put := operation("put-rule", http.MethodPut, one, "Write one rule", append(writeErrors(), http.StatusNotFound, http.StatusPreconditionFailed)...)
	put.RequestBody = bodyOf[document](a.huma, documentTypes[:]...)
	put.Responses = created()
	register(a, needs(access.Operator, inNamespace), put, a.putRule)
	register(a, needs(access.Operator, inNamespace), operation("delete-rule", http.MethodDelete, one, "Delete one rule",
		http.StatusNotFound, http.StatusPreconditionFailed, http.StatusInsufficientStorage), a.deleteRule)
	post := operation("apply-rules", http.MethodPost, "/v1/rules",
		"Write one or many rules, all or none: a YAML stream, JSON values in a row, or a list", append(writeErrors(), http.StatusNotFound)...)
	post.RequestBody = bodyOf[document](a.huma, documentTypes[:]...)
	register(a, needs(access.Operator, somewhere), post, a.applyRules)
	post.RequestBody.Required = false // with ?delete=; huma takes a body that is read raw for required
}

// writeErrors are the statuses of writes that have a body.
func writeErrors() []int {
	return []int{http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity, http.StatusInsufficientStorage}
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
	return a.writeOne(ctx, key, in.Guard, in.Waiting, catalog.Change{Puts: rules})
}

// writeOne writes or deletes the one rule that the address names.
func (a *API) writeOne(ctx context.Context, key rule.Key, g Guard, w Waiting, change catalog.Change) (*rulesWritten, error) {
	var err error
	if change.If, err = a.guards(g, key); err != nil {
		return nil, err
	}
	change.DryRun = g.DryRun
	out, err := a.write(ctx, w, change)
	if err != nil || g.DryRun || len(change.Puts) == 0 {
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
	return a.writeOne(ctx, key, in.Guard, in.Waiting, catalog.Change{Deletes: []rule.Key{key}})
}

func (a *API) applyRules(ctx context.Context, in *applyRules) (*rulesWritten, error) {
	change := catalog.Change{DryRun: in.DryRun}
	var err error
	if change.Deletes, err = in.deletes(); err != nil {
		return nil, err
	}
	if len(in.RawBody) > 0 || len(change.Deletes) == 0 {
		if change.Puts, err = a.documents(in.Payload, in.Namespaced); err != nil {
			return nil, err
		}
	}
	if len(change.Puts)+len(change.Deletes) == 0 {
		return nil, problem(http.StatusUnprocessableEntity, "the body has no document", wrong("body", "must have at least one rule", nil))
	}
	if err := mayWrite(ctx, change); err != nil {
		return nil, err
	}
	return a.write(ctx, in.Waiting, change)
}

// mayWrite looks at the namespace of each rule of a change: those of documents need not be that of the query.
func mayWrite(ctx context.Context, change catalog.Change) error {
	for _, r := range change.Puts {
		if err := may(ctx, access.Operator, r.Key().Namespace); err != nil {
			return err
		}
	}
	for _, key := range change.Deletes {
		if err := may(ctx, access.Operator, key.Namespace); err != nil {
			return err
		}
	}
	return nil
}

// deletes reads ?delete=.
func (in *applyRules) deletes() ([]rule.Key, error) {
	keys := make([]rule.Key, len(in.Delete))
	for i, text := range in.Delete {
		kind, name, _ := strings.Cut(text, "/")
		k, known := rule.KindOf(kind)
		name, namespace, full := strings.Cut(name, ".")
		if !full {
			namespace = in.namespace()
		}
		if !known || !discovery.IsLabel(name) || !discovery.IsLabel(namespace) {
			const message = "must be kind/name, such as route/product-canary"
			return nil, problem(http.StatusUnprocessableEntity, "delete: "+message, wrong("query.delete", message, text))
		}
		keys[i] = rule.Key{Kind: k, Namespace: namespace, Name: name}
	}
	return keys, nil
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

// write makes a change, and waits for who it concerns.
func (a *API) write(ctx context.Context, w Waiting, change catalog.Change) (*rulesWritten, error) {
	change.By = callOf(ctx).grant.Name
	before := a.before(change)
	done, err := a.Catalog.ApplyRules(ctx, change)
	if err != nil {
		return nil, a.refuse(err)
	}
	body := applied{Revision: done.Revision, DryRun: change.DryRun}
	body.Items = convert(done.Rules, func(r catalog.AppliedRule) outcome { return outcomeOf(r.Rule, string(r.Outcome)) })
	for _, r := range done.Deleted {
		body.Items = append(body.Items, outcomeOf(r, deleted))
	}
	if change.DryRun {
		return &rulesWritten{Status: http.StatusOK, Body: body}, a.preview(body.Items, before)
	}
	services, at := concerned(body, before)
	body.Acknowledged = a.await(ctx, w, services, at)
	return &rulesWritten{Status: http.StatusOK, Body: body}, nil
}

// before gives the rules that a change replaces, as they are now.
func (a *API) before(change catalog.Change) map[rule.Key]rule.Rule {
	out := make(map[rule.Key]rule.Rule, len(change.Puts))
	for _, r := range change.Puts {
		if old, ok := a.Catalog.Rule(r.Key()); ok {
			out[r.Key()] = old
		}
	}
	return out
}

// preview fills in what would differ.
func (a *API) preview(items []outcome, before map[rule.Key]rule.Rule) error {
	for i, item := range items {
		key := item.Rule.Key()
		from, to := before[key], item.Rule.Rule
		if item.Outcome == deleted {
			from, to = to, rule.Rule{}
		}
		text, err := diff(key, from, to)
		if err != nil {
			return a.refuse(err)
		}
		items[i].Diff = text
	}
	return nil
}

// concerned gives the services whose clients have a write to apply, those that a rule left included, and the revision at
// which they have: that of the write, or if it changed nothing that of the rules.
func concerned(body applied, before map[rule.Key]rule.Rule) ([]discovery.Name, discovery.Revision) {
	var services []discovery.Name
	var at discovery.Revision
	for _, item := range body.Items {
		services = append(services, discovery.Name{Service: item.Rule.Service, Namespace: item.Namespace})
		if old, replaced := before[item.Rule.Key()]; replaced && old.Service != item.Rule.Service {
			services = append(services, discovery.Name{Service: old.Service, Namespace: item.Namespace})
		}
		if r, err := discovery.ParseRevision(item.Rule.Revision); err == nil && item.Outcome == string(catalog.Unchanged) && at != body.Revision {
			at = discovery.Revision{Epoch: r.Epoch, Number: max(at.Number, r.Number)}
		} else {
			at = body.Revision
		}
	}
	return services, at
}
