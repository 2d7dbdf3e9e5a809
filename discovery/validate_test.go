package discovery

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestValidate(t *testing.T) {
	many := map[string]string{}
	for i := range MaxLabels + 1 {
		many[fmt.Sprint(i)] = "x"
	}
	for field, change := range map[string]func(*Instance){
		"id":        func(in *Instance) { in.ID = "a b" },
		"process":   func(in *Instance) { in.Process = strings.Repeat("p", MaxID+1) },
		"region":    func(in *Instance) { in.Locality.Region = "é" },
		"zone":      func(in *Instance) { in.Locality.Zone = "\n" },
		"service":   func(in *Instance) { in.Service = "Product" },
		"namespace": func(in *Instance) { in.Namespace = "a.b" },
		"address":   func(in *Instance) { in.Address = "10.0.0.1" },
		"protocol":  func(in *Instance) { in.Protocol = "udp" },
		"weight":    func(in *Instance) { in.Weight = MaxWeight + 1 },
		"state":     func(in *Instance) { in.State = Suspect },
		"labels":    func(in *Instance) { in.Labels = many },
	} {
		in := instances("a")[0]
		if err := in.Validate(); err != nil {
			t.Fatalf("control: %v", err)
		}
		change(&in)
		if err := in.Validate(); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: error %v, want ErrInvalid that names it", field, err)
		}
	}
	for name, change := range map[string]func(*Instance){
		"port 0":       func(in *Instance) { in.Address = "10.0.0.1:0" },
		"port 65536":   func(in *Instance) { in.Address = "10.0.0.1:65536" },
		"no host":      func(in *Instance) { in.Address = ":80" },
		"any host":     func(in *Instance) { in.Address = "[::]:80" },
		"weight -1":    func(in *Instance) { in.Weight = -1 },
		"empty key":    func(in *Instance) { in.Labels = map[string]string{"": "x"} },
		"label bytes":  func(in *Instance) { in.Labels = map[string]string{"k": strings.Repeat("v", MaxLabelBytes)} },
		"no protocol":  func(in *Instance) { in.Protocol = "" },
		"no service":   func(in *Instance) { in.Service = "" },
		"state absent": func(in *Instance) { in.State = Unhealthy },
	} {
		in := instances("a")[0]
		change(&in)
		if err := in.Validate(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: error %v, want ErrInvalid", name, err)
		}
	}
	atBound := instances("a")[0]
	atBound.Weight = MaxWeight
	atBound.Labels = map[string]string{"k": strings.Repeat("v", MaxLabelBytes-1)}
	if err := atBound.Validate(); err != nil {
		t.Errorf("at the bounds: %v", err)
	}
}
