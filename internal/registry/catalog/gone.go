package catalog

import (
	"encoding/binary"
	"iter"
	"slices"

	"github.com/weftmesh/weft/discovery"
)

// The removals of a service that are remembered are as many as it had instances, within these bounds: with more of them,
// the instances themselves are less to tell.
const (
	minGone = 64
	maxGone = 1024
)

// tombstones remember the latest removals of a service: for each its revision, its reason, and the id with its length, in
// one piece of memory. It is only appended to, beyond what readers of an earlier version see, or replaced.
type tombstones struct {
	packed []byte
	size   int
}

// tombstone is one removal.
type tombstone struct {
	id       string
	reason   discovery.Reason
	revision uint64
}

var reasons = [...]discovery.Reason{discovery.Deregistered, discovery.Expired, discovery.Deleted}

const tombstoneHead = 8 + 1 + 1

func (g *tombstones) add(id string, reason discovery.Reason, revision uint64) {
	g.packed = binary.BigEndian.AppendUint64(g.packed, revision)
	g.packed = append(g.packed, byte(max(slices.Index(reasons[:], reason), 0)), byte(len(id)))
	g.packed = append(g.packed, id...)
	g.size++
}

// since gives the removals after a revision, the oldest first.
func (g *tombstones) since(revision uint64) iter.Seq[tombstone] {
	return func(yield func(tombstone) bool) {
		for rest := g.packed; len(rest) > 0; {
			at, end := binary.BigEndian.Uint64(rest), tombstoneHead+int(rest[9])
			if at > revision && !yield(tombstone{string(rest[tombstoneHead:end]), reasons[rest[8]], at}) {
				return
			}
			rest = rest[end:]
		}
	}
}

// drop forgets the oldest n, and gives the revision of the last one of them.
func (g *tombstones) drop(n int) (revision uint64) {
	rest := g.packed
	for range n {
		revision = binary.BigEndian.Uint64(rest)
		rest = rest[tombstoneHead+int(rest[9]):]
	}
	g.packed, g.size = slices.Clone(rest), g.size-n
	return revision
}
