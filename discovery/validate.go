package discovery

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Bounds of an instance.
const (
	MaxID         = 128 // characters of an id or a process
	MaxLocality   = 63  // characters of a region or a zone
	MaxAddress    = 259 // a DNS name and a port
	MaxWeight     = 10_000
	MaxLabels     = 64
	MaxLabelBytes = 4 << 10 // of all names and values together
)

// InvalidError is a field that no registry would take. It wraps [ErrInvalid].
type InvalidError struct {
	Field string // such as "locality.zone"
	Value string
	Want  string // the bound, such as "want 1 to 10000, or 0 for 100"
}

// Error names the field, the value and the bound.
func (e *InvalidError) Error() string {
	value := e.Value
	if len(value) > 160 {
		value = value[:160] + "…"
	}
	return fmt.Sprintf("instance: %s %q: %v: %s", e.Field, value, ErrInvalid, e.Want)
}

// Unwrap gives [ErrInvalid].
func (e *InvalidError) Unwrap() error { return ErrInvalid }

// Invalid makes an [InvalidError].
func Invalid(field, value, want string) error {
	return &InvalidError{Field: field, Value: value, Want: want}
}

const wantLabel = "want a DNS label (a-z, 0-9, -, at most 63 characters)"

// Validate says what no registry would take of the instance: its error is an [*InvalidError]. Empty fields that have a
// default, or that a [Registrar] fills in (id, namespace, weight, state), are fine.
func (in *Instance) Validate() error {
	switch {
	case !IsLabel(in.Service):
		return Invalid("service", in.Service, wantLabel)
	case in.Namespace != "" && !IsLabel(in.Namespace):
		return Invalid("namespace", in.Namespace, wantLabel)
	case in.Protocol != GRPC && in.Protocol != HTTP:
		return Invalid("protocol", string(in.Protocol), `want "grpc" or "http"`)
	case in.Weight < 0 || in.Weight > MaxWeight:
		return Invalid("weight", strconv.Itoa(in.Weight), "want 1 to 10000, or 0 for 100")
	case !isAddress(in.Address):
		return Invalid("address", in.Address, "want host:port with a host that others can reach and a port from 1 to 65535")
	}
	if err := in.validateTexts(); err != nil {
		return err
	}
	switch in.State {
	case "", Starting, Up, Draining, Isolated:
		return in.validateLabels()
	}
	return Invalid("state", string(in.State), "want up, starting, draining or isolated; the others are set by the registry")
}

func (in *Instance) validateTexts() error {
	for _, f := range []struct {
		name, value string
		most        int
	}{
		{"id", in.ID, MaxID}, {"process", in.Process, MaxID},
		{"locality.region", in.Locality.Region, MaxLocality}, {"locality.zone", in.Locality.Zone, MaxLocality},
	} {
		if len(f.value) > f.most || !printable(f.value) {
			return Invalid(f.name, f.value, fmt.Sprintf("want 1 to %d printable ASCII characters without space", f.most))
		}
	}
	return nil
}

func (in *Instance) validateLabels() error {
	if len(in.Labels) > MaxLabels {
		return Invalid("labels", strconv.Itoa(len(in.Labels))+" of them", "want at most 64")
	}
	size := 0
	for k, v := range in.Labels {
		if k == "" || !printable(k) {
			return Invalid("labels", k, "want names of printable ASCII characters without space")
		}
		if strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' }) {
			return Invalid("labels."+k, v, "want UTF-8 without control characters")
		}
		size += len(k) + len(v)
	}
	if size > MaxLabelBytes {
		return Invalid("labels", strconv.Itoa(size)+" bytes", "want at most 4096 bytes of names and values")
	}
	return nil
}

func isAddress(address string) bool {
	host, port, err := net.SplitHostPort(address)
	n, perr := strconv.ParseUint(port, 10, 16)
	return err == nil && perr == nil && n > 0 && len(address) <= MaxAddress && isHost(host)
}

// isHost reports whether host is an IP address other than the unspecified one, or a DNS name.
func isHost(host string) bool {
	if ip, err := netip.ParseAddr(host); err == nil {
		return !ip.IsUnspecified()
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(host, "."), ".") {
		if !IsLabel(strings.ReplaceAll(strings.ToLower(label), "_", "-")) {
			return false
		}
	}
	return !numeric(host)
}

// numeric reports whether the last label is a number, as in a mistyped IP address.
func numeric(host string) bool {
	_, err := strconv.ParseUint(host[strings.LastIndexByte(host, '.')+1:], 10, 64)
	return err == nil
}

// printable reports whether s has nothing but visible ASCII characters.
func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}
