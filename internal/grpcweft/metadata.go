package grpcweft

import (
	"context"
	"maps"
	"slices"
	"strings"

	"google.golang.org/grpc/metadata"

	"github.com/weftmesh/weft/internal/engine"
)

// carrier lets the engine and its tracer read and write metadata. Keys are in lower case.
type carrier metadata.MD

// Get implements telemetry.Carrier.
func (c carrier) Get(key string) string {
	if v := c[strings.ToLower(key)]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// Set implements telemetry.Carrier. It replaces what the application set itself.
func (c carrier) Set(key, value string) { c[strings.ToLower(key)] = []string{value} }

// Keys implements telemetry.Carrier.
func (c carrier) Keys() []string { return slices.Collect(maps.Keys(c)) }

// trailer is the trailer as the engine's classifier reads it.
type trailer metadata.MD

// Values implements engine.Header.
func (t trailer) Values(name string) []string { return t[name] }

// incoming returns the metadata of an inbound call, which must not be changed. Package metadata has only functions
// that copy all of it, once for each call; it looks the metadata up in the context, though, and can be watched there.
func incoming(ctx context.Context) metadata.MD {
	w := &watched{Context: ctx}
	metadata.ValueFromIncomingContext(w, "")
	if w.md == nil {
		w.md, _ = metadata.FromIncomingContext(ctx)
	}
	return w.md
}

type watched struct {
	context.Context
	md metadata.MD
}

func (w *watched) Value(key any) any {
	v := w.Context.Value(key)
	if md, ok := v.(metadata.MD); ok {
		w.md = md
	}
	return v
}

func isWord(key string, _ []string) bool { return strings.HasPrefix(key, engine.WirePrefix) }

// forwardsWords reports whether the application's outgoing metadata has a word that callees act upon.
func forwardsWords(ctx context.Context) bool {
	return len(metadata.ValueFromOutgoingContext(ctx, engine.HeaderAttempt[engine.GRPC])) > 0 ||
		len(metadata.ValueFromOutgoingContext(ctx, engine.HeaderCriticality[engine.GRPC])) > 0
}

// withoutWords returns ctx with md less the wire words as its incoming metadata; ctx itself if there are none.
func withoutWords(ctx context.Context, md metadata.MD) context.Context {
	for key := range md {
		if isWord(key, nil) {
			clean := maps.Clone(md)
			maps.DeleteFunc(clean, isWord)
			return metadata.NewIncomingContext(ctx, clean)
		}
	}
	return ctx
}
