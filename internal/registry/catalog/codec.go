package catalog

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/store"
	"github.com/weftmesh/weft/rule"
)

// The keys of the store. An instance's id and a rule's name come last, so they may hold a slash.
const (
	ceilingKey     = "ceiling"
	instancePrefix = "i/"
	rulePrefix     = "r/"
	historyPrefix  = "h/"
)

func instanceKey(name discovery.Name, id string) string {
	return instancePrefix + name.Namespace + "/" + name.Service + "/" + id
}

func ruleKey(k rule.Key) string {
	return rulePrefix + k.Namespace + "/" + string(k.Kind) + "/" + k.Name
}

// instanceHeader is the length of what precedes an instance in its value: revision and ttl.
const instanceHeader = 8 + 4

// encodeInstance gives the value of an instance, with its revision still zero.
func encodeInstance(in discovery.Instance, ttl uint32) ([]byte, error) {
	b := binary.BigEndian.AppendUint32(make([]byte, 8, 256), ttl)
	return proto.MarshalOptions{Deterministic: true}.MarshalAppend(b, ToWire(in))
}

func setRevision(value []byte, revision uint64) { binary.BigEndian.PutUint64(value, revision) }

func decodeInstance(value []byte) (*instance, error) {
	if len(value) < instanceHeader {
		return nil, fmt.Errorf("%d bytes, want at least %d", len(value), instanceHeader)
	}
	var m weftv1.Instance
	if err := proto.Unmarshal(value[instanceHeader:], &m); err != nil {
		return nil, err
	}
	in := FromWire(&m)
	return &instance{
		Instance: in,
		written:  in.State,
		health:   discovery.Up,
		ttl:      binary.BigEndian.Uint32(value[8:]),
		revision: binary.BigEndian.Uint64(value),
	}, nil
}

// ToWire gives an instance as sessions send it.
func ToWire(in discovery.Instance) *weftv1.Instance {
	return &weftv1.Instance{
		Id:        in.ID,
		Service:   in.Service,
		Namespace: in.Namespace,
		Process:   in.Process,
		Address:   in.Address,
		Protocol:  string(in.Protocol),
		Http2:     in.HTTP2,
		Tls:       in.TLS,
		Labels:    in.Labels,
		Weight:    uint32(in.Weight),
		Region:    in.Locality.Region,
		Zone:      in.Locality.Zone,
		State:     string(in.State),
	}
}

// FromWire reads an instance as sessions send it. It checks nothing.
func FromWire(m *weftv1.Instance) discovery.Instance {
	return discovery.Instance{
		ID:        m.GetId(),
		Service:   m.GetService(),
		Namespace: m.GetNamespace(),
		Process:   m.GetProcess(),
		Address:   m.GetAddress(),
		Protocol:  discovery.Protocol(m.GetProtocol()),
		HTTP2:     m.GetHttp2(),
		TLS:       m.GetTls(),
		Labels:    m.GetLabels(),
		Weight:    int(m.GetWeight()),
		Locality:  discovery.Locality{Region: m.GetRegion(), Zone: m.GetZone()},
		State:     discovery.State(m.GetState()),
	}
}

// newDocument makes the stored form of a rule. It reads back what it wrote, so that the document is what a
// restart would find and shares nothing with the caller.
func newDocument(r rule.Rule, at discovery.Revision, by string, now time.Time) (*document, error) {
	r.Revision, r.UpdatedBy, r.UpdatedAt = at.String(), by, now.UTC().Truncate(time.Millisecond)
	text, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	return decodeRule(text)
}

func decodeRule(text []byte) (*document, error) {
	r, err := rule.ParseOne(text)
	if err != nil {
		return nil, err
	}
	revision, err := discovery.ParseRevision(r.Revision)
	if err != nil {
		return nil, err
	}
	plain, err := bare(r)
	if err != nil {
		return nil, err
	}
	r.Namespace = r.Key().Namespace
	return &document{
		rule:     r,
		key:      r.Key(),
		service:  discovery.Name{Service: r.Service, Namespace: r.Namespace},
		json:     slices.Clone(text),
		bare:     plain,
		revision: revision.Number,
	}, nil
}

// bare gives a rule without what the server manages, by which two versions are compared.
func bare(r rule.Rule) ([]byte, error) {
	r.Revision, r.UpdatedBy, r.UpdatedAt = "", "", time.Time{}
	return json.Marshal(r)
}

// load reads the store. Nobody else uses the catalog yet.
func (c *Catalog) load() error {
	d := newDraft(c)
	for prefix, room := range map[string]func(store.Entry) error{
		ceilingKey: d.loadCeiling, instancePrefix: d.loadInstance, rulePrefix: d.loadRule, historyPrefix: c.history.load,
	} {
		err := c.st.Range(prefix, func(e store.Entry) error {
			if err := room(e); err != nil {
				return fmt.Errorf("the stored value of %q cannot be read: %w (%w)", e.Key, store.ErrCorrupt, err)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	// What was deleted before the start, and what was only in memory, is not known: whoever knows an older
	// revision gets a snapshot.
	c.revision = d.ceiling + 1
	c.forgot, c.ceiling = c.revision, c.revision
	for name, s := range d.services {
		s.revision, s.ruled, s.floor = c.revision, c.revision, c.revision
		c.services[name] = s
	}
	c.rules = d.rules
	return nil
}

func (d *draft) loadCeiling(e store.Entry) error {
	if e.Key != ceilingKey || len(e.Value) != 8 {
		return fmt.Errorf("%d bytes, want 8", len(e.Value))
	}
	d.ceiling = binary.BigEndian.Uint64(e.Value)
	return nil
}

func (d *draft) loadInstance(e store.Entry) error {
	in, err := decodeInstance(e.Value)
	if err != nil {
		return err
	}
	d.edit(nameOf(in.Instance)).put(in)
	return nil
}

func (d *draft) loadRule(e store.Entry) error {
	doc, err := decodeRule(e.Value)
	if err != nil {
		return err
	}
	if at := d.c.at(doc.revision); doc.rule.Revision != at.String() { // it was restored from a backup: see Epoch
		if doc, err = newDocument(doc.rule, at, doc.rule.UpdatedBy, doc.rule.UpdatedAt); err != nil {
			return err
		}
	}
	d.rules[doc.key] = doc
	d.edit(doc.service).putRule(doc)
	return nil
}

func nameOf(in discovery.Instance) discovery.Name {
	return discovery.Name{Service: in.Service, Namespace: in.Namespace}
}
