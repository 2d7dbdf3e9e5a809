package doctor

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

// Of the disk: below weak is less than a busy day's growth, below bad is less than the store grows by at a time.
const (
	weakSpace = 256 << 20
	badSpace  = 32 << 20
)

// spareFiles are the files that the server opens beside its sessions: REST's connections, the store, and some.
const spareFiles = 4096 + 64

func (v *visit) disk() {
	const thing = "disk space"
	free, total, ok := freeSpace(v.config.DataDir)
	text := fmt.Sprintf("%d of %d MiB are free", free>>20, total>>20)
	const remedy = "free some, or move the data directory; a full disk refuses all writes"
	switch {
	case !ok:
		v.say(Unknown, thing, "not known on this system", "")
	case free < badSpace:
		v.say(Bad, thing, text, remedy)
	case free < weakSpace:
		v.say(Weak, thing, text, remedy)
	default:
		v.say(OK, thing, text, "")
	}
}

// clock compares with what the server wrote, as the year alone says little.
func (v *visit) clock() {
	const thing = "clock"
	entries, _ := os.ReadDir(v.config.DataDir)
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && info.ModTime().After(v.now.Add(time.Minute)) {
			v.say(Weak, thing, fmt.Sprintf("%s was written at %s, which is in the future", filepath.Join(v.config.DataDir, e.Name()), info.ModTime().UTC().Format(time.RFC3339)),
				"set the clock, and keep it set by NTP: tokens and certificates expire by it")
			return
		}
	}
	v.say(OK, thing, v.now.UTC().Format(time.RFC3339)+" is not before what was written last", "")
}

func (v *visit) descriptors() {
	const thing = "open files"
	limit, known := maxFiles()
	need := uint64(v.config.MaxSessions + spareFiles)
	switch {
	case !known:
		v.say(Unknown, thing, "the limit is not known on this system", "")
	case limit < need:
		v.say(Weak, thing, fmt.Sprintf("a process may have %d, and --max-sessions %d needs %d", limit, v.config.MaxSessions, need),
			fmt.Sprintf("raise the limit (LimitNOFILE=%d of systemd, ulimit -n), or lower --max-sessions", need))
	default:
		v.say(OK, thing, fmt.Sprintf("a process may have %d, and %d are needed (as this user and in this shell)", limit, need), "")
	}
}

func (v *visit) listeners() {
	if isLoopback(v.config.GRPCAddr) {
		v.say(OK, "sessions", v.config.GRPCAddr+", TLS 1.3, on loopback", "")
	} else {
		v.say(OK, "sessions", v.config.GRPCAddr+", TLS 1.3, for other hosts too", "")
	}
	switch {
	case v.config.TLSCert != "":
		v.say(OK, "REST", v.config.HTTPAddr+", TLS 1.3 with the certificate of "+v.config.TLSCert, "")
	case isLoopback(v.config.HTTPAddr):
		v.say(OK, "REST", v.config.HTTPAddr+", plain HTTP, on loopback alone", "")
	default:
		v.say(OK, "REST", v.config.HTTPAddr+", TLS 1.3 with the server's own certificate, which clients must pin", "")
	}
}

// isLoopback judges by the text; the server judges by the address that it gets.
func isLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// checks looks at where active health checks may go: whoever may register an instance chooses their target.
func (v *visit) checks() {
	const thing = "active checks"
	switch {
	case !v.config.Checks:
		v.say(OK, thing, "off", "")
	case len(v.config.CheckAllow) == 0:
		v.say(OK, thing, "on, not towards loopback, link-local or this server", "")
	default:
		for _, network := range v.config.CheckAllow {
			if why := dangerous(network); why != "" {
				v.say(Weak, thing, fmt.Sprintf("--check-allow %s %s", network, why), "allow only the networks in which instances are")
				return
			}
		}
		v.say(OK, thing, fmt.Sprintf("on, also towards %v", v.config.CheckAllow), "")
	}
}

// dangerous says what a network gives to whoever may register an instance; "" if nothing.
func dangerous(network netip.Prefix) string {
	switch {
	case network.Bits() == 0:
		return "lets checks go everywhere"
	case network.Overlaps(netip.MustParsePrefix("169.254.0.0/16")), network.Overlaps(netip.MustParsePrefix("fe80::/10")):
		return "lets checks reach link-local addresses, where clouds keep credentials"
	case network.Overlaps(netip.MustParsePrefix("127.0.0.0/8")), network.Contains(netip.IPv6Loopback()):
		return "lets checks reach what listens on this host's loopback"
	}
	return ""
}
