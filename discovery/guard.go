package discovery

import (
	"cmp"
	"maps"
	"slices"
)

// View is what a caller should believe of a service.
type View struct {
	Snapshot
	// Kept are instances that vanished without a reason when more than half did. They are a last resort, to be
	// called only when nothing in Instances can be. Sorted by ID.
	Kept []Instance
}

// Guard protects a caller from what a source says by mistake, as a registry with lost data would:
//
//   - An empty snapshot does not empty the pool: instances that leave by it without a reason stay.
//   - When more than half of the instances leave at once without a reason, they are Kept as a last resort, until
//     they come back, or leave with a reason, or a later snapshot lists as many instances as there were before.
//
// Each protocol's instances are judged by themselves, as calls see only those of their protocol. A removal that
// states its reason is always honoured. Use one Guard a service. The zero Guard is ready; it is not safe for
// concurrent use.
type Guard struct {
	instances []Instance       // believed, sorted by ID
	kept      []Instance       // sorted by ID
	before    map[Protocol]int // how many instances there were before the loss that kept come from
}

// tally counts the instances of one protocol.
type tally struct {
	had  int // believed before
	has  int // in the snapshot
	lost int // gone without a reason
}

// most reports whether more than half vanished, but not all.
func (t *tally) most() bool { return t.has > 0 && 2*t.lost > t.had }

// Apply returns what to believe after the snapshot, given what was believed before. Without a loss, and that is
// nearly always, it copies nothing.
func (g *Guard) Apply(s Snapshot) View {
	s.Instances = sorted(s.Instances)
	gone := reasons(s.Removed)
	lost := missing(g.instances, s.Instances, gone)
	kept := missing(g.kept, s.Instances, gone)
	if len(lost)+len(kept) > 0 {
		counts := count(g.instances, s.Instances, lost)
		stays := only(lost, func(in Instance) bool { return counts(in).has == 0 })
		kept = g.keep(lost, kept, counts)
		if len(stays) > 0 {
			s.Instances = slices.Concat(s.Instances, stays)
			sortByID(s.Instances)
		}
	}
	if len(kept) == 0 {
		kept, g.before = nil, nil
	}
	s.Missing = s.Missing && len(s.Instances)+len(kept) == 0
	g.instances, g.kept = s.Instances, kept
	return View{Snapshot: s, Kept: kept}
}

// keep returns the last resort: what most vanished with now, and what is kept already while that many are missing.
// The newest come first, and no more than there were before the loss: a source whose IDs change all the time must
// not pile them up.
func (g *Guard) keep(lost, kept []Instance, counts func(Instance) *tally) (next []Instance) {
	if g.before == nil {
		g.before = map[Protocol]int{}
	}
	places := map[Protocol]int{}
	for _, in := range lost {
		if t := counts(in); t.most() {
			g.before[in.Protocol] = max(g.before[in.Protocol], t.had)
			next = append(next, in)
			places[in.Protocol]++
		}
	}
	for _, in := range kept {
		t, before := counts(in), g.before[in.Protocol]
		if (t.most() || t.has < before) && places[in.Protocol] < before {
			next = append(next, in)
			places[in.Protocol]++
		}
	}
	maps.DeleteFunc(g.before, func(p Protocol, _ int) bool { return places[p] == 0 })
	sortByID(next)
	return next
}

// count returns the tally of each instance's protocol.
func count(had, has, lost []Instance) func(Instance) *tally {
	tallies := map[Protocol]*tally{}
	of := func(in Instance) *tally {
		t := tallies[in.Protocol]
		if t == nil {
			t = &tally{}
			tallies[in.Protocol] = t
		}
		return t
	}
	for i := range had {
		of(had[i]).had++
	}
	for i := range has {
		of(has[i]).has++
	}
	for i := range lost {
		of(lost[i]).lost++
	}
	return of
}

// missing returns the old instances that are not among the new and left without a reason. Both are sorted.
func missing(old, now []Instance, gone map[string]bool) (out []Instance) {
	at := 0
	for i := range old {
		for at < len(now) && now[at].ID < old[i].ID {
			at++
		}
		if (at == len(now) || now[at].ID != old[i].ID) && !gone[old[i].ID] {
			out = append(out, old[i])
		}
	}
	return out
}

func only(instances []Instance, keep func(Instance) bool) (out []Instance) {
	for _, in := range instances {
		if keep(in) {
			out = append(out, in)
		}
	}
	return out
}

func reasons(removed []Removal) map[string]bool {
	gone := make(map[string]bool, len(removed))
	for _, r := range removed {
		gone[r.ID] = r.Reason != ""
	}
	return gone
}

// sorted returns the instances sorted by ID: themselves when they are, as those of a Snapshot should be.
func sorted(instances []Instance) []Instance {
	if slices.IsSortedFunc(instances, func(a, b Instance) int { return cmp.Compare(a.ID, b.ID) }) {
		return instances
	}
	instances = slices.Clone(instances)
	sortByID(instances)
	return instances
}
