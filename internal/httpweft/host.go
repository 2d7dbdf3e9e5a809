package httpweft

import "strings"

const (
	suffix    = ".weft"
	localhost = "localhost"
	maxLabel  = 63
)

// IsOurs reports whether host, as in a URL, names a service of the mesh, and which: "product" and "product.weft" name
// product, "product.shop.weft" names product.shop. A host is ours if it ends in .weft, or if it is one label without
// a port and not localhost. Letters may have either case; the service is in lower case. It does not check that what
// stands before .weft is a valid name.
func IsOurs(host string) (service string, ours bool) {
	if n := len(host) - len(suffix); n >= 0 && strings.EqualFold(host[n:], suffix) {
		return strings.ToLower(host[:n]), true
	}
	if !isLabel(host) || strings.EqualFold(host, localhost) {
		return "", false
	}
	return strings.ToLower(host), true
}

// isLabel reports whether s is one DNS label (RFC 1123).
func isLabel(s string) bool {
	if s == "" || len(s) > maxLabel || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		c := s[i] | 0x20
		if (c < 'a' || c > 'z') && (s[i] < '0' || s[i] > '9') && s[i] != '-' {
			return false
		}
	}
	return true
}
