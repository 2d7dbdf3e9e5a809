package catalog

import (
	"iter"
	"slices"
	"strings"
)

// maxChunk bounds the instances of a chunk. A write copies one chunk and the list of chunks: of a service of 10,000 about
// 2 KB instead of 80.
const maxChunk = 128

// list holds the instances of a service, sorted by id, in chunks that versions of the list share. A copy of it may be
// changed for a draft; what other versions see stays as it is.
type list struct {
	chunks []*chunk // none is empty
	size   int
	draft  uint64 // may change the slice of chunks in place
}

type chunk struct {
	instances []*instance
	newest    uint64 // no instance has a later revision
	draft     uint64 // may change the chunk in place
}

// newList takes instances that are sorted.
func newList(sorted []*instance) (l list) {
	l.size = len(sorted)
	for part := range slices.Chunk(sorted, maxChunk) {
		c := &chunk{instances: slices.Clone(part)}
		for _, in := range part {
			c.newest = max(c.newest, in.revision)
		}
		l.chunks = append(l.chunks, c)
	}
	return l
}

// find gives the place of an id: the chunk, and the index in it.
func (l *list) find(id string) (i, j int, found bool) {
	i, first := slices.BinarySearchFunc(l.chunks, id, func(c *chunk, id string) int {
		return strings.Compare(c.instances[0].id(), id)
	})
	if first {
		return i, 0, true
	}
	if i = max(i-1, 0); len(l.chunks) == 0 {
		return 0, 0, false
	}
	j, found = slices.BinarySearchFunc(l.chunks[i].instances, id, func(in *instance, id string) int {
		return strings.Compare(in.id(), id)
	})
	return i, j, found
}

// get gives nil for an id that is not there.
func (l *list) get(id string) *instance {
	if i, j, ok := l.find(id); ok {
		return l.chunks[i].instances[j]
	}
	return nil
}

// own makes the slice of chunks the draft's.
func (l *list) own(draft uint64) {
	if l.draft != draft {
		l.chunks, l.draft = slices.Clone(l.chunks), draft
	}
}

// edit gives a chunk that the draft may change.
func (l *list) edit(i int, draft uint64) *chunk {
	l.own(draft)
	if c := l.chunks[i]; c.draft != draft {
		l.chunks[i] = &chunk{append(make([]*instance, 0, len(c.instances)+1), c.instances...), c.newest, draft}
	}
	return l.chunks[i]
}

func (l *list) put(in *instance, draft uint64) {
	if len(l.chunks) == 0 {
		l.chunks, l.draft, l.size = []*chunk{{[]*instance{in}, in.revision, draft}}, draft, 1
		return
	}
	i, j, found := l.find(in.id())
	c := l.edit(i, draft)
	c.newest = max(c.newest, in.revision)
	if found {
		c.instances[j] = in
		return
	}
	c.instances = slices.Insert(c.instances, j, in)
	l.size++
	if len(c.instances) > maxChunk {
		l.split(i, j, draft)
	}
}

// split divides a chunk in which j was inserted: in the middle, or at its end if it grows there, so that ids which come in
// their order leave full chunks.
func (l *list) split(i, j int, draft uint64) {
	c, at := l.chunks[i], maxChunk/2
	if j == maxChunk {
		at = maxChunk
	}
	right := &chunk{slices.Clone(c.instances[at:]), c.newest, draft}
	c.instances = slices.Clone(c.instances[:at])
	l.chunks = slices.Insert(l.chunks, i+1, right)
}

// remove takes an instance out and gives it; nil if it is not there.
func (l *list) remove(id string, draft uint64) *instance {
	i, j, found := l.find(id)
	if !found {
		return nil
	}
	c := l.edit(i, draft)
	in := c.instances[j]
	c.instances = slices.Delete(c.instances, j, j+1)
	l.size--
	switch {
	case len(c.instances) == 0:
		l.chunks = slices.Delete(l.chunks, i, i+1)
	case len(c.instances) < maxChunk/4:
		l.merge(i, draft)
	}
	return in
}

// merge joins a chunk that became small with the next or the one before, if both fit well in one.
func (l *list) merge(i int, draft uint64) {
	for _, i := range []int{i, i - 1} {
		if i >= 0 && i+1 < len(l.chunks) && len(l.chunks[i].instances)+len(l.chunks[i+1].instances) <= maxChunk*3/4 {
			c, next := l.edit(i, draft), l.chunks[i+1]
			c.instances, c.newest = append(c.instances, next.instances...), max(c.newest, next.newest)
			l.chunks = slices.Delete(l.chunks, i+1, i+2)
			return
		}
	}
}

// all goes through the instances in the order of their ids.
func (l *list) all() iter.Seq[*instance] {
	return func(yield func(*instance) bool) {
		for _, c := range l.chunks {
			for _, in := range c.instances {
				if !yield(in) {
					return
				}
			}
		}
	}
}

// since goes through those that changed after a revision. It looks only into chunks that may have one.
func (l *list) since(revision uint64) iter.Seq[*instance] {
	return func(yield func(*instance) bool) {
		for _, c := range l.chunks {
			if c.newest <= revision {
				continue
			}
			for _, in := range c.instances {
				if in.revision > revision && !yield(in) {
					return
				}
			}
		}
	}
}
