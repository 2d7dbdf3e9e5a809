package registry

import (
	"cmp"
	"slices"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
	"github.com/weftmesh/weft/discovery"
)

// merge returns the snapshot after the update. Neither argument is changed.
func merge(old discovery.Snapshot, u *weftv1.Update) discovery.Snapshot {
	next := discovery.Snapshot{
		Service:  old.Service,
		Revision: discovery.Revision{Epoch: u.GetEpoch(), Number: u.GetRevision()},
		Alias:    aliasOf(u),
	}
	next.Missing = u.GetMissing() && next.Alias == ""
	changed := fromWire(u.GetInstances())
	if whole := u.GetSnapshot() || u.GetMissing(); whole {
		next.Instances = changed
	} else {
		gone := map[string]bool{}
		for _, r := range u.GetRemovals() {
			gone[r.GetId()] = true
		}
		next.Instances = replace(old.Instances, changed, gone)
	}
	for _, r := range u.GetRemovals() {
		if _, back := find(changed, r.GetId()); !back {
			next.Removed = append(next.Removed, discovery.Removal{ID: r.GetId(), Reason: discovery.Reason(r.GetReason())})
		}
	}
	return next
}

// aliasOf gives the full name that the service is another name of; "" if it is none, or the name is no name.
func aliasOf(u *weftv1.Update) string {
	name, err := discovery.ParseName(u.GetAlias(), "")
	if err != nil {
		return ""
	}
	return name.String()
}

// replace returns the instances with those that changed and without those that are gone. All are sorted by ID.
func replace(old, changed []discovery.Instance, gone map[string]bool) []discovery.Instance {
	next := make([]discovery.Instance, 0, len(old)+len(changed))
	at := 0
	for i := range old {
		for at < len(changed) && changed[at].ID < old[i].ID {
			next = append(next, changed[at])
			at++
		}
		same := at < len(changed) && changed[at].ID == old[i].ID
		if !same && !gone[old[i].ID] {
			next = append(next, old[i])
		}
	}
	return append(next, changed[at:]...)
}

func byID(a, b discovery.Instance) int { return cmp.Compare(a.ID, b.ID) }

func find(sorted []discovery.Instance, id string) (int, bool) {
	return slices.BinarySearchFunc(sorted, id, func(in discovery.Instance, id string) int { return cmp.Compare(in.ID, id) })
}

// fromWire returns the instances sorted by ID; one that cannot be called or named is left out, and of several with an
// ID the last is taken.
func fromWire(wire []*weftv1.Instance) []discovery.Instance {
	seen := make(map[string]bool, len(wire))
	out := make([]discovery.Instance, 0, len(wire))
	for _, w := range slices.Backward(wire) {
		if w.GetId() == "" || w.GetAddress() == "" || seen[w.GetId()] {
			continue
		}
		seen[w.GetId()] = true
		out = append(out, discovery.Instance{
			ID: w.Id, Service: w.Service, Namespace: w.Namespace, Process: w.Process, Address: w.Address,
			Protocol: discovery.Protocol(w.Protocol), HTTP2: w.Http2, TLS: w.Tls, Labels: w.Labels,
			Weight: int(min(w.Weight, discovery.MaxWeight)), Locality: discovery.Locality{Region: w.Region, Zone: w.Zone},
			State: discovery.State(w.State),
		})
	}
	slices.SortFunc(out, byID)
	return out
}

func toWire(in discovery.Instance) *weftv1.Instance {
	return &weftv1.Instance{
		Id: in.ID, Service: in.Service, Namespace: in.Namespace, Process: in.Process, Address: in.Address,
		Protocol: string(in.Protocol), Http2: in.HTTP2, Tls: in.TLS, Labels: in.Labels, Weight: uint32(in.Weight),
		Region: in.Locality.Region, Zone: in.Locality.Zone, State: string(in.State),
	}
}
