package rest

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/access"
	"github.com/weftmesh/weft/internal/registry/catalog"
	"github.com/weftmesh/weft/internal/registry/session"
	"github.com/weftmesh/weft/rule"
)

// client is a process that has a session.
type client struct {
	Process    string         `json:"process"`
	Service    string         `json:"service,omitempty" doc:"its own; absent if it has none"`
	Namespace  string         `json:"namespace"`
	Address    string         `json:"address" doc:"of its end of the connection"`
	SDKVersion string         `json:"sdkVersion"`
	Token      string         `json:"token" doc:"the name of the token it came with"`
	Since      time.Time      `json:"since"`
	Instances  []string       `json:"instances,omitempty" doc:"what it registered, as service/id"`
	Services   []subscription `json:"services,omitempty" doc:"what it uses"`
}

// subscription is one service that a client uses.
type subscription struct {
	Service string             `json:"service" example:"product.shop"`
	Sent    discovery.Revision `json:"sent" doc:"the last that it was sent"`
	Acked   discovery.Revision `json:"acked" doc:"what it has applied"`
	Latest  discovery.Revision `json:"latest" doc:"what there is"`
	Behind  bool               `json:"behind,omitempty" doc:"it has not applied the latest yet"`
	Nacks   []nack             `json:"nacks,omitempty" doc:"rules that it could not use"`
}

// nack is a rule that a client could not use.
type nack struct {
	Kind      rule.Kind `json:"kind"`
	Name      string    `json:"name"`
	Namespace string    `json:"namespace"`
	Revision  string    `json:"revision"`
	Reason    string    `json:"reason"`
}

func nackOf(n rule.Nack) nack { return nack{n.Kind, n.Name, n.Namespace, n.Revision, n.Reason} }

func instanceName(k catalog.InstanceKey) string { return k.Service.String() + "/" + k.ID }

func clientOf(c session.Client) client {
	return client{
		Process: c.Process, Service: c.Service.Service, Namespace: c.Service.Namespace,
		Address: c.Address, SDKVersion: c.SDKVersion, Token: c.Token, Since: c.Since,
		Instances: convert(c.Instances, instanceName),
		Services:  convert(c.Services, subscriptionOf),
	}
}

func subscriptionOf(s session.Subscription) subscription {
	return subscription{s.Name.String(), s.Sent, s.Acked, s.Latest, s.Acked != s.Latest, convert(s.Nacks, nackOf)}
}

type listClients struct {
	Anywhere
	Page
	Service string `query:"service" maxLength:"127" doc:"only clients that use this service or are of it; product or product.shop"`
}

func (a *API) addClients() {
	register(a, needs(access.Reader, somewhere), operation("list-clients", http.MethodGet, "/v1/clients",
		"List the processes that have a session, what they use, and which revision they have applied", http.StatusUnprocessableEntity), a.listClients)
}

func (a *API) listClients(ctx context.Context, in *listClients) (*listed[client], error) {
	service, err := in.service(in.Service)
	if err != nil {
		return nil, err
	}
	found := slices.DeleteFunc(a.Sessions.Clients(), func(c session.Client) bool {
		return !in.shows(ctx, c.Service.Namespace) || service.Service != "" && !uses(c, service)
	})
	slices.SortStableFunc(found, func(x, y session.Client) int { return strings.Compare(clientKey(x), clientKey(y)) })
	page := paged(in.Page, found, clientKey, a.Catalog.Revision())
	out := list[client]{convert(page.Body.Items, clientOf), page.Body.Revision, page.Body.Next}
	return &listed[client]{digest(out.Items), out}, nil
}

// uses reports whether a client is of a service or uses it.
func uses(c session.Client, service discovery.Name) bool {
	return c.Service == service || slices.ContainsFunc(c.Services, func(s session.Subscription) bool { return s.Name == service })
}

// clientKey orders clients. A process may have two sessions for a moment; their addresses differ.
func clientKey(c session.Client) string {
	return c.Service.Namespace + "/" + c.Service.Service + "/" + c.Process + "/" + c.Address
}
