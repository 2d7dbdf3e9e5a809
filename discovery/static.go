package discovery

import (
	"cmp"
	"context"
	"maps"
	"slices"
)

// Static is a [Source] of fixed instances by service. A key is "product.shop", or "product" for the default
// namespace; instances without an ID, service or namespace get theirs from the address, the protocol and the key.
// Each Watch delivers one snapshot and then waits for its ctx to end; a service without a key is Missing.
// The map is copied. A key that is no service name makes every Watch fail.
func Static(services map[string][]Instance) Source {
	known := make(map[string][]Instance, len(services))
	for _, key := range slices.Sorted(maps.Keys(services)) {
		name, err := ParseName(key, DefaultNamespace)
		if err != nil {
			return failing(err)
		}
		full := name.String()
		known[full] = append(known[full], named(services[key], name)...)
		sortByID(known[full])
	}
	return SourceFunc(func(ctx context.Context, service string, apply func(Snapshot)) error {
		instances, ok := known[service]
		apply(Snapshot{Service: service, Instances: slices.Clone(instances), Missing: !ok})
		<-ctx.Done()
		return ctx.Err()
	})
}

func failing(err error) Source {
	return SourceFunc(func(context.Context, string, func(Snapshot)) error { return err })
}

// named returns copies of the instances that say what they are.
func named(instances []Instance, name Name) []Instance {
	out := slices.Clone(instances)
	for i := range out {
		in := &out[i]
		in.ID = cmp.Or(in.ID, in.Address+"/"+string(in.Protocol))
		in.Service = cmp.Or(in.Service, name.Service)
		in.Namespace = cmp.Or(in.Namespace, name.Namespace)
		in.Labels = maps.Clone(in.Labels)
	}
	return out
}

func sortByID(instances []Instance) {
	slices.SortStableFunc(instances, func(a, b Instance) int { return cmp.Compare(a.ID, b.ID) })
}
