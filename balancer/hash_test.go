package balancer

import (
	"hash/fnv"
	"strconv"
	"testing"
)

// Other processes, versions and languages rely on these values.
func TestHash64Vectors(t *testing.T) {
	tests := map[string]uint64{
		"":                          0xF52A15E9A9B5E89B,
		"a":                         0x02C0BDBF481420F8,
		"foobar":                    0x404DA9E3B74078C2,
		"product":                   0x6AA9B3AB7CC973ED,
		"ü":                         0x772D5FFDBCB8F81A,
		"default/product\x00user-1": 0x62A87CDD47188FC7,
	}
	for text, want := range tests {
		if got := Hash64(text); got != want {
			t.Errorf("Hash64(%q) = %#x, want %#x", text, got, want)
		}
	}
}

func TestHashStateIsFNV(t *testing.T) {
	for _, text := range []string{"", "a", "foobar", "\x00\xff", "a longer text with spaces"} {
		std := fnv.New64a()
		std.Write([]byte(text))
		if got := uint64(NewHash().Add(text)); got != std.Sum64() {
			t.Errorf("%q: got %#x, want %#x", text, got, std.Sum64())
		}
	}
}

func TestHashInPartsIsHashOfWhole(t *testing.T) {
	const text = "default/product\x00user-1"
	for i := range len(text) + 1 {
		if got := NewHash().Add(text[:i]).Add(text[i:]).Sum64(); got != Hash64(text) {
			t.Errorf("cut at %d: %#x", i, got)
		}
	}
}

func TestHashSpreadsSimilarTexts(t *testing.T) {
	counts, weights := make([]int, 100), make([]float64, 100)
	for i := range 100_000 {
		counts[Hash64("user-"+strconv.Itoa(i))%100]++
	}
	for i := range weights {
		weights[i] = 1
	}
	if why, bad := deviates(counts, weights); bad {
		t.Error(why)
	}
}
