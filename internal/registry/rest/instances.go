package rest

import (
	"context"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"time"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/access"
	"github.com/weftmesh/weft/internal/registry/catalog"
	"github.com/weftmesh/weft/internal/registry/lease"
)

// registration is the body of a PUT: an instance, for how long, and how it is looked after.
type registration struct {
	discovery.Instance
	TTL   string `json:"ttl,omitempty" example:"30s" doc:"a duration from 1s to 24h, if the instance will be renewed; without it, it stays until it is deleted"`
	Check *check `json:"check,omitempty" doc:"the server tries the instance's address itself; without it, it does not. Refused unless the server was started with --checks"`
}

// check is an active health check.
type check struct {
	Type     string `json:"type" enum:"tcp,http,grpc"`
	Path     string `json:"path,omitempty" doc:"of http; / if not given"`
	Service  string `json:"service,omitempty" doc:"of grpc: the service asked for, as grpc.health.v1 has it"`
	Interval string `json:"interval,omitempty" example:"10s" doc:"from 1s to 1h; 10s if not given"`
	Timeout  string `json:"timeout,omitempty" example:"2s" doc:"from 100ms to 1m, at most the interval; 2s if not given"`
	Failures int    `json:"failures,omitempty" minimum:"1" maximum:"100" doc:"in a row that make it unhealthy; 3 if not given"`
}

// order is the body of a PATCH. What is absent stays as it was ordered before.
type order struct {
	Weight *int              `json:"weight,omitempty" minimum:"1" maximum:"10000"`
	Labels map[string]string `json:"labels,omitempty" doc:"all labels of the instance from now on"`
	State  *discovery.State  `json:"state,omitempty" enum:"up,draining,isolated"`
	Reset  bool              `json:"reset,omitempty" doc:"forget first what was ordered before: the instance is again what its process says"`
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

type orderWithBody struct {
	OneInstance
	Waiting
	Payload
}

type removeInstance struct {
	OneInstance
	Waiting
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

// ordered answers an order.
type ordered struct {
	discovery.Instance
	Acknowledged *acknowledged `json:"acknowledged,omitempty" doc:"with ?wait="`
}

type orderDone struct {
	ETag string `header:"ETag"`
	Body ordered
}

// removed answers 204, or with ?wait= 200.
type removed struct {
	Status int
	Body   *waitedFor
}

// waitedFor is the answer of what has no other.
type waitedFor struct {
	Acknowledged *acknowledged `json:"acknowledged"`
}

func removal(ack *acknowledged) *removed {
	if ack == nil {
		return &removed{Status: http.StatusNoContent}
	}
	return &removed{http.StatusOK, &waitedFor{ack}}
}

// nothing answers 204.
type nothing struct{}

func (a *API) addInstances() {
	const path = "/v1/services/{service}/instances"
	register(a, needs(access.Reader, inNamespace), operation("list-instances", http.MethodGet, path,
		"List the instances of a service", http.StatusNotFound), a.listInstances)
	register(a, needs(access.Reader, inNamespace), operation("get-instance", http.MethodGet, path+"/{id}",
		"Read one instance", http.StatusNotFound), a.getInstance)
	put := operation("put-instance", http.MethodPut, path+"/{id}",
		"Register an instance, or replace it", http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusInsufficientStorage)
	put.RequestBody = bodyOf[registration](a.huma, "application/json")
	put.Responses = created()
	register(a, needs(access.Operator, inNamespace), put, a.putInstance)
	patch := operation("patch-instance", http.MethodPatch, path+"/{id}",
		"Order the weight, the labels or the state of an instance, over what its process says", http.StatusNotFound, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusInsufficientStorage)
	patch.RequestBody = bodyOf[order](a.huma, "application/json")
	register(a, needs(access.Operator, inNamespace), patch, a.patchInstance)
	remove := operation("delete-instance", http.MethodDelete, path+"/{id}",
		"Remove an instance", http.StatusNotFound, http.StatusInsufficientStorage)
	remove.Responses = also(nil, http.StatusNoContent, "Removed; with ?wait= the answer is 200")
	register(a, needs(access.Operator, inNamespace), remove, a.deleteInstance)
	register(a, needs(access.Operator, inNamespace).in(heartbeats), operation("renew-instance", http.MethodPost, path+"/{id}/renew",
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

func (a *API) getInstance(_ context.Context, in *OneInstance) (*instanceFound, error) {
	key, err := in.key()
	if err != nil {
		return nil, err
	}
	return a.instance(key)
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
	if want.Check != nil && !a.Checks {
		const message = "must be absent: this server does no checks until it is started with --checks"
		return nil, problem(http.StatusUnprocessableEntity, "check: "+message, wrong("body.check", message, nil))
	}
	terms, err := want.terms()
	if err != nil {
		return nil, err
	}
	existed := a.Catalog.Has(key)
	if err := a.enter(ctx, want.Instance, terms); err != nil {
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

// enter writes an instance and its lease. A lease begins before its instance is there, and ends after: an instance that
// is left without its lease would stay. It does not stop when the client goes, as a lease has to know what came of the
// write.
func (a *API) enter(ctx context.Context, in discovery.Instance, terms catalog.Terms) error {
	if _, err := catalog.Normalize(in); err != nil {
		return err
	}
	undo := func() {}
	if terms.TTL > 0 {
		undo = a.Leases.Track(in, terms.TTL)
	}
	_, err := a.Catalog.PutTerms(context.WithoutCancel(ctx), []discovery.Instance{in}, terms)
	switch {
	case err != nil:
		undo()
	case terms.TTL == 0:
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

func (r *registration) terms() (t catalog.Terms, err error) {
	if r.TTL != "" {
		if t.TTL, err = duration("ttl", r.TTL, lease.MinTTL, lease.MaxTTL); err != nil {
			return t, err
		}
	}
	if r.Check != nil {
		t.Check, err = r.Check.read()
	}
	return t, err
}

// read gives the check with the defaults filled in.
func (c *check) read() (*catalog.Check, error) {
	out := catalog.Check{Type: c.Type, Path: c.Path, Service: c.Service, Interval: 10 * time.Second, Timeout: 2 * time.Second, Failures: c.Failures}
	var err error
	if c.Interval != "" {
		if out.Interval, err = duration("check.interval", c.Interval, time.Second, time.Hour); err != nil {
			return nil, err
		}
	}
	out.Timeout = min(out.Timeout, out.Interval)
	if c.Timeout != "" {
		if out.Timeout, err = duration("check.timeout", c.Timeout, 100*time.Millisecond, min(time.Minute, out.Interval)); err != nil {
			return nil, err
		}
	}
	if out.Failures == 0 {
		out.Failures = 3
	}
	for _, f := range []struct {
		ok      bool
		field   string
		value   any
		message string
	}{
		{slices.Contains([]string{"tcp", "http", "grpc"}, c.Type), "type", c.Type, "must be tcp, http or grpc"},
		{c.Path == "" || c.Type == "http" && c.Path[0] == '/' && len(c.Path) <= maxCheckText, "path", c.Path, "belongs to type http, must begin with / and have at most 256 bytes"},
		{c.Service == "" || c.Type == "grpc" && len(c.Service) <= maxCheckText, "service", c.Service, "belongs to type grpc, and must have at most 256 bytes"},
		{out.Failures >= 1 && out.Failures <= 100, "failures", c.Failures, "must be 1 to 100"},
	} {
		if !f.ok {
			return nil, problem(http.StatusUnprocessableEntity, "check."+f.field+": "+f.message, wrong("body.check."+f.field, f.message, f.value))
		}
	}
	return &out, nil
}

// maxCheckText bounds the path and the service of a check, in bytes.
const maxCheckText = 256

// duration reads a duration of a body.
func duration(field, text string, least, most time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d < least || d > most {
		message := fmt.Sprintf("must be a duration from %s to %s, such as \"30s\"", least, most)
		return 0, problem(http.StatusUnprocessableEntity, field+": "+message, wrong("body."+field, message, text))
	}
	return d, nil
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

func (a *API) patchInstance(ctx context.Context, in *orderWithBody) (*orderDone, error) {
	key, err := in.key()
	if err != nil {
		return nil, err
	}
	var want order
	if err := in.decode(&want); err != nil {
		return nil, err
	}
	o, err := want.read()
	if err != nil {
		return nil, err
	}
	now, revision, err := a.Catalog.OrderInstance(ctx, key, o)
	if err != nil {
		return nil, a.refuse(err)
	}
	ack := a.await(ctx, in.Waiting, []discovery.Name{key.Service}, revision)
	return &orderDone{ETag: etag(revision), Body: ordered{now, ack}}, nil
}

func (o order) read() (catalog.Order, error) {
	out := catalog.Order{Weight: o.Weight, Labels: o.Labels, Reset: o.Reset}
	if o.Weight != nil && (*o.Weight < 1 || *o.Weight > discovery.MaxWeight) {
		message := fmt.Sprintf("must be 1 to %d; to send no calls there, set state to isolated", discovery.MaxWeight)
		return out, problem(http.StatusUnprocessableEntity, "weight: "+message, wrong("body.weight", message, *o.Weight))
	}
	if o.State == nil {
		return out, nil
	}
	if out.State = *o.State; !slices.Contains([]discovery.State{discovery.Up, discovery.Draining, discovery.Isolated}, out.State) {
		const message = "must be up, draining or isolated"
		return out, problem(http.StatusUnprocessableEntity, "state: "+message, wrong("body.state", message, out.State))
	}
	return out, nil
}

func (a *API) deleteInstance(ctx context.Context, in *removeInstance) (*removed, error) {
	key, err := in.key()
	if err != nil {
		return nil, err
	}
	revision, err := a.Catalog.DeleteInstances(ctx, []catalog.InstanceKey{key}, discovery.Deleted)
	if err != nil {
		return nil, a.refuse(err)
	}
	a.Leases.Track(discovery.Instance{ID: key.ID, Service: key.Service.Service, Namespace: key.Service.Namespace}, 0)
	return removal(a.await(ctx, in.Waiting, []discovery.Name{key.Service}, revision)), nil
}

func (a *API) renewInstance(_ context.Context, in *OneInstance) (*nothing, error) {
	key, err := in.key()
	if err != nil {
		return nil, err
	}
	if a.Leases.Renew(key.Service, key.ID) {
		return nil, nil
	}
	if !a.Catalog.Has(key) {
		return nil, noInstance(key)
	}
	return nil, problem(http.StatusNotFound, fmt.Sprintf("instance %q of service %s has no ttl to renew: it was registered without", key.ID, key.Service))
}
