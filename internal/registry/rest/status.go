package rest

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/access"
	"github.com/weftmesh/weft/internal/registry/catalog"
)

// Store is what is told of the store.
type Store struct {
	Path  string `json:"path" doc:"empty if it is in memory, or if the token is not for all namespaces"`
	Bytes int64  `json:"bytes" doc:"its size on disk"`
	State string `json:"state" enum:"ok,full,broken" doc:"full: writes answer 507 until there is space; broken: writes answer 503 until a restart"`

	LastBackup time.Time `json:"-"` // the last that the server made by itself; zero: none
}

// status sums up what of the server a token reaches.
type status struct {
	Version    string             `json:"version"`
	Epoch      string             `json:"epoch" doc:"of all revisions; a restore begins a new one"`
	Revision   discovery.Revision `json:"revision" doc:"of the last change"`
	StartedAt  time.Time          `json:"startedAt"`
	Services   int                `json:"services"`
	Instances  int                `json:"instances"`
	Rules      int                `json:"rules"`
	Sessions   int                `json:"sessions"`
	Protected  int                `json:"protected" doc:"sets of instances that do not expire, because too many fell silent at once"`
	Store      Store              `json:"store"`
	LastBackup time.Time          `json:"lastBackup,omitzero" doc:"when the last backup was finished, since the start; absent: none"`
}

type statusFound struct {
	ETag string `header:"ETag"`
	Body status
}

func (a *API) addStatus() {
	register(a, needs(access.Reader, somewhere), operation("get-status", http.MethodGet, "/v1/status", "Sum the server up; what is counted is in the namespaces of the token"), a.getStatus)
}

func (a *API) getStatus(ctx context.Context, _ *struct{}) (*statusFound, error) {
	revision := a.Catalog.Revision()
	out := status{
		Version:    a.Version,
		Epoch:      strconv.FormatUint(revision.Epoch, 16),
		Revision:   revision,
		StartedAt:  a.started,
		Store:      a.StoreStatus(),
		LastBackup: a.lastBackup(),
	}
	if !reaches(ctx, "") {
		out.Store.Path = ""
	}
	a.countReached(ctx, &out)
	return &statusFound{digest(out), out}, nil
}

// countReached counts what is in the namespaces of the caller.
func (a *API) countReached(ctx context.Context, out *status) {
	for _, s := range a.Catalog.Services("") {
		if reaches(ctx, s.Name.Namespace) {
			out.Services++
			out.Instances += s.Instances
		}
	}
	rules, _ := a.Catalog.Rules(catalog.Filter{})
	for _, r := range rules {
		if reaches(ctx, r.Namespace) {
			out.Rules++
		}
	}
	for _, c := range a.Sessions.Clients() {
		if reaches(ctx, c.Service.Namespace) {
			out.Sessions++
		}
	}
	for _, p := range a.Leases.Protection() {
		if reaches(ctx, p.Service.Namespace) {
			out.Protected++
		}
	}
}

// lastBackup is the later of what was downloaded and what the server made by itself.
func (a *API) lastBackup() time.Time {
	own := a.StoreStatus().LastBackup
	if at := a.copies.last.Load(); at != nil && at.After(own) {
		return *at
	}
	return own
}
