package rest

import (
	"context"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/catalog"
	"github.com/weftmesh/weft/internal/registry/lease"
)

// registration is the body of a PUT: an instance, and for how long.
type registration struct {
	discovery.Instance
	TTL string `json:"ttl,omitempty" example:"30s" doc:"a duration from 1s to 24h, if the instance will be renewed; without it, it stays until it is deleted"`
}

// adjustment is the body of a PATCH. What is absent stays.
type adjustment struct {
	Weight *int              `json:"weight,omitempty" minimum:"1" maximum:"10000"`
	Labels map[string]string `json:"labels,omitempty" doc:"all labels of the instance from now on"`
	State  *discovery.State  `json:"state,omitempty" enum:"up,draining,isolated"`
}

type listInstances struct {
	OneService
	Page
}

// OneInstance names an instance in a path.
type OneInstance struct {
	OneService
	ID string `path:"id" maxLength:"128"`
}

// key says which instance a path means.
func (in OneInstance) key() (catalog.InstanceKey, error) {
	name, err := in.name(in.Service)
	return catalog.InstanceKey{Service: name, ID: in.ID}, err
}

type instanceWithBody struct {
	OneInstance
	Payload
}

// Payload is a body that the handler reads itself.
type Payload struct {
	ContentType string `header:"Content-Type" hidden:"true"`
	RawBody     []byte
}

// curlDefault is what curl sends with --data when it is not told better; it is taken for the first type wanted.
const curlDefault = "application/x-www-form-urlencoded"

// typed refuses media types other than those given.
func (b Payload) typed(want ...string) error {
	media, _, _ := mime.ParseMediaType(b.ContentType)
	if slices.Contains(want, media) || media == curlDefault {
		return nil
	}
	message := fmt.Sprintf("want one of %q (curl: -H 'content-type: %s')", want, want[0])
	return problem(http.StatusUnsupportedMediaType, "content-type: "+message, wrong("header.Content-Type", message, b.ContentType))
}

type instanceFound struct {
	Status int
	ETag   string `header:"ETag"`
	Body   discovery.Instance
}

// nothing answers 204.
type nothing struct{}

func (a *API) addInstances() {
	const path = "/v1/services/{service}/instances"
	huma.Register(a.huma, operation("list-instances", http.MethodGet, path,
		"List the instances of a service", http.StatusNotFound), a.listInstances)
	put := operation("put-instance", http.MethodPut, path+"/{id}",
		"Register an instance, or replace it", http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusInsufficientStorage)
	put.RequestBody = bodyOf[registration](a.huma, "application/json")
	put.Responses = created()
	huma.Register(a.huma, put, a.putInstance)
	patch := operation("patch-instance", http.MethodPatch, path+"/{id}",
		"Change the weight, the labels or the state of an instance", http.StatusNotFound, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusInsufficientStorage)
	patch.RequestBody = bodyOf[adjustment](a.huma, "application/json")
	huma.Register(a.huma, patch, a.patchInstance)
	huma.Register(a.huma, operation("delete-instance", http.MethodDelete, path+"/{id}",
		"Remove an instance", http.StatusNotFound, http.StatusInsufficientStorage), a.deleteInstance)
	huma.Register(a.huma, operation("renew-instance", http.MethodPost, path+"/{id}/renew",
		"Keep an instance alive that was registered with a ttl", http.StatusNotFound), a.renewInstance)
}

func (a *API) listInstances(_ context.Context, in *listInstances) (*listed[discovery.Instance], error) {
	name, err := in.name(in.Service)
	if err != nil {
		return nil, err
	}
	if _, ok := a.Catalog.Service(name); !ok {
		return nil, noService(name)
	}
	instances, revision := a.Catalog.Instances(name)
	return paged(in.Page, instances, func(in discovery.Instance) string { return in.ID }, revision), nil
}

func (a *API) putInstance(ctx context.Context, in *instanceWithBody) (*instanceFound, error) {
	key, err := in.key()
	if err != nil {
		return nil, err
	}
	var want registration
	if err := in.decode(&want); err != nil {
		return nil, err
	}
	if err := want.named(key); err != nil {
		return nil, err
	}
	ttl, err := want.ttl()
	if err != nil {
		return nil, err
	}
	a.patching.RLock()
	defer a.patching.RUnlock()
	_, existed := a.Catalog.Written(key.Service, key.ID)
	if err := a.register(ctx, want.Instance, ttl); err != nil {
		return nil, a.refuse(err)
	}
	out, err := a.instance(key)
	if err == nil && !existed {
		out.Status = http.StatusCreated
	}
	return out, err
}

func (b Payload) decode(v any) error {
	if err := b.typed("application/json"); err != nil {
		return err
	}
	return decodeJSON(b.RawBody, v)
}

// register writes an instance and its lease. A lease begins before its instance is there, and ends after:
// an instance that is left without its lease would stay.
func (a *API) register(ctx context.Context, in discovery.Instance, ttl time.Duration) error {
	if _, err := catalog.Normalize(in); err != nil {
		return err
	}
	if ttl > 0 {
		a.Leases.Track(in, ttl)
	}
	_, err := a.Catalog.PutLeased(ctx, []discovery.Instance{in}, ttl)
	if err == nil && ttl == 0 {
		a.Leases.Track(in, 0)
	}
	return err
}

// named fills in what the path says, and refuses a body that says otherwise.
func (r *registration) named(key catalog.InstanceKey) error {
	for _, f := range []struct {
		field string
		value *string
		want  string
	}{
		{"id", &r.ID, key.ID},
		{"service", &r.Service, key.Service.Service},
		{"namespace", &r.Namespace, key.Service.Namespace},
	} {
		if *f.value != "" && *f.value != f.want {
			message := fmt.Sprintf("must be absent, or %q as in the address", f.want)
			return problem(http.StatusUnprocessableEntity, f.field+": "+message, wrong("body."+f.field, message, *f.value))
		}
		*f.value = f.want
	}
	return nil
}

func (r *registration) ttl() (time.Duration, error) {
	if r.TTL == "" {
		return 0, nil
	}
	ttl, err := time.ParseDuration(r.TTL)
	if err != nil || ttl < lease.MinTTL || ttl > lease.MaxTTL {
		message := fmt.Sprintf("must be a duration from %s to %s, such as \"30s\"", lease.MinTTL, lease.MaxTTL)
		return 0, problem(http.StatusUnprocessableEntity, "ttl: "+message, wrong("body.ttl", message, r.TTL))
	}
	return ttl, nil
}

// instance answers with an instance as it is now.
func (a *API) instance(key catalog.InstanceKey) (*instanceFound, error) {
	in, revision, ok := a.Catalog.Instance(key.Service, key.ID)
	if !ok {
		return nil, noInstance(key)
	}
	return &instanceFound{Status: http.StatusOK, ETag: etag(revision), Body: in}, nil
}

func noInstance(key catalog.InstanceKey) error {
	return problem(http.StatusNotFound, fmt.Sprintf("there is no instance %q of service %s", key.ID, key.Service))
}

func (a *API) patchInstance(ctx context.Context, in *instanceWithBody) (*instanceFound, error) {
	key, err := in.key()
	if err != nil {
		return nil, err
	}
	var want adjustment
	if err := in.decode(&want); err != nil {
		return nil, err
	}
	a.patching.Lock()
	defer a.patching.Unlock()
	current, ok := a.Catalog.Written(key.Service, key.ID)
	if !ok {
		return nil, noInstance(key)
	}
	if err := want.apply(&current); err != nil {
		return nil, err
	}
	if _, err := a.Catalog.PutInstances(ctx, []discovery.Instance{current}); err != nil {
		return nil, a.refuse(err)
	}
	return a.instance(key)
}

func (p adjustment) apply(in *discovery.Instance) error {
	if p.Weight != nil {
		if *p.Weight < 1 || *p.Weight > discovery.MaxWeight {
			message := fmt.Sprintf("must be 1 to %d; to send no calls there, set state to isolated", discovery.MaxWeight)
			return problem(http.StatusUnprocessableEntity, "weight: "+message, wrong("body.weight", message, *p.Weight))
		}
		in.Weight = *p.Weight
	}
	if p.Labels != nil {
		in.Labels = p.Labels
	}
	if p.State != nil {
		if !slices.Contains([]discovery.State{discovery.Up, discovery.Draining, discovery.Isolated}, *p.State) {
			const message = "must be up, draining or isolated"
			return problem(http.StatusUnprocessableEntity, "state: "+message, wrong("body.state", message, *p.State))
		}
		in.State = *p.State
	}
	return nil
}

func (a *API) deleteInstance(ctx context.Context, in *OneInstance) (*nothing, error) {
	key, err := in.key()
	if err != nil {
		return nil, err
	}
	a.patching.RLock()
	defer a.patching.RUnlock()
	if _, err := a.Catalog.DeleteInstances(ctx, []catalog.InstanceKey{key}, discovery.Deleted); err != nil {
		return nil, a.refuse(err)
	}
	a.Leases.Track(discovery.Instance{ID: key.ID, Service: key.Service.Service, Namespace: key.Service.Namespace}, 0)
	return nil, nil
}

func (a *API) renewInstance(_ context.Context, in *OneInstance) (*nothing, error) {
	key, err := in.key()
	if err != nil {
		return nil, err
	}
	if a.Leases.Renew(key.Service, key.ID) {
		return nil, nil
	}
	if _, ok := a.Catalog.Written(key.Service, key.ID); !ok {
		return nil, noInstance(key)
	}
	return nil, problem(http.StatusNotFound, fmt.Sprintf("instance %q of service %s has no ttl to renew: it was registered without", key.ID, key.Service))
}
