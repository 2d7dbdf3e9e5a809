package discovery

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// instances makes gRPC instances of these IDs.
func instances(ids ...string) []Instance {
	out := make([]Instance, 0, len(ids))
	for _, id := range ids {
		out = append(out, Instance{ID: id, Service: "product", Namespace: "shop", Address: id + ":80", Protocol: GRPC})
	}
	return out
}

func ids(instances []Instance) []string {
	var out []string
	for _, in := range instances {
		out = append(out, in.ID)
	}
	return out
}

func removed(ids ...string) []Removal {
	var out []Removal
	for _, id := range ids {
		out = append(out, Removal{ID: id, Reason: Expired})
	}
	return out
}
