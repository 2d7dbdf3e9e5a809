package discovery

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Bounds of an instance.
const (
	MaxID         = 128 // characters of an id or a process
	MaxLocality   = 63  // characters of a region or a zone
	MaxAddress    = 259 // a DNS name and a port
	MaxWeight     = 10000
	MaxLabels     = 64
	MaxLabelBytes = 4 << 10 // of all keys and values together
)

// Validate says what no registry would take of the instance: the error wraps [ErrInvalid] and names the field, the
// value and the bound. Empty fields that have a default, or that a [Registrar] fills in, are fine.
func (in *Instance) Validate() error {
	for _, f := range []struct {
		name, value string
		bound       int
	}{
		{"id", in.ID, MaxID}, {"process", in.Process, MaxID}, {"address", in.Address, MaxAddress},
		{"locality.region", in.Locality.Region, MaxLocality}, {"locality.zone", in.Locality.Zone, MaxLocality},
	} {
		if len(f.value) > f.bound || !printable(f.value) {
			return invalid(f.name, f.value, fmt.Sprintf("at most %d printable ASCII characters without space", f.bound))
		}
	}
	switch {
	case !IsLabel(in.Service):
		return invalid("service", in.Service, "a DNS label (a-z, 0-9, -, at most 63 characters)")
	case in.Namespace != "" && !IsLabel(in.Namespace):
		return invalid("namespace", in.Namespace, "a DNS label (a-z, 0-9, -, at most 63 characters)")
	case !isHostPort(in.Address):
		return invalid("address", in.Address, "host:port with a host that others can reach and a port of 1 to 65535")
	case in.Protocol != GRPC && in.Protocol != HTTP:
		return invalid("protocol", string(in.Protocol), `"grpc" or "http"`)
	case in.Weight < 0 || in.Weight > MaxWeight:
		return invalid("weight", strconv.Itoa(in.Weight), fmt.Sprintf("1 to %d, or 0 for %d", MaxWeight, DefaultWeight))
	case !slices.Contains([]State{"", Starting, Up, Draining, Isolated}, in.State):
		return invalid("state", string(in.State), `"starting", "up", "draining" or "isolated"; the others are the registry's to say`)
	}
	return in.validateLabels()
}

func (in *Instance) validateLabels() error {
	if len(in.Labels) > MaxLabels {
		return invalid("labels", strconv.Itoa(len(in.Labels))+" labels", fmt.Sprintf("at most %d", MaxLabels))
	}
	size := 0
	for k, v := range in.Labels {
		if k == "" || !printable(k) {
			return invalid("labels", k+"="+v, "keys of printable ASCII characters without space")
		}
		size += len(k) + len(v)
	}
	if size > MaxLabelBytes {
		return invalid("labels", strconv.Itoa(size)+" bytes", fmt.Sprintf("at most %d of keys and values", MaxLabelBytes))
	}
	return nil
}

func invalid(field, value, want string) error {
	return fmt.Errorf("instance: %w: %s %q: want %s", ErrInvalid, field, value, want)
}

func isHostPort(address string) bool {
	host, port, err := net.SplitHostPort(address)
	n, perr := strconv.ParseUint(port, 10, 16)
	ip, _ := netip.ParseAddr(host)
	return err == nil && perr == nil && n > 0 && host != "" && !ip.IsUnspecified()
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}
