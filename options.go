package weft

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/discovery/registry"
	"github.com/weftmesh/weft/internal/engine"
	"github.com/weftmesh/weft/rule"
	"github.com/weftmesh/weft/telemetry"
	"github.com/weftmesh/weft/telemetry/otel"
	"github.com/weftmesh/weft/telemetry/prom"
)

// Option configures [New].
type Option interface{ apply(*config) error }

type option func(*config) error

func (o option) apply(c *config) error { return o(c) }

// config is what the options say, completed.
type config struct {
	name        discovery.Name
	labels      map[string]string
	registry    []string // nil: none
	useRegistry bool
	sources     []discovery.Source
	endpoints   map[string][]discovery.Instance
	rules       []rule.Rule
	token       string
	tokenFile   string
	pin         string
	locality    discovery.Locality
	log         *slog.Logger
	registerer  prometheus.Registerer
	provider    trace.TracerProvider
	observers   []telemetry.Observer
	classifiers [engine.NumProtocols]engine.Classifier
	cacheDir    string
	noCache     bool
	hasty       bool // instances leave without waiting for their callers; the control of a test
}

func configure(options []Option) (config, error) {
	c := config{endpoints: map[string][]discovery.Instance{}}
	var errs []error
	for _, o := range options {
		if o == nil {
			errs = append(errs, errors.New("option nil: want what a With… function returns"))
			continue
		}
		errs = append(errs, o.apply(&c))
	}
	errs = append(errs, c.conflicts())
	if err := errors.Join(errs...); err != nil {
		return c, err
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.chooseRegistry()
	c.chooseCache()
	return c, nil
}

// conflicts names the first rule of the program that another one shuts out.
func (c *config) conflicts() error {
	type place struct {
		kind               rule.Kind
		namespace, service string
	}
	first := map[place]string{}
	for _, r := range c.rules {
		r = r.WithDefaults()
		p := place{r.Kind, r.Namespace, r.Service}
		if other, ok := first[p]; ok && !rule.Many(r.Kind) {
			return fmt.Errorf("WithRules: %s %q: %q is the %s of service %s already", r.Kind, r.Name, other, r.Kind, r.Service)
		}
		first[p] = r.Name
	}
	return nil
}

// chooseRegistry applies the default: the registry server, unless the program named something else and the environment
// is silent.
func (c *config) chooseRegistry() {
	env := os.Getenv("WEFT_REGISTRY")
	switch {
	case len(c.registry) > 0:
	case env != "":
		c.registry = strings.Split(env, ",")
	case len(c.sources) == 0 && len(c.endpoints) == 0:
		c.registry = []string{"127.0.0.1:7070"}
	}
	c.useRegistry = len(c.registry) > 0
	if c.tokenFile == "" { // which is as explicit as a token
		c.token = cmp.Or(c.token, os.Getenv("WEFT_TOKEN"))
	}
	c.pin = cmp.Or(c.pin, os.Getenv("WEFT_PIN"))
}

func (c *config) chooseCache() {
	if c.cacheDir != "" || c.noCache {
		return
	}
	if dir, err := os.UserCacheDir(); err == nil {
		c.cacheDir = filepath.Join(dir, "weft")
	}
}

// WithService names the process's own service, "web" or "web.shop". Without it the process can call but not register, and
// its namespace is "default".
func WithService(name string) Option {
	return option(func(c *config) (err error) {
		c.name, err = discovery.ParseName(name, discovery.DefaultNamespace)
		if err == nil && !discovery.IsLabel(c.name.Service) {
			err = fmt.Errorf("service name %q: %w: want a DNS label (a-z, 0-9, -, at most 63 characters)", name, discovery.ErrInvalid)
		}
		return err
	})
}

// WithLabels sets labels that all instances of the process have and that rules of callees may match
// (match.caller.labels).
func WithLabels(labels map[string]string) Option {
	return option(func(c *config) error {
		c.labels = maps.Clone(labels)
		return nil
	})
}

// WithRegistry sets the addresses (host:port) of the registry server's session port. The default is WEFT_REGISTRY, a
// list with commas, else 127.0.0.1:7070 unless other sources are given. A server on another host is known by WEFT_PIN, the
// SHA-256 of its key in hex; on this host its credential file says it.
func WithRegistry(addr ...string) Option {
	return option(func(c *config) error {
		for _, a := range addr {
			if _, _, err := net.SplitHostPort(a); err != nil {
				return fmt.Errorf("WithRegistry(%q): want host:port: %w", a, err)
			}
		}
		c.registry = append(c.registry, addr...)
		return nil
	})
}

// WithSource adds a source of instances. If it is a rule.Source or a discovery.Registrar too, it is used as such. With
// several sources the instances of all count; rules come from all, and the first registrar registers.
func WithSource(s discovery.Source) Option {
	return option(func(c *config) error {
		if s == nil {
			return errors.New("WithSource(nil): want a source")
		}
		c.sources = append(c.sources, s)
		return nil
	})
}

// WithEndpoints gives a service fixed addresses (host:port), of both protocols: a gRPC call takes them as gRPC servers, an
// HTTP call as HTTP servers. No registry is used unless one is named too.
func WithEndpoints(service string, addr ...string) Option {
	return option(func(c *config) error {
		name, err := discovery.ParseName(service, discovery.DefaultNamespace)
		if err != nil {
			return err
		}
		instances := []discovery.Instance{}
		for _, a := range addr {
			if _, _, err := net.SplitHostPort(a); err != nil {
				return fmt.Errorf("WithEndpoints(%q, %q): want host:port: %w", service, a, err)
			}
			for _, p := range []discovery.Protocol{discovery.GRPC, discovery.HTTP} {
				instances = append(instances, discovery.Instance{ID: string(p) + "-" + a,
					Service: name.Service, Namespace: name.Namespace, Address: a, Protocol: p})
			}
		}
		c.endpoints[name.String()] = append(instances, c.endpoints[name.String()]...) // known even without an address
		return nil
	})
}

// WithRules sets rules in the program, beside those of the sources. [rule.Parse] reads them from YAML or JSON.
func WithRules(rules ...rule.Rule) Option {
	return option(func(c *config) error {
		for _, r := range rules {
			if err := r.Validate(); err != nil {
				return fmt.Errorf("WithRules: %s %q: %w", r.Kind, r.Name, err)
			}
		}
		c.rules = append(c.rules, rules...)
		return nil
	})
}

// WithToken sets the bearer token of the session. The default is WEFT_TOKEN, else what a registry server of the same user
// on the same host left in the user's configuration directory.
func WithToken(token string) Option {
	return option(func(c *config) error { c.token = token; return nil })
}

// WithPin sets the pin by which the registry server's key is known: the SHA-256 of its SubjectPublicKeyInfo in hex. The
// default is WEFT_PIN, else what a registry server of the same user on the same host left in the user's configuration
// directory.
func WithPin(pin string) Option {
	return option(func(c *config) error { c.pin = pin; return nil })
}

// WithTokenFile names a file with the bearer token. It is read again at each connection.
func WithTokenFile(path string) Option {
	return option(func(c *config) error { c.tokenFile = path; return nil })
}

// WithLocality says where the process runs.
func WithLocality(region, zone string) Option {
	return option(func(c *config) error {
		c.locality = discovery.Locality{Region: region, Zone: zone}
		return nil
	})
}

// WithLogger sets where Weft logs what an operator should know. The default is nowhere.
func WithLogger(log *slog.Logger) Option {
	return option(func(c *config) error { c.log = log; return nil })
}

// WithRegisterer turns on Prometheus metrics. Without it there are none; the global registry is never touched.
func WithRegisterer(r prometheus.Registerer) Option {
	return option(func(c *config) error { c.registerer = r; return nil })
}

// WithTracerProvider turns on OpenTelemetry traces and the propagation of W3C trace context and baggage.
func WithTracerProvider(tp trace.TracerProvider) Option {
	return option(func(c *config) error { c.provider = tp; return nil })
}

// WithObserver adds an observer of calls and attempts.
func WithObserver(o telemetry.Observer) Option {
	return option(func(c *config) error {
		if o == nil {
			return errors.New("WithObserver(nil): want an observer")
		}
		c.observers = append(c.observers, o)
		return nil
	})
}

// WithClassifier replaces the judge of outcomes of one protocol. [ClassifyGRPC] and [ClassifyHTTP] are the defaults, to be
// called for what it does not want to judge itself.
func WithClassifier(p Protocol, classify Classifier) Option {
	return option(func(c *config) error {
		switch p {
		case GRPC:
			c.classifiers[engine.GRPC] = classify
		case HTTP:
			c.classifiers[engine.HTTP] = classify
		default:
			return fmt.Errorf("WithClassifier(%q): want weft.GRPC or weft.HTTP", p)
		}
		return nil
	})
}

// WithCacheDir sets where the last good instances and rules are kept for a start without a registry. The default is weft in
// the user's cache directory; "" turns the cache off.
func WithCacheDir(dir string) Option {
	return option(func(c *config) error {
		c.cacheDir, c.noCache = dir, dir == ""
		return nil
	})
}

func (c *config) observer() (telemetry.Observer, error) {
	list := c.observers
	if c.registerer != nil {
		p, err := prom.New(c.registerer)
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	switch len(list) {
	case 0:
		return nil, nil
	case 1:
		return list[0], nil
	}
	return telemetry.Observers(list...), nil
}

func (c *config) tracer() telemetry.Tracer {
	if c.provider == nil {
		return nil
	}
	return otel.New(c.provider)
}

// openSources makes the sources that the options name: fixed endpoints, what the program gave, and the registry.
func (m *Mesh) openSources() error {
	c := &m.cfg
	if len(c.endpoints) > 0 {
		c.sources = append([]discovery.Source{discovery.Static(c.endpoints)}, c.sources...)
	}
	if !c.useRegistry {
		return nil
	}
	r, err := registry.New(registry.Options{Addrs: c.registry, Token: c.token, TokenFile: c.tokenFile, Pin: c.pin, Service: c.name.Service,
		Namespace: c.name.Namespace, CacheDir: c.cacheDir, Logger: c.log})
	if err != nil {
		return err
	}
	m.closers = append(m.closers, r.Close)
	c.sources = append(c.sources, r)
	return nil
}
