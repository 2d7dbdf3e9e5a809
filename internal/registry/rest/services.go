package rest

import (
	"context"
	"net/http"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/access"
	"github.com/weftmesh/weft/internal/registry/catalog"
)

// service sums up a service.
type service struct {
	Name      string                  `json:"name" example:"product"`
	Namespace string                  `json:"namespace" example:"default"`
	Instances int                     `json:"instances" doc:"how many there are"`
	States    map[discovery.State]int `json:"states,omitempty" doc:"how many instances are in each state"`
	Rules     int                     `json:"rules" doc:"how many rules name it"`
	Revision  discovery.Revision      `json:"revision" doc:"of its last change"`
}

func serviceOf(s catalog.ServiceInfo) service {
	return service{s.Name.Service, s.Name.Namespace, s.Instances, s.States, s.Rules, s.Revision}
}

type listServices struct {
	Namespaced
	Page
}

// OneService names a service in a path.
type OneService struct {
	Namespaced
	Service string `path:"service" maxLength:"63"`
}

type serviceFound struct {
	ETag string `header:"ETag"`
	Body service
}

func (a *API) addServices() {
	register(a, needs(access.Reader, inNamespace), operation("list-services", http.MethodGet, "/v1/services",
		"List the services that an instance or a rule names", http.StatusUnprocessableEntity), a.listServices)
	register(a, needs(access.Reader, inNamespace), operation("get-service", http.MethodGet, "/v1/services/{service}",
		"Sum up one service", http.StatusNotFound), a.getService)
}

func (a *API) listServices(_ context.Context, in *listServices) (*listed[service], error) {
	revision := a.Catalog.Revision() // before the list: asking again from it misses nothing
	services := convert(a.Catalog.Services(in.namespace()), serviceOf)
	return paged(in.Page, services, func(s service) string { return s.Name }, revision), nil
}

func (a *API) getService(_ context.Context, in *OneService) (*serviceFound, error) {
	name, err := in.name(in.Service)
	if err != nil {
		return nil, err
	}
	info, ok := a.Catalog.Service(name)
	if !ok {
		return nil, noService(name)
	}
	return &serviceFound{ETag: etag(info.Revision), Body: serviceOf(info)}, nil
}

func noService(name discovery.Name) error {
	return problem(http.StatusNotFound, "there is no service "+name.String()+": no instance and no rule names it")
}
