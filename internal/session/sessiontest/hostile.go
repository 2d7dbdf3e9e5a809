package sessiontest

import (
	"fmt"
	"iter"
	"math"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
)

// Hostile gives copies of a message with one field after the other blank or extreme, in the message itself and in all
// that is in it, and the name of what was changed. Fields that the message has not set are covered too.
func Hostile[M proto.Message](base M) iter.Seq2[string, M] {
	return func(yield func(string, M) bool) {
		for n := 0; ; n++ { // the nth change of a fresh copy
			w := &walk{left: n}
			m := proto.Clone(base).(M)
			if !w.message(m.ProtoReflect(), "") {
				return
			}
			if !yield(w.what, m) {
				return
			}
		}
	}
}

// walk makes one change.
type walk struct {
	left int
	what string
}

// texts are blank and extreme, within what protobuf takes.
var texts = []string{"", " ", "\x00", "*", ".", "a.b.c", "-", "%2e%2e/", "\u65e5\u672c", strings.Repeat("x", 300), strings.Repeat("x.", 1<<14), "{}", "[[[[", `{"kind":"Nope"}`}

func (w *walk) message(m protoreflect.Message, path string) bool {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		at := path + "." + string(fd.Name())
		if fd.ContainingOneof() != nil && !m.Has(fd) {
			continue // another message: the caller has it in its list
		}
		if w.field(m, fd, at) {
			return true
		}
	}
	return false
}

func (w *walk) field(m protoreflect.Message, fd protoreflect.FieldDescriptor, at string) bool {
	switch {
	case fd.IsMap():
		return w.mapField(m, fd, at)
	case fd.IsList():
		return w.list(m, fd, at)
	case fd.Message() != nil:
		if m.Has(fd) && w.message(m.Mutable(fd).Message(), at) {
			return true
		}
		return w.take(at+" blank", func() { m.Set(fd, m.NewField(fd)) }) || w.take(at+" none", func() { m.Clear(fd) })
	}
	for _, v := range extremes(fd) {
		if w.take(fmt.Sprintf("%s = %.40q", at, fmt.Sprint(v.Interface())), func() { m.Set(fd, v) }) {
			return true
		}
	}
	return false
}

func (w *walk) mapField(m protoreflect.Message, fd protoreflect.FieldDescriptor, at string) bool {
	for _, text := range texts {
		if w.take(fmt.Sprintf("%s has %.40q", at, text), func() {
			m.Mutable(fd).Map().Set(protoreflect.ValueOfString(text).MapKey(), protoreflect.ValueOfString(text))
		}) {
			return true
		}
	}
	return w.take(at+" has 10000", func() {
		for i := range 10_000 {
			m.Mutable(fd).Map().Set(protoreflect.ValueOfString(fmt.Sprint(i)).MapKey(), protoreflect.ValueOfString("v"))
		}
	})
}

func (w *walk) list(m protoreflect.Message, fd protoreflect.FieldDescriptor, at string) bool {
	values := extremes(fd)
	if fd.Message() != nil {
		for i := range m.Get(fd).List().Len() {
			if w.message(m.Mutable(fd).List().Get(i).Message(), fmt.Sprintf("%s[%d]", at, i)) {
				return true
			}
		}
		values = []protoreflect.Value{m.NewField(fd).List().NewElement()}
	}
	for _, v := range values {
		if w.take(fmt.Sprintf("%s has %.40q", at, fmt.Sprint(v.Interface())), func() { m.Mutable(fd).List().Append(v) }) ||
			w.take(fmt.Sprintf("%s has 3000 × %.40q", at, fmt.Sprint(v.Interface())), func() {
				if size := sizeOf(v); size < 1000 { // all of it has to fit into a message
					for range 3000 / (1 + size/16) {
						m.Mutable(fd).List().Append(v)
					}
				}
			}) {
			return true
		}
	}
	return w.take(at+" none", func() { m.Clear(fd) })
}

func sizeOf(v protoreflect.Value) int {
	switch x := v.Interface().(type) {
	case string:
		return len(x)
	case []byte:
		return len(x)
	}
	return 0
}

// take makes the change if it is its turn.
func (w *walk) take(what string, change func()) bool {
	if w.left > 0 {
		w.left--
		return false
	}
	w.what = what
	change()
	return true
}

func extremes(fd protoreflect.FieldDescriptor) (out []protoreflect.Value) {
	switch fd.Kind() {
	case protoreflect.StringKind:
		for _, s := range texts {
			out = append(out, protoreflect.ValueOfString(s))
		}
	case protoreflect.BytesKind:
		for _, s := range append(texts, "\xff\xfe") {
			out = append(out, protoreflect.ValueOfBytes([]byte(s)))
		}
	case protoreflect.BoolKind:
		out = []protoreflect.Value{protoreflect.ValueOfBool(true), protoreflect.ValueOfBool(false)}
	case protoreflect.Uint32Kind:
		out = []protoreflect.Value{protoreflect.ValueOfUint32(0), protoreflect.ValueOfUint32(math.MaxUint32)}
	case protoreflect.Uint64Kind:
		out = []protoreflect.Value{protoreflect.ValueOfUint64(0), protoreflect.ValueOfUint64(1), protoreflect.ValueOfUint64(math.MaxUint64)}
	case protoreflect.Int64Kind:
		for _, n := range []int64{0, 1, -1, math.MaxInt64, math.MinInt64} {
			out = append(out, protoreflect.ValueOfInt64(n))
		}
	default:
		if fd.Message() == nil {
			panic("a field of kind " + fd.Kind().String() + ": say here what is extreme")
		}
	}
	return out
}

// Requests are the messages of a client as they should be, one of each.
func Requests(process string) []*weftv1.ConnectRequest {
	in := Instance("own", process)
	return each[*weftv1.ConnectRequest](&weftv1.ConnectRequest{},
		&weftv1.Hello{Process: process, Service: "product", Namespace: "shop", SdkVersion: "1"},
		&weftv1.Subscribe{Interests: []*weftv1.Interest{{Service: "product.shop"}}},
		&weftv1.Unsubscribe{Services: []string{"product.shop"}},
		&weftv1.Register{Seq: 1, Instances: []*weftv1.Instance{in}},
		&weftv1.Deregister{Seq: 2, Ids: []string{"own"}},
		&weftv1.Renew{},
		&weftv1.Ack{Service: "product.shop", Epoch: 1, Revision: 1, Nacks: []*weftv1.Nack{{Kind: "Route", Namespace: "shop", Name: "r", Revision: "1-1", Reason: "why"}}},
		&weftv1.Settle{Seq: 3, Services: []string{"product.shop"}, TimeoutMs: 1000},
	)
}

// Responses are the messages of a server, one of each; the update is the given one.
func Responses(update *weftv1.Update) []*weftv1.ConnectResponse {
	return each[*weftv1.ConnectResponse](&weftv1.ConnectResponse{},
		&weftv1.Welcome{Epoch: 1, RenewEveryMs: 1000, ServerVersion: "1"},
		update,
		&weftv1.Result{Seq: 1, Refusals: []*weftv1.Refusal{{Id: "own", Code: "unavailable", Message: "later"}}},
		&weftv1.Settled{Seq: 1, Live: 1, Acked: 1},
		&weftv1.Hurry{},
	)
}

// Instance is an instance of product.shop.
func Instance(id, process string) *weftv1.Instance {
	return &weftv1.Instance{
		Id: id, Service: "product", Namespace: "shop", Process: process, Address: "10.0.0.1:80", Protocol: "http",
		Labels: map[string]string{"version": "v1"}, Weight: 100, Region: "eu", Zone: "a", State: "up",
	}
}

// each puts messages into the envelope's field of their type. It panics unless every field has one: a new kind of message
// must not be forgotten here.
func each[E proto.Message](envelope E, messages ...proto.Message) (out []E) {
	fields := envelope.ProtoReflect().Descriptor().Fields()
	if fields.Len() != len(messages) {
		panic(fmt.Sprintf("%d kinds of message, %d examples", fields.Len(), len(messages)))
	}
	for i := range fields.Len() {
		e := proto.Clone(envelope).(E)
		for _, m := range messages {
			if m.ProtoReflect().Descriptor() == fields.Get(i).Message() {
				e.ProtoReflect().Set(fields.Get(i), protoreflect.ValueOfMessage(m.ProtoReflect()))
				out = append(out, e)
			}
		}
	}
	if len(out) != len(messages) {
		panic("an example is of no kind of message")
	}
	return out
}
