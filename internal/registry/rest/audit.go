package rest

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/weftmesh/weft/internal/registry/access"
	"github.com/weftmesh/weft/internal/registry/audit"
)

// auditEntry is one change that somebody made.
type auditEntry struct {
	Number    uint64    `json:"number" doc:"ascending"`
	At        time.Time `json:"at"`
	Who       string    `json:"who" doc:"the name of the token"`
	From      string    `json:"from" doc:"the address of the client"`
	Action    string    `json:"action" example:"put"`
	Kind      string    `json:"kind" doc:"instance, alias, token, protection, backup, or the kind of a rule"`
	Namespace string    `json:"namespace,omitempty"`
	Target    string    `json:"target" example:"product/p1"`
	Revision  string    `json:"revision,omitempty"`
	Detail    string    `json:"detail,omitempty"`
}

func auditEntryOf(e audit.Entry) auditEntry {
	return auditEntry{e.Number, e.At, e.Who, e.From, e.Action, e.Kind, e.Namespace, e.Target, e.Revision, e.Detail}
}

type listAudit struct {
	Anywhere
	Before uint64 `query:"before" doc:"only entries with a lower number: the next of the answer before"`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"1000" doc:"how many items at most"`
	Who    string `query:"who" maxLength:"63" doc:"only of this token's name"`
	Kind   string `query:"kind" maxLength:"64" doc:"only of this kind; case does not matter"`
	Target string `query:"target" maxLength:"400" doc:"only of this target"`
}

func (a *API) addAudit() {
	register(a, needs(access.Operator, somewhere).asCostly(), operation("list-audit", http.MethodGet, "/v1/audit",
		"List who changed what, the newest first", http.StatusUnprocessableEntity), a.listAudit)
}

func (a *API) listAudit(ctx context.Context, in *listAudit) (*listed[auditEntry], error) {
	f := audit.Filter{Before: in.Before, Limit: in.Limit, Who: in.Who, Kind: in.Kind, Namespace: in.Namespace, Target: in.Target}
	found, err := a.Catalog.Audit().List(f)
	if err != nil {
		return nil, a.refuse(err)
	}
	body := list[auditEntry]{Items: []auditEntry{}, Revision: a.Catalog.Revision()}
	if len(found) == in.Limit { // there may be more
		body.Next = strconv.FormatUint(found[len(found)-1].Number, 10)
	}
	grant := callOf(ctx).grant
	for _, e := range found {
		if grant.Allows(access.Operator, e.Namespace) {
			body.Items = append(body.Items, auditEntryOf(e))
		}
	}
	return &listed[auditEntry]{digest(body.Items), body}, nil
}
