package rest

import (
	"context"
	"errors"
	"net/http"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/access"
	"github.com/weftmesh/weft/internal/registry/catalog"
)

// alias is another name of a service.
type alias struct {
	Name      string             `json:"name" example:"64030:65536"`
	Namespace string             `json:"namespace" example:"default"`
	Service   string             `json:"service" example:"product.shop" doc:"what the name stands for"`
	Revision  discovery.Revision `json:"revision" doc:"of its last change"`

	Acknowledged *acknowledged `json:"acknowledged,omitempty" doc:"of a write with ?wait="`
}

func aliasOf(a catalog.Alias) alias {
	return alias{Name: a.Name.Service, Namespace: a.Name.Namespace, Service: a.Target.String(), Revision: a.Revision}
}

// aliasTarget is the body of a PUT.
type aliasTarget struct {
	Service string `json:"service" example:"product" doc:"product, or product.shop of another namespace; it need not exist yet, and is no alias"`
}

type listAliases struct {
	Namespaced
	Page
}

// OneAlias names an alias in a path.
type OneAlias struct {
	Namespaced
	Name string `path:"name" maxLength:"63"`
}

func (in OneAlias) alias() discovery.Name {
	return discovery.Name{Service: in.Name, Namespace: in.namespace()}
}

type putAlias struct {
	OneAlias
	Waiting
	Payload
}

type deleteAlias struct {
	OneAlias
	Waiting
}

type aliasFound struct {
	Status int
	ETag   string `header:"ETag"`
	Body   alias
}

func (a *API) addAliases() {
	const one = "/v1/aliases/{name}"
	register(a, needs(access.Reader, inNamespace), operation("list-aliases", http.MethodGet, "/v1/aliases",
		"List the other names of services", http.StatusUnprocessableEntity), a.listAliases)
	register(a, needs(access.Reader, inNamespace), operation("get-alias", http.MethodGet, one, "Read one alias", http.StatusNotFound), a.getAlias)
	put := operation("put-alias", http.MethodPut, one, "Give a service another name", writeErrors()...)
	put.RequestBody = bodyOf[aliasTarget](a.huma, "application/json")
	put.Responses = created()
	register(a, needs(access.Operator, inNamespace), put, a.putAlias)
	remove := operation("delete-alias", http.MethodDelete, one, "Delete an alias", http.StatusNotFound, http.StatusInsufficientStorage)
	remove.Responses = also(nil, http.StatusNoContent, "Deleted; with ?wait= the answer is 200")
	register(a, needs(access.Operator, inNamespace), remove, a.deleteAlias)
}

func (a *API) listAliases(_ context.Context, in *listAliases) (*listed[alias], error) {
	found, revision := a.Catalog.Aliases(in.namespace())
	return paged(in.Page, convert(found, aliasOf), func(a alias) string { return a.Name }, revision), nil
}

func (a *API) getAlias(_ context.Context, in *OneAlias) (*aliasFound, error) {
	found, ok := a.Catalog.Alias(in.alias())
	if !ok {
		return nil, problem(http.StatusNotFound, "there is no alias "+in.alias().String())
	}
	return &aliasFound{http.StatusOK, etag(found.Revision), aliasOf(found)}, nil
}

func (a *API) putAlias(ctx context.Context, in *putAlias) (*aliasFound, error) {
	var want aliasTarget
	if err := in.decode(&want); err != nil {
		return nil, err
	}
	target, err := discovery.ParseName(want.Service, in.namespace())
	if err != nil || !discovery.IsLabel(target.Service) { // an alias stands for no alias
		const message = "must be a service such as product or product.shop"
		return nil, problem(http.StatusUnprocessableEntity, "service: "+message, wrong("body.service", message, want.Service))
	}
	done, outcome, err := a.Catalog.PutAlias(ctx, catalog.Alias{Name: in.alias(), Target: target})
	switch {
	case errors.Is(err, discovery.ErrInvalid): // what else there is was looked at
		return nil, problem(http.StatusUnprocessableEntity, err.Error(), wrong("path.name", err.Error(), in.Name))
	case err != nil:
		return nil, a.refuse(err)
	}
	out := &aliasFound{http.StatusOK, etag(done.Revision), aliasOf(done)}
	if outcome == catalog.Created {
		out.Status = http.StatusCreated
	}
	out.Body.Acknowledged = a.await(ctx, in.Waiting, []discovery.Name{done.Name}, done.Revision)
	return out, nil
}

func (a *API) deleteAlias(ctx context.Context, in *deleteAlias) (*removed, error) {
	revision, err := a.Catalog.DeleteAlias(ctx, in.alias())
	if err != nil {
		return nil, a.refuse(err)
	}
	return removal(a.await(ctx, in.Waiting, []discovery.Name{in.alias()}, revision)), nil
}
