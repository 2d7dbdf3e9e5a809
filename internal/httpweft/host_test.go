package httpweft

import (
	"net/url"
	"strings"
	"testing"
)

func TestIsOurs(t *testing.T) {
	for _, c := range []struct {
		host, service string
		ours          bool
	}{
		{"product", "product", true},
		{"Product", "product", true},
		{"p2", "p2", true},
		{"a-b", "a-b", true},
		{"weft", "weft", true},
		{"product.weft", "product", true},
		{"product.shop.weft", "product.shop", true},
		{"Product.Shop.WEFT", "product.shop", true},
		{"localhost.weft", "localhost", true},
		{"a.b.c.weft", "a.b.c", true}, // ours, and the directory says that it is no valid name
		{".weft", "", true},
		{strings.Repeat("a", 63), strings.Repeat("a", 63), true},

		{strings.Repeat("a", 64), "", false},
		{"", "", false},
		{"localhost", "", false},
		{"LocalHost", "", false},
		{"product:80", "", false},
		{"product.weft:80", "", false},
		{"product.shop", "", false},
		{"example.com", "", false},
		{"weft.example.com", "", false},
		{"127.0.0.1", "", false},
		{"127.0.0.1:8080", "", false},
		{"[::1]", "", false},
		{"::1", "", false},
		{"[::1]:80", "", false},
		{"snake_case", "", false},
		{"-a", "", false},
		{"a-", "", false},
		{"a b", "", false},
		{"@", "", false},
		{"[", "", false},
		{"pröduct", "", false},
	} {
		if service, ours := IsOurs(c.host); service != c.service || ours != c.ours {
			t.Errorf("IsOurs(%q) = %q, %v; want %q, %v", c.host, service, ours, c.service, c.ours)
		}
	}
}

func TestIsOursDoesNotAllocate(t *testing.T) {
	for _, host := range []string{"product", "product.shop.weft", "example.com:80"} {
		if n := testing.AllocsPerRun(100, func() { IsOurs(host) }); n != 0 {
			t.Errorf("IsOurs(%q) allocates %v times", host, n)
		}
	}
}

func FuzzIsOurs(f *testing.F) {
	for _, s := range []string{"product", "product.shop.weft", "localhost", "127.0.0.1:80", "[::1]", ".weft", "A"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, host string) {
		service, ours := IsOurs(host)
		if !ours {
			if service != "" {
				t.Fatalf("IsOurs(%q) names %q and says that it is not ours", host, service)
			}
			return
		}
		if service != strings.ToLower(service) {
			t.Errorf("IsOurs(%q) = %q, not in lower case", host, service)
		}
		again, ours := IsOurs(service + ".weft")
		if !ours || again != service {
			t.Errorf("IsOurs(%q) = %q, %v; want %q, true", service+".weft", again, ours, service)
		}
		if !strings.HasSuffix(strings.ToLower(host), ".weft") {
			if u, err := url.Parse("http://" + host + "/"); err != nil || u.Host != host || u.Port() != "" {
				t.Errorf("IsOurs(%q) = true for what is no host of a URL: %v", host, err)
			}
		}
	})
}
