package balancer

// Hash is the running state of a stable hash: 64-bit FNV-1a with a final mix, since FNV alone leaves the low bits
// of similar texts similar. Its results are part of what callers in other processes, versions and languages
// agree on, so they never change.
//
// Hashing two texts one after the other equals hashing their concatenation. The state after a common prefix can
// therefore be kept and reused:
//
//	salt := balancer.NewHash().Add("default/product\x00")
//	bucket := salt.Add(user).Sum64() % 10000
type Hash uint64

// NewHash returns the state of the empty text.
func NewHash() Hash { return 0xCBF29CE484222325 }

// Add returns the state after the bytes of s.
func (h Hash) Add(s string) Hash {
	for i := range len(s) {
		h = (h ^ Hash(s[i])) * 0x100000001B3
	}
	return h
}

// Sum64 returns the hash of what was added.
func (h Hash) Sum64() uint64 { return mix(uint64(h)) }

// Hash64 returns the stable hash of s.
func Hash64(s string) uint64 { return NewHash().Add(s).Sum64() }
