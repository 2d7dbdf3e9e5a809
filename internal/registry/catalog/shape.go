package catalog

import (
	"errors"
	"maps"
	"slices"
	"unique"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/weftmesh/weft/discovery"
)

// shape is what many instances have in common: labels, locality, protocol. It is kept once, as it is stored, and equal
// ones are the same.
type shape struct{ unique.Handle[string] }

// attributes are a shape in the clear.
type attributes struct {
	protocol discovery.Protocol
	http2    bool
	tls      bool
	labels   map[string]string
	locality discovery.Locality
}

func newShape(in discovery.Instance) shape {
	return attributes{in.Protocol, in.HTTP2, in.TLS, in.Labels, in.Locality}.shape()
}

func (a attributes) shape() shape {
	b := appendText(make([]byte, 0, 256), fieldProtocol, string(a.protocol))
	b = appendFlag(b, fieldHTTP2, a.http2)
	b = appendFlag(b, fieldTLS, a.tls)
	for _, name := range slices.Sorted(maps.Keys(a.labels)) {
		value := a.labels[name]
		b = protowire.AppendTag(b, fieldLabels, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(sizeText(1, name)+sizeText(2, value)))
		b = appendText(appendText(b, 1, name), 2, value)
	}
	b = appendText(b, fieldRegion, a.locality.Region)
	return shape{unique.Make(string(appendText(b, fieldZone, a.locality.Zone)))}
}

// attributes reads a shape that was checked before. The labels are the caller's.
func (s shape) attributes() attributes {
	a, _ := parseShape(s.Value())
	return a
}

// withLabels gives the shape with other labels.
func (s shape) withLabels(labels map[string]string) shape {
	a := s.attributes()
	a.labels = labels
	return a.shape()
}

var errShape = errors.New("want protocol, labels and locality at the end of an instance")

func parseShape(wire string) (a attributes, err error) {
	for rest := wire; rest != ""; {
		f, ok := nextField(&rest)
		if !ok {
			return a, errShape
		}
		switch f.number {
		case fieldProtocol:
			a.protocol = discovery.Protocol(f.text)
		case fieldHTTP2:
			a.http2 = f.value != 0
		case fieldTLS:
			a.tls = f.value != 0
		case fieldLabels:
			if !a.addLabel(f.text) {
				return a, errShape
			}
		case fieldRegion:
			a.locality.Region = f.text
		case fieldZone:
			a.locality.Zone = f.text
		default:
			return a, errShape
		}
	}
	if a.protocol == "" {
		return a, errShape
	}
	return a, nil
}

func (a *attributes) addLabel(entry string) bool {
	var name, value string
	for entry != "" {
		f, ok := nextField(&entry)
		switch {
		case ok && f.number == 1:
			name = f.text
		case ok && f.number == 2:
			value = f.text
		default:
			return false
		}
	}
	if a.labels == nil {
		a.labels = make(map[string]string)
	}
	a.labels[name] = value
	return true
}

// field is one field of a protobuf message: a number or a text.
type field[T ~string | ~[]byte] struct {
	number uint64
	value  uint64
	text   T
}

// nextField takes a field off a message, of which it reads varints and texts only. It copies nothing.
func nextField[T ~string | ~[]byte](b *T) (f field[T], ok bool) {
	tag, ok := uvarint(b)
	f.number = tag >> 3
	if !ok || f.number == 0 {
		return f, false
	}
	if f.value, ok = uvarint(b); !ok {
		return f, false
	}
	switch protowire.Type(tag & 7) {
	case protowire.VarintType:
		return f, true
	case protowire.BytesType:
		if f.value > uint64(len(*b)) {
			return f, false
		}
		f.text, *b = (*b)[:f.value], (*b)[f.value:]
		return f, true
	}
	return f, false
}

func uvarint[T ~string | ~[]byte](b *T) (v uint64, ok bool) {
	for i := 0; i < len(*b) && i < 10; i++ {
		c := (*b)[i]
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			*b = (*b)[i+1:]
			return v, true
		}
	}
	return 0, false
}

// appendText leaves an empty text out.
func appendText(b []byte, number protowire.Number, text string) []byte {
	if text == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, number, protowire.BytesType), text)
}

func sizeText(number protowire.Number, text string) int {
	if text == "" {
		return 0
	}
	return protowire.SizeTag(number) + protowire.SizeBytes(len(text))
}

func appendNumber(b []byte, number protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, number, protowire.VarintType), v)
}

func appendFlag(b []byte, number protowire.Number, v bool) []byte {
	return appendNumber(b, number, protowire.EncodeBool(v))
}
