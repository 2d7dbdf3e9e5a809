package session

import (
	"sync"
	"sync/atomic"
	"weak"

	"google.golang.org/protobuf/proto"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/catalog"
)

// pieceSize is what a message of an update should not exceed much.
const pieceSize = 32 << 10

// maxRecent bounds the updates to the latest revision of a service that are kept encoded, by the revision that they go
// on from: nearly all sessions have the same.
const maxRecent = 4

// interest is a service that sessions use.
type interest struct {
	name     discovery.Name
	sessions map[*session]struct{} // guarded by the server's mu

	mu      sync.Mutex // held while an update is encoded, so that it is once
	recent  []recent   // to the same revision, the newest last
	encoded atomic.Int64
}

// recent is an update that was encoded. Large ones are only kept while somebody sends them.
type recent struct {
	from, revision discovery.Revision
	small          *update
	large          weak.Pointer[update]
}

func (r recent) update() *update {
	if r.small != nil {
		return r.small
	}
	return r.large.Value()
}

// update is an update of one service, ready to be sent to any number of sessions. It is immutable.
type update struct {
	from, revision discovery.Revision
	bytes          int
	pieces         []*frame
}

// update gives the update from a known revision to the latest; nil if there is nothing newer.
func (in *interest) update(cat *catalog.Catalog, known discovery.Revision) (*update, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	latest := cat.At(in.name)
	for _, r := range in.recent {
		if r.from != known || r.revision != latest {
			continue
		}
		if u := r.update(); u != nil {
			return u, nil
		}
	}
	u, err := newUpdate(cat.Update(in.name, known), known)
	if u != nil {
		in.keep(u)
	}
	return u, err
}

// keep runs under mu.
func (in *interest) keep(u *update) {
	in.encoded.Add(1)
	if len(in.recent) == maxRecent || len(in.recent) > 0 && in.recent[0].revision != u.revision {
		in.recent = in.recent[:0]
	}
	r := recent{from: u.from, revision: u.revision}
	if len(u.pieces) == 1 {
		r.small = u
	} else {
		r.large = weak.Make(u)
	}
	in.recent = append(in.recent, r)
}

// newUpdate cuts an update into messages and encodes them.
func newUpdate(u *weftv1.Update, from discovery.Revision) (*update, error) {
	if u == nil {
		return nil, nil
	}
	out := &update{from: from, revision: discovery.Revision{Epoch: u.GetEpoch(), Number: u.GetRevision()}}
	for _, piece := range cut(u) {
		f, err := newFrame(&weftv1.ConnectResponse{Message: &weftv1.ConnectResponse_Update{Update: piece}})
		if err != nil {
			return nil, err
		}
		out.bytes += f.size()
		out.pieces = append(out.pieces, f)
	}
	return out, nil
}

// urgent reports whether somebody may be waiting until callers know of the update: an instance must not get new calls.
func urgent(u *weftv1.Update) bool {
	if u.Snapshot {
		return false
	}
	for _, in := range u.Instances {
		if in.State == string(discovery.Draining) || in.State == string(discovery.Isolated) {
			return true
		}
	}
	return false
}

// cut spreads the lists of an update over pieces, in the order in which they are applied.
func cut(u *weftv1.Update) []*weftv1.Update {
	start := func() *weftv1.Update {
		return &weftv1.Update{
			Service: u.Service, Epoch: u.Epoch, Revision: u.Revision, Snapshot: u.Snapshot, Missing: u.Missing,
			HasRules: u.HasRules, Alias: u.Alias, Urgent: u.Urgent || urgent(u), More: true,
		}
	}
	piece := start()
	pieces := []*weftv1.Update{piece}
	size := 0
	room := func(n int) *weftv1.Update {
		if size += n; size > pieceSize && size > n {
			piece = start()
			pieces = append(pieces, piece)
			size = n
		}
		return piece
	}
	for _, r := range u.Removals {
		p := room(proto.Size(r))
		p.Removals = append(p.Removals, r)
	}
	for _, in := range u.Instances {
		p := room(proto.Size(in))
		p.Instances = append(p.Instances, in)
	}
	for _, r := range u.Rules {
		p := room(len(r))
		p.Rules = append(p.Rules, r)
	}
	piece.More = false
	return pieces
}
