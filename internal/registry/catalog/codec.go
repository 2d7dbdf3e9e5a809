package catalog

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/rule"
)

// The keys of the store. An instance has the number that it was given when it first came, so that new ones, whatever
// their names, go to the end of the file. An id, an alias and a rule's name come last, so they may hold a slash.
const (
	ceilingKey     = "ceiling"
	instancePrefix = "i/" // 8 bytes: number
	orderPrefix    = "o/" // namespace/service/id
	aliasPrefix    = "n/" // namespace/name
	rulePrefix     = "r/" // namespace/kind/name
	historyPrefix  = "h/" // namespace/kind/name/revision
)

func instanceKey(number uint64) string {
	return string(binary.BigEndian.AppendUint64([]byte(instancePrefix), number))
}

func orderKey(k InstanceKey) string {
	return orderPrefix + k.Service.Namespace + "/" + k.Service.Service + "/" + k.ID
}

func aliasKey(name discovery.Name) string { return aliasPrefix + name.Namespace + "/" + name.Service }

func ruleKey(k rule.Key) string {
	return rulePrefix + k.Namespace + "/" + string(k.Kind) + "/" + k.Name
}

// The fields of a stored instance: those of weft.v1.Instance, and from 100 those of the store alone. The name comes
// first and the shape last, so that each can be looked up as it stands.
const (
	fieldID        = 1
	fieldService   = 2
	fieldNamespace = 3
	fieldProcess   = 4
	fieldAddress   = 5
	fieldProtocol  = 6
	fieldHTTP2     = 7
	fieldTLS       = 8
	fieldLabels    = 9
	fieldWeight    = 10
	fieldRegion    = 11
	fieldZone      = 12
	fieldState     = 13
	fieldTTL       = 100
	fieldOwned     = 101
	fieldCheck     = 102
)

// isShape reports whether a field belongs to the shape.
func isShape(number uint64) bool {
	return number >= fieldProtocol && number <= fieldZone && number != fieldWeight
}

// encodeInstance gives the value of an instance: what its process says.
func encodeInstance(name discovery.Name, in *instance) ([]byte, error) {
	s := in.said()
	b := appendText(make([]byte, 0, 256), fieldService, name.Service)
	b = appendText(b, fieldNamespace, name.Namespace)
	b = appendText(b, fieldID, in.id())
	b = appendText(b, fieldAddress, in.address())
	b = appendText(b, fieldProcess, in.process())
	b = appendNumber(b, fieldWeight, uint64(s.weight))
	if s.state != up {
		b = appendText(b, fieldState, string(s.state.public()))
	}
	b = appendNumber(b, fieldTTL, uint64(in.ttl))
	b = appendFlag(b, fieldOwned, in.owned)
	if check := in.check(); check != nil {
		text, err := json.Marshal(check)
		if err != nil {
			return nil, err
		}
		b = protowire.AppendBytes(protowire.AppendTag(b, fieldCheck, protowire.BytesType), text)
	}
	return append(b, s.shape.Value()...), nil
}

// stored is an instance as it is read, in parts of its value.
type stored struct {
	name               []byte // both fields
	service, namespace []byte
	id, address        []byte
	process, state     []byte
	check, shape       []byte
	weight, ttl        uint64
	owned              bool
}

var errField = errors.New("a field of a stored instance cannot be read")

// splitInstance takes a value apart and copies nothing.
func splitInstance(value []byte) (s stored, err error) {
	rest := value
	for len(rest) > 0 {
		before := rest
		f, ok := nextField(&rest)
		switch {
		case !ok:
			return s, errField
		case isShape(f.number):
			s.shape = before
			return s, s.validate()
		case !s.set(f):
			return s, fmt.Errorf("field %d: %w", f.number, errField)
		}
		if f.number == fieldService || f.number == fieldNamespace {
			s.name = value[:len(value)-len(rest)]
		}
	}
	return s, s.validate()
}

func (s *stored) set(f field[[]byte]) bool {
	switch f.number {
	case fieldService:
		s.service = f.text
	case fieldNamespace:
		s.namespace = f.text
	case fieldID:
		s.id = f.text
	case fieldAddress:
		s.address = f.text
	case fieldProcess:
		s.process = f.text
	case fieldWeight:
		s.weight = f.value
	case fieldState:
		s.state = f.text
	case fieldTTL:
		s.ttl = f.value
	case fieldOwned:
		s.owned = f.value != 0
	case fieldCheck:
		s.check = f.text
	default:
		return false
	}
	return true
}

// validate checks what the memory of an instance relies on.
func (s *stored) validate() error {
	switch {
	case len(s.service) == 0 || len(s.namespace) == 0 || len(s.id) == 0 || len(s.shape) == 0:
		return errors.New("an instance without service, namespace, id or protocol")
	case len(s.id) > discovery.MaxID || len(s.process) > discovery.MaxID || len(s.address) > discovery.MaxAddress:
		return fmt.Errorf("an id of %d, a process of %d and an address of %d bytes, want at most 128, 128 and 259",
			len(s.id), len(s.process), len(s.address))
	case s.weight > discovery.MaxWeight || s.ttl > maxTTL:
		return fmt.Errorf("a weight of %d and a ttl of %d ms, want at most 10000 and %d", s.weight, s.ttl, maxTTL)
	}
	return nil
}

// instance makes an instance of the parts, but for its shape.
func (s *stored) instance() (*instance, error) {
	written := up
	if len(s.state) > 0 {
		var ok bool
		if written, ok = stateOf(discovery.State(s.state)); !ok {
			return nil, fmt.Errorf("state %q: %w", s.state, errField)
		}
	}
	in := &instance{
		text:       string(slices.Concat(s.id, s.address, s.process)),
		ttl:        uint32(s.ttl),
		weight:     uint16(s.weight),
		endID:      uint8(len(s.id)),
		endAddress: uint16(len(s.id) + len(s.address)),
		written:    written,
		owned:      s.owned,
	}
	if len(s.check) > 0 {
		in.extra = &extra{check: new(Check)}
		if err := json.Unmarshal(s.check, in.extra.check); err != nil {
			return nil, err
		}
	}
	return in, nil
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
