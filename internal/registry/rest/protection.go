package rest

import (
	"context"
	"net/http"
	"time"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/access"
	"github.com/weftmesh/weft/internal/registry/audit"
	"github.com/weftmesh/weft/internal/registry/lease"
	"github.com/weftmesh/weft/internal/registry/store"
)

// protected is a set of instances of which too many fell silent at once.
type protected struct {
	Service    string    `json:"service,omitempty" doc:"absent: all services together"`
	Namespace  string    `json:"namespace,omitempty"`
	Leases     int       `json:"leases" doc:"instances that have to be renewed"`
	Missing    int       `json:"missing" doc:"those that are not being renewed"`
	Since      time.Time `json:"since"`
	Overridden time.Time `json:"overriddenUntil,omitzero" doc:"until when they expire all the same; absent: they do not"`
}

func protectedOf(p lease.Protected) protected {
	return protected{p.Service.Service, p.Service.Namespace, p.Leases, p.Missing, p.Since, p.Overridden}
}

// override is the body of a PUT.
type override struct {
	Service string `json:"service,omitempty" doc:"product or product.shop; if not given, all services together"`
	For     string `json:"for" example:"10m" doc:"how long instances may expire all the same, up to 24h; 0s ends it"`
}

type listProtection struct {
	Anywhere
	Page
}

type putProtection struct {
	Namespaced
	Payload
}

// maxOverride is how long a protection can be overridden.
const maxOverride = 24 * time.Hour

func (a *API) addProtection() {
	register(a, needs(access.Reader, somewhere), operation("list-protection", http.MethodGet, "/v1/protection",
		"List what is protected from expiring, because too many instances fell silent at once"), a.listProtection)
	put := operation("override-protection", http.MethodPut, "/v1/protection",
		"Let instances expire all the same, for a time", http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity)
	put.RequestBody = bodyOf[override](a.huma, "application/json")
	register(a, needs(access.Operator, somewhere), put, a.overrideProtection)
}

func (a *API) listProtection(ctx context.Context, in *listProtection) (*listed[protected], error) {
	found := []protected{}
	for _, p := range a.Leases.Protection() {
		if in.shows(ctx, p.Service.Namespace) {
			found = append(found, protectedOf(p))
		}
	}
	key := func(p protected) string { return p.Namespace + "/" + p.Service }
	return undated(paged(in.Page, found, key, a.Catalog.Revision())), nil
}

func (a *API) overrideProtection(ctx context.Context, in *putProtection) (*nothing, error) {
	var want override
	if err := in.decode(&want); err != nil {
		return nil, err
	}
	d, err := duration("for", want.For, 0, maxOverride)
	if err != nil {
		return nil, err
	}
	var service discovery.Name
	if want.Service != "" {
		if service, err = discovery.ParseName(want.Service, in.namespace()); err != nil {
			const message = "must be a service such as product or product.shop"
			return nil, problem(http.StatusUnprocessableEntity, "service: "+message, wrong("body.service", message, want.Service))
		}
	}
	if err := may(ctx, access.Operator, service.Namespace); err != nil {
		return nil, err
	}
	if err := a.Leases.Override(service, d); err != nil {
		return nil, a.refuse(err)
	}
	if err := a.noteOverride(ctx, service, d); err != nil {
		_ = a.Leases.Override(service, 0) // what cannot be written down is not done
		return nil, a.refuse(err)
	}
	return nil, nil
}

// noteOverride writes into the audit log what changes nothing in the catalog.
func (a *API) noteOverride(ctx context.Context, service discovery.Name, d time.Duration) error {
	actor, _ := audit.Of(ctx)
	e := audit.Entry{At: time.Now(), Actor: actor, Action: "override", Kind: "protection", Namespace: service.Namespace, Target: service.Service, Detail: "for " + d.String()}
	if service.Service == "" {
		e.Target = "*"
	}
	_, err := a.Catalog.Do(ctx, func(b *store.Batch) error {
		a.Catalog.Audit().Append(b, e)
		return nil
	})
	return err
}
