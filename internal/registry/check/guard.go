package check

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
)

// guard judges the address of each connection right before it is made: neither a name that resolves to something else
// the next time nor anything a server answers gets around it.
type guard struct {
	allow []netip.Prefix
	own   []netip.AddrPort
	hosts func() ([]net.Addr, error) // the addresses of this host
	off   bool                       // a seam of tests
}

// deniedError says that a check may not be made.
type deniedError struct {
	address string
	reason  string
}

// Error names the address and the reason.
func (e *deniedError) Error() string {
	return fmt.Sprintf("%s is %s, which checks may not connect to unless a prefix allows it", e.address, e.reason)
}

// masked makes prefixes comparable with the addresses that are judged: IPv4, not IPv4 in IPv6.
func masked(prefixes []netip.Prefix) (out []netip.Prefix) {
	for _, p := range prefixes {
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		out = append(out, p.Masked())
	}
	return out
}

// control is for [net.Dialer.Control].
func (g *guard) control(network, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil || network != "tcp4" && network != "tcp6" {
		return &deniedError{network + " " + address, "not an address of TCP"}
	}
	if reason := g.reason(at); reason != "" && !g.off {
		return &deniedError{address, reason}
	}
	return nil
}

// reason says why an address is denied; "" if it is not.
func (g *guard) reason(at netip.AddrPort) string {
	ip := at.Addr().Unmap().WithZone("")
	for _, p := range g.allow {
		if p.Contains(ip) {
			return ""
		}
	}
	for _, ip := range []netip.Addr{ip, embedded(ip)} {
		if reason := special(ip); reason != "" {
			return reason
		}
	}
	if g.ours(netip.AddrPortFrom(ip, at.Port())) {
		return "a listener of the registry server itself"
	}
	return ""
}

var (
	thisNetwork = netip.MustParsePrefix("0.0.0.0/8") // Linux takes 0.0.0.0 for loopback
	reserved    = netip.MustParsePrefix("240.0.0.0/4")
	compatible  = netip.MustParsePrefix("::/96") // an IPv4 address in its last 4 bytes, long out of use
	nat64       = netip.MustParsePrefix("64:ff9b::/96")
	nat64Local  = netip.MustParsePrefix("64:ff9b:1::/48")
	translated  = netip.MustParsePrefix("::ffff:0:0:0/96") // stateless, RFC 6145
	sixToFour   = netip.MustParsePrefix("2002::/16")
	metadata    = []netip.Addr{ // of clouds that do not use 169.254.169.254 alone
		netip.MustParseAddr("fd00:ec2::254"),
		netip.MustParseAddr("fd20:ce::254"),
		netip.MustParseAddr("100.100.100.200"),
		netip.MustParseAddr("168.63.129.16"),
	}
)

func special(ip netip.Addr) string {
	switch {
	case !ip.IsValid():
		return "" // nothing is embedded
	case ip.IsLoopback():
		return "loopback"
	case ip.IsUnspecified() || thisNetwork.Contains(ip):
		return "unspecified"
	case ip.IsLinkLocalUnicast():
		return "link-local"
	case ip.IsMulticast():
		return "multicast"
	case reserved.Contains(ip):
		return "broadcast or reserved"
	}
	if slices.Contains(metadata, ip) {
		return "the metadata service of a cloud"
	}
	return ""
}

// embedded gives the IPv4 address that a gateway would make of an IPv6 address; the zero Addr if there is none.
func embedded(ip netip.Addr) netip.Addr {
	b := ip.As16()
	switch {
	case ip.Is4():
	case nat64.Contains(ip), nat64Local.Contains(ip), translated.Contains(ip), compatible.Contains(ip):
		return netip.AddrFrom4([4]byte(b[12:]))
	case sixToFour.Contains(ip):
		return netip.AddrFrom4([4]byte(b[2:]))
	}
	return netip.Addr{}
}

// ours reports whether the server itself listens there. If the addresses of the host cannot be read, it may.
func (g *guard) ours(at netip.AddrPort) bool {
	for _, own := range g.own {
		switch ip := own.Addr().Unmap().WithZone(""); {
		case own.Port() != at.Port():
		case ip == at.Addr() || ip.IsUnspecified() && g.here(at.Addr()):
			return true
		}
	}
	return false
}

func (g *guard) here(ip netip.Addr) bool {
	addrs, err := g.hosts()
	if err != nil {
		return true
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Unmap().WithZone("") == ip {
			return true
		}
	}
	return false
}
