package check

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
)

func hosts(addrs ...string) func() ([]net.Addr, error) {
	return func() (out []net.Addr, err error) {
		for _, a := range addrs {
			ip, n, err := net.ParseCIDR(a)
			if err != nil {
				return nil, err
			}
			out = append(out, &net.IPNet{IP: ip, Mask: n.Mask})
		}
		return out, nil
	}
}

func TestGuard(t *testing.T) {
	own := []netip.AddrPort{netip.MustParseAddrPort("[::]:7070"), netip.MustParseAddrPort("10.9.9.9:7080")}
	for _, tt := range []struct {
		address, want string // "" is let through
	}{
		{"10.0.0.7:80", ""},
		{"192.168.1.1:80", ""},
		{"203.0.113.5:443", ""},
		{"[2001:db8::1]:80", ""},
		{"[fd12::1]:80", ""},
		{"127.0.0.1:80", "loopback"},
		{"127.255.255.254:80", "loopback"},
		{"[::1]:80", "loopback"},
		{"[::ffff:127.0.0.1]:80", "loopback"},
		{"[::127.0.0.1]:80", "loopback"},
		{"[64:ff9b::7f00:1]:80", "loopback"},
		{"[64:ff9b::a00:7]:80", ""},
		{"[64:ff9b:1::7f00:1]:80", "loopback"},
		{"[64:ff9b:1::a9fe:a9fe]:80", "link-local"},
		{"[::ffff:0:7f00:1]:80", "loopback"},
		{"[fd20:ce::254]:80", "metadata"},
		{"[2002:7f00:1::]:80", "loopback"},
		{"169.254.169.254:80", "link-local"},
		{"169.254.0.1:80", "link-local"},
		{"[::ffff:169.254.169.254]:80", "link-local"},
		{"[64:ff9b::a9fe:a9fe]:80", "link-local"},
		{"[fe80::1]:80", "link-local"},
		{"[fe80::1%eth0]:80", "link-local"},
		{"[febf::1]:80", "link-local"},
		{"[fd00:ec2::254]:80", "metadata"},
		{"100.100.100.200:80", "metadata"},
		{"0.0.0.0:80", "unspecified"},
		{"0.1.2.3:80", "unspecified"},
		{"[::]:80", "unspecified"},
		{"224.0.0.1:80", "multicast"},
		{"[ff02::1]:80", "multicast"},
		{"255.255.255.255:80", "reserved"},
		{"10.1.1.1:7070", "registry server"}, // of this host
		{"[::ffff:10.1.1.1]:7070", "registry server"},
		{"[fd12::9]:7070", "registry server"},
		{"10.1.1.1:7071", ""},
		{"10.1.1.2:7070", ""}, // another host may use the port
		{"10.9.9.9:7080", "registry server"},
		{"10.9.9.9:7081", ""},
		{"nonsense", "not an address"},
	} {
		g := guard{own: own, hosts: hosts("127.0.0.1/8", "10.1.1.1/24", "fd12::9/64")}
		err := g.control("tcp4", tt.address, nil)
		var denied *deniedError
		if (err != nil) != (tt.want != "") || err != nil && (!errors.As(err, &denied) || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", tt.address, err, tt.want)
		}
		if g.off = true; tt.want != "not an address" && g.control("tcp6", tt.address, nil) != nil {
			t.Errorf("control: %s is denied with the guard off", tt.address)
		}
	}
}

func TestGuardAllows(t *testing.T) {
	for _, tt := range []struct {
		prefix, address string
		want            bool
	}{
		{"127.0.0.0/8", "127.0.0.1:80", true},
		{"127.0.0.9/8", "127.0.0.1:80", true},
		{"::ffff:127.0.0.0/104", "127.0.0.1:80", true},
		{"127.0.0.0/8", "[::ffff:127.0.0.1]:80", true},
		{"127.0.0.0/8", "[::1]:80", false},
		{"127.0.0.1/32", "127.0.0.2:80", false},
		{"fe80::/10", "[fe80::1%eth0]:80", true},
		{"10.0.0.0/8", "10.9.9.9:7080", true},
		{"0.0.0.0/0", "169.254.169.254:80", true},
		{"0.0.0.0/0", "[fe80::1]:80", false},
	} {
		g := guard{allow: masked([]netip.Prefix{netip.MustParsePrefix(tt.prefix)}), own: []netip.AddrPort{netip.MustParseAddrPort("10.9.9.9:7080")}, hosts: hosts()}
		if reason := g.reason(netip.MustParseAddrPort(tt.address)); (reason == "") != tt.want {
			t.Errorf("%s allowed: %s is %q", tt.prefix, tt.address, reason)
		}
	}
}

// TestGuardWithoutHosts: if the host's addresses cannot be read, its listeners' ports are denied everywhere.
func TestGuardWithoutHosts(t *testing.T) {
	g := guard{own: []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:7070")}, hosts: func() ([]net.Addr, error) { return nil, errDown }}
	if g.reason(netip.MustParseAddrPort("10.0.0.1:7070")) == "" || g.reason(netip.MustParseAddrPort("10.0.0.1:7071")) != "" {
		t.Error("want 7070 denied, and nothing else")
	}
}

func FuzzGuard(f *testing.F) {
	for _, s := range []string{"127.0.0.1:80", "[::ffff:127.0.0.1]:80", "[fe80::1%lo]:1", "", "[::]:0", "10.0.0.1:99999", "a:80"} {
		f.Add(s)
	}
	g := guard{hosts: hosts("10.1.1.1/24"), own: []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:7070")}}
	f.Fuzz(func(t *testing.T, address string) {
		if g.control("tcp6", address, nil) != nil {
			return
		}
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			t.Fatalf("%q is let through", address)
		}
		if ip := at.Addr().Unmap(); ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsUnspecified() {
			t.Errorf("%q is let through", address)
		}
	})
}
