package balancer

import (
	"testing"
)

func TestLeastRequestPrefersTheShorterQueue(t *testing.T) {
	endpoints := equalWeights(2)
	endpoints[0].Begin()
	counts := count(t, LeastRequest().Picker(endpoints), endpoints, nil, 1, 1000)
	if counts[0] != 0 {
		t.Errorf("the longer of two queues was picked %d times", counts[0])
	}
}

func TestLeastRequestJudgesByWeight(t *testing.T) {
	endpoints := withWeights(100, 300)
	endpoints[0].Begin()
	endpoints[1].Begin()
	endpoints[1].Begin()
	counts := count(t, LeastRequest().Picker(endpoints), endpoints, nil, 1, 16_000)
	if why, bad := deviates(counts, floats(1, 15)); bad { // the light one only when drawn twice
		t.Error(why)
	}
}

// A light endpoint gets at most twice its share even while every other one is busy.
func TestLeastRequestDoesNotFloodTheLight(t *testing.T) {
	endpoints := withWeights(1, 50, 49)
	for range 10 {
		endpoints[1].Begin()
		endpoints[2].Begin()
	}
	const picks = 100_000
	if counts := count(t, LeastRequest().Picker(endpoints), endpoints, nil, 1, picks); counts[0] > picks*2/100 {
		t.Errorf("1 %% of the weight got %d of %d picks", counts[0], picks)
	}
}

// Of the endpoints that are usable two are compared, also when others are refused.
func TestLeastRequestComparesTheUsable(t *testing.T) {
	endpoints := equalWeights(10)
	for _, e := range endpoints[1:] {
		e.Begin()
	}
	var record []Candidate
	p := &Pick{Rand: NewRand(1), Filter: refusing(endpoints[5:]...), Record: &record}
	picker, compared := LeastRequest().Picker(endpoints), 0
	for range 1000 {
		record = record[:0]
		picker.Pick(p)
		usable := 0
		for _, c := range record {
			if c.Usable {
				usable++
			}
		}
		if usable == 2 {
			compared++
		}
	}
	if compared < 900 {
		t.Errorf("only %d of 1000 picks compared two", compared)
	}
}

// The reason for two choices: calls that stay keep the longest queue short. Random is the control.
func TestLeastRequestKeepsQueuesShort(t *testing.T) {
	longest := func(policy Policy) (longest int64) {
		endpoints := equalWeights(100)
		picker, p := policy.Picker(endpoints), &Pick{Rand: NewRand(1)}
		for range 1000 {
			e := picker.Pick(p)
			e.Begin()
			longest = max(longest, e.Stats.Pending())
		}
		return longest
	}
	if two, one := longest(LeastRequest()), longest(Random()); two > 13 || one < 16 {
		t.Errorf("with 10 calls each on average the longest queue is %d; random has %d", two, one)
	}
}
