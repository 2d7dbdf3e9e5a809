package rest

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/aymanbagabas/go-udiff"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/access"
	"github.com/weftmesh/weft/internal/registry/catalog"
	"github.com/weftmesh/weft/rule"
)

// version is one revision of a rule.
type version struct {
	Revision discovery.Revision `json:"revision"`
	At       time.Time          `json:"at"`
	By       string             `json:"by" doc:"the name of the token"`
	Outcome  string             `json:"outcome" enum:"created,configured,deleted"`
	Rule     *document          `json:"rule,omitempty" doc:"as it was written; absent if it was deleted"`
}

func versionOf(v catalog.Version) version {
	out := version{Revision: v.Revision, At: v.At, By: v.By, Outcome: string(v.Outcome)}
	if v.Outcome != catalog.RuleDeleted {
		out.Rule = &document{v.Rule}
	}
	return out
}

type listVersions struct {
	OneRule
	Page
}

// difference answers with what differs between two versions.
type difference struct {
	From string `json:"from,omitempty" doc:"a revision; absent if there is none before"`
	To   string `json:"to" doc:"a revision"`
	Diff string `json:"diff" doc:"a unified diff of the YAML; empty if nothing differs"`
}

type compareVersions struct {
	OneRule
	From string `query:"from" maxLength:"64" doc:"a revision of the rule; the one before to, if not given"`
	To   string `query:"to" maxLength:"64" doc:"a revision of the rule; the newest, if not given"`
}

type compared struct {
	ETag string `header:"ETag"`
	Body difference
}

// rollback is the body of a rollback.
type rollback struct {
	Revision string `json:"revision" example:"1f-42" doc:"the version to go back to, as the history says it"`
}

type rollBack struct {
	OneRule
	Guard
	Waiting
	Payload
}

func (a *API) addHistory() {
	const one = "/v1/rules/{kind}/{name}"
	register(a, needs(access.Reader, inNamespace).asCostly(), operation("list-versions", http.MethodGet, one+"/history",
		"List the versions of a rule, the newest first; the last 100 are kept", http.StatusNotFound, http.StatusUnprocessableEntity), a.listVersions)
	register(a, needs(access.Reader, inNamespace).asCostly(), operation("compare-versions", http.MethodGet, one+"/diff",
		"Compare two versions of a rule", http.StatusNotFound, http.StatusUnprocessableEntity), a.compareVersions)
	back := operation("roll-back-rule", http.MethodPost, one+"/rollback", "Bring a version of a rule back, also of one that was deleted",
		append(writeErrors(), http.StatusNotFound, http.StatusPreconditionFailed)...)
	back.RequestBody = bodyOf[rollback](a.huma, "application/json")
	register(a, needs(access.Operator, inNamespace), back, a.rollBack)
}

// versions gives the history of a rule, the newest first.
func (a *API) versions(in OneRule) (rule.Key, []catalog.Version, error) {
	key, err := in.key()
	if err != nil {
		return key, nil, err
	}
	all, err := a.Catalog.History(key)
	switch {
	case err != nil:
		return key, nil, a.refuse(err)
	case len(all) == 0:
		return key, nil, problem(http.StatusNotFound, "there never was a rule "+key.String()+", or it is forgotten")
	}
	return key, all, nil
}

func (a *API) listVersions(_ context.Context, in *listVersions) (*listed[version], error) {
	_, all, err := a.versions(in.OneRule)
	if err != nil {
		return nil, err
	}
	rest := all
	if in.After != "" {
		_, at, err := find(all, "query.after", in.After, 0)
		if err != nil {
			return nil, err
		}
		rest = all[at+1:]
	}
	return cut(in.Page, convert(rest, versionOf), func(v version) string { return v.Revision.String() }, all[0].Revision), nil
}

// find looks a version up by the text of its revision; without one it is the one at a place of the list.
func find(all []catalog.Version, location, text string, otherwise int) (catalog.Version, int, error) {
	if text == "" {
		return all[otherwise], otherwise, nil
	}
	at := slices.IndexFunc(all, func(v catalog.Version) bool { return v.Revision.String() == text })
	if at >= 0 {
		return all[at], at, nil
	}
	message := fmt.Sprintf("is not one of the %d versions that are kept, from %s to %s", len(all), all[len(all)-1].Revision, all[0].Revision)
	return catalog.Version{}, 0, problem(http.StatusNotFound, fmt.Sprintf("%s: %q %s", location, text, message), wrong(location, message, text))
}

func (a *API) compareVersions(_ context.Context, in *compareVersions) (*compared, error) {
	key, all, err := a.versions(in.OneRule)
	if err != nil {
		return nil, err
	}
	to, at, err := find(all, "query.to", in.To, 0)
	if err != nil {
		return nil, err
	}
	out := difference{To: to.Revision.String()}
	var from catalog.Version
	if at+1 < len(all) || in.From != "" {
		if from, _, err = find(all, "query.from", in.From, at+1); err != nil {
			return nil, err
		}
		out.From = from.Revision.String()
	}
	if out.Diff, err = diff(key, from.Rule, to.Rule); err != nil {
		return nil, a.refuse(err)
	}
	return &compared{ETag: digest(out), Body: out}, nil
}

// diff compares the YAML of two rules, without what the server writes into it. The zero rule has none.
func diff(key rule.Key, from, to rule.Rule) (string, error) {
	before, err := plainYAML(from)
	if err != nil {
		return "", err
	}
	after, err := plainYAML(to)
	if err != nil {
		return "", err
	}
	return udiff.Unified(label(key, from), label(key, to), before, after), nil
}

func label(key rule.Key, r rule.Rule) string {
	if r.Revision == "" {
		return key.String()
	}
	return key.String() + "@" + r.Revision
}

func plainYAML(r rule.Rule) (string, error) {
	if r.Kind == "" {
		return "", nil
	}
	r.Revision, r.UpdatedAt, r.UpdatedBy = "", time.Time{}, ""
	data, err := rule.YAML(r)
	return string(data), err
}

func (a *API) rollBack(ctx context.Context, in *rollBack) (*rulesWritten, error) {
	key, all, err := a.versions(in.OneRule)
	if err != nil {
		return nil, err
	}
	var want rollback
	if err := in.decode(&want); err != nil {
		return nil, err
	}
	if want.Revision == "" {
		const message = "must be a revision of the rule, as its history says it"
		return nil, problem(http.StatusUnprocessableEntity, "revision: "+message, wrong("body.revision", message, ""))
	}
	v, _, err := find(all, "body.revision", want.Revision, 0)
	if err != nil {
		return nil, err
	}
	if v.Outcome == catalog.RuleDeleted {
		const message = "is when the rule was deleted; DELETE does that, or choose another"
		return nil, problem(http.StatusUnprocessableEntity, "revision: "+message, wrong("body.revision", message, want.Revision))
	}
	return a.writeOne(ctx, key, in.Guard, in.Waiting, catalog.Change{Puts: []rule.Rule{v.Rule}, Action: "rollback"})
}
