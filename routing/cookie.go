package routing

import "strings"

// nextCookie cuts the first pair off a Cookie header, without allocating. It reads as net/http does (RFC 6265,
// section 4.2.1, with spaces and commas allowed in values): quotes around a value are dropped, and the pair counts
// only if it is readable. Checking that is left to the caller, who wants one name among many.
func nextCookie(line string) (name, value, rest string) {
	pair, rest, _ := strings.Cut(line, ";")
	name, value, _ = strings.Cut(trim(pair), "=")
	if len(value) > 1 && value[0] == '"' && value[len(value)-1] == '"' {
		value = value[1 : len(value)-1]
	}
	return trim(name), value, rest
}

// readable reports whether a pair has a name and no character that is forbidden.
func readable(name, value string) bool {
	return name != "" && all(name, tokenByte) && all(value, cookieByte)
}

// firstCookie returns the first value of the named cookie that is not empty, or "".
func firstCookie(lines []string, wanted string) string {
	for _, line := range lines {
		for line != "" {
			var name, value string
			if name, value, line = nextCookie(line); name == wanted && value != "" && readable(name, value) {
				return value
			}
		}
	}
	return ""
}

func trim(s string) string {
	for s != "" && spaceByte(s[0]) {
		s = s[1:]
	}
	for s != "" && spaceByte(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	return s
}

func all(s string, allowed func(byte) bool) bool {
	for i := range len(s) {
		if !allowed(s[i]) {
			return false
		}
	}
	return true
}

func spaceByte(b byte) bool { return b == ' ' || b == '\t' || b == '\r' || b == '\n' }

// tokenByte reports whether b may be in a token (RFC 9110, section 5.6.2).
func tokenByte(b byte) bool {
	return 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9' ||
		strings.IndexByte("!#$%&'*+-.^_`|~", b) >= 0
}

// cookieByte reports whether b may be in the value of a cookie.
func cookieByte(b byte) bool {
	return ' ' <= b && b < 0x7F && b != '"' && b != ';' && b != '\\'
}
