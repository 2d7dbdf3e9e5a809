package catalog

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/weftmesh/weft/discovery"
)

// The bounds of an instance and a service.
const (
	MaxID         = 128     // characters of an instance id or a process id
	MaxLabels     = 64      // labels of an instance
	MaxLabelBytes = 4 << 10 // their names and values
	MaxInstance   = 8 << 10 // bytes of an instance as it is stored
	MaxInstances  = 10_000  // instances of a service
	MaxWeight     = 10_000  // and 1 is the least
	maxLocality   = 63      // characters of a region or a zone
	maxAddress    = 253 + 6 // a DNS name and a port
)

// Normalize gives the instance as it is stored, with the defaults filled in: namespace "default", weight 100,
// state up. Its error wraps [discovery.ErrInvalid] and names the field, the value and the bound. REST and
// sessions use it to refuse an instance before it is queued.
func Normalize(in discovery.Instance) (discovery.Instance, error) {
	if in.Namespace == "" {
		in.Namespace = discovery.DefaultNamespace
	}
	if in.Weight == 0 {
		in.Weight = discovery.DefaultWeight
	}
	if in.State == "" {
		in.State = discovery.Up
	}
	in.Ready = nil
	return in, validate(in)
}

func validate(in discovery.Instance) error {
	switch {
	case in.ID == "" || len(in.ID) > MaxID || !printable(in.ID):
		return invalid("id", in.ID, "want 1 to 128 printable ASCII characters without space")
	case !discovery.IsLabel(in.Service):
		return invalid("service", in.Service, wantLabel)
	case !discovery.IsLabel(in.Namespace):
		return invalid("namespace", in.Namespace, wantLabel)
	case len(in.Process) > MaxID || !printable(in.Process):
		return invalid("process", in.Process, "want at most 128 printable ASCII characters without space")
	case in.Protocol != discovery.GRPC && in.Protocol != discovery.HTTP:
		return invalid("protocol", string(in.Protocol), `want "grpc" or "http"`)
	case in.Weight < 1 || in.Weight > MaxWeight:
		return invalid("weight", strconv.Itoa(in.Weight), "want 1 to 10000, or 0 for 100")
	case len(in.Locality.Region) > maxLocality || !printable(in.Locality.Region):
		return invalid("locality.region", in.Locality.Region, wantLocality)
	case len(in.Locality.Zone) > maxLocality || !printable(in.Locality.Zone):
		return invalid("locality.zone", in.Locality.Zone, wantLocality)
	}
	if err := validateState(in.State); err != nil {
		return err
	}
	if err := validateAddress(in.Address); err != nil {
		return err
	}
	return validateLabels(in.Labels)
}

const (
	wantLabel    = "want a DNS label (a-z, 0-9, -, at most 63 characters)"
	wantLocality = "want at most 63 printable ASCII characters without space"
)

func invalid(field, value, want string) error {
	if len(value) > 160 {
		value = value[:160] + "…"
	}
	return fmt.Errorf("instance: %s %q: %w: %s", field, value, discovery.ErrInvalid, want)
}

// printable reports whether s has nothing but visible ASCII characters.
func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// validateState refuses the states that only leases set.
func validateState(s discovery.State) error {
	switch s {
	case discovery.Up, discovery.Starting, discovery.Draining, discovery.Isolated:
		return nil
	}
	return invalid("state", string(s), "want up, starting, draining or isolated; the others are set by the registry")
}

func validateAddress(address string) error {
	const want = "want host:port with a host that others can reach and a port from 1 to 65535"
	host, port, err := net.SplitHostPort(address)
	if err != nil || len(address) > maxAddress || !printable(address) {
		return invalid("address", address, want)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || !realHost(host) {
		return invalid("address", address, want)
	}
	return nil
}

// realHost reports whether host is an IP address that is not the unspecified one, or a DNS name.
func realHost(host string) bool {
	if ip, err := netip.ParseAddr(host); err == nil {
		return !ip.IsUnspecified()
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(host, "."), ".") {
		if !discovery.IsLabel(strings.ReplaceAll(strings.ToLower(label), "_", "-")) {
			return false
		}
	}
	return len(host) > 0 && !numeric(host)
}

// numeric reports whether the last label is a number, as in a mistyped IP address.
func numeric(host string) bool {
	last := host[strings.LastIndexByte(host, '.')+1:]
	_, err := strconv.ParseUint(last, 10, 64)
	return err == nil
}

func validateLabels(labels map[string]string) error {
	if len(labels) > MaxLabels {
		return invalid("labels", strconv.Itoa(len(labels))+" of them", "want at most 64")
	}
	size := 0
	for k, v := range labels {
		if k == "" || !printable(k) {
			return invalid("labels", k, "want names of printable ASCII characters without space")
		}
		if strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r == 0x7f || r == '�' }) {
			return invalid("labels."+k, v, "want UTF-8 without control characters")
		}
		size += len(k) + len(v)
	}
	if size > MaxLabelBytes {
		return invalid("labels", strconv.Itoa(size)+" bytes", "want at most 4096 bytes of names and values")
	}
	return nil
}
