package grpcweft

import (
	"maps"
	"strings"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// maxMethods bounds how many methods are remembered. Beyond, as in a proxy that takes any name, each call asks the
// registry of descriptors anew.
const maxMethods = 4096

// methods remembers what protobuf says about methods. Readers take no lock.
type methods struct {
	known atomic.Pointer[map[string]bool]
	mu    sync.Mutex // one writer at a time
}

// idempotent reports whether idempotency_level says that a method may be called twice. A method whose descriptor
// is not linked may not.
func (m *methods) idempotent(full string) bool {
	if known := m.known.Load(); known != nil {
		if is, ok := (*known)[full]; ok {
			return is
		}
	}
	is := describedIdempotent(full)
	m.remember(full, is)
	return is
}

func (m *methods) remember(full string, is bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := map[string]bool{}
	if known := m.known.Load(); known != nil {
		if len(*known) >= maxMethods {
			return
		}
		next = maps.Clone(*known)
	}
	next[strings.Clone(full)] = is
	m.known.Store(&next)
}

func describedIdempotent(full string) bool {
	name := protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(full, "/"), "/", "."))
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
	if err != nil {
		return false
	}
	opts, _ := d.Options().(*descriptorpb.MethodOptions)
	switch opts.GetIdempotencyLevel() {
	case descriptorpb.MethodOptions_IDEMPOTENT, descriptorpb.MethodOptions_NO_SIDE_EFFECTS:
		return true
	}
	return false
}
