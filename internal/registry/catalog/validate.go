package catalog

import "github.com/weftmesh/weft/discovery"

// Normalize gives the instance as it is stored, with the defaults filled in: namespace "default", weight 100,
// state up. Its error is a [*discovery.InvalidError]. REST and sessions use it to refuse an instance before it is
// queued.
func Normalize(in discovery.Instance) (discovery.Instance, error) {
	if in.Namespace == "" {
		in.Namespace = discovery.DefaultNamespace
	}
	if in.Weight == 0 {
		in.Weight = discovery.DefaultWeight
	}
	if in.State == "" {
		in.State = discovery.Up
	}
	in.Ready = nil
	if in.ID == "" {
		return in, discovery.Invalid("id", "", "want 1 to 128 printable ASCII characters without space")
	}
	return in, in.Validate()
}
