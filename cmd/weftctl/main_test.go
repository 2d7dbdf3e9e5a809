package main

import (
	"context"
	"flag"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/weftmesh/weft/internal/credential"
	"github.com/weftmesh/weft/internal/registry/server"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs a registry server until the test ends; weftctl finds it by the credential file.
func start(t *testing.T) *server.Server {
	t.Helper()
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("WEFT_HTTP", "")
	t.Setenv("WEFT_TOKEN", "")
	return startAnother(t)
}

func startAnother(t *testing.T) *server.Server {
	t.Helper()
	s, err := server.New(server.Config{GRPCAddr: "127.0.0.1:0", HTTPAddr: "127.0.0.1:0", DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	go func() { stopped <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
	return s
}

const documents = `
kind: Route
name: canary
service: product
spec:
  subsets: {v1: {version: v1}, v2: {version: v2}}
  rules:
    - split: [{subset: v1, weight: 90}, {subset: v2, weight: 10}]
---
kind: Retry
name: patient
service: product
spec: {attempts: 5}
`

// put registers an instance by REST, as weftctl does not.
func put(t *testing.T, id, body string) {
	t.Helper()
	o := &options{}
	c, err := o.connect()
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	r, err := http.NewRequestWithContext(t.Context(), "PUT", c.base+"/v1/services/product/instances/"+id, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+c.token)
	r.Header.Set("Content-Type", "application/json")
	answer, err := c.http.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusCreated {
		t.Fatal(answer.Status)
	}
}

// changing are the parts of the output that differ from run to run.
var changing = []struct {
	pattern *regexp.Regexp
	text    string
}{
	{regexp.MustCompile(`20\d\d-\d\d-\d\dT[0-9:.]+Z`), "TIME"},
	{regexp.MustCompile(`\b[0-9a-f]{8,16}-([0-9]+)\b`), "epoch-$1"},
	{regexp.MustCompile(`127\.0\.0\.1:\d{5}`), "127.0.0.1:PORT"},
	{regexp.MustCompile(`(KIND .*REVISION) +AGE`), "$1   AGE"}, // as wide as the epoch
	{regexp.MustCompile(`(epoch-\d) +(in )?\d+[smhd]\b`), "$1   AGE"},
}

// TestGolden runs one command after the other against one server, and compares what they print with
// testdata/golden.txt; -update writes it anew.
func TestGolden(t *testing.T) {
	start(t)
	put(t, "p1", `{"address": "127.0.0.1:9001", "protocol": "http", "labels": {"version": "v1"}, "locality": {"zone": "a"}}`)
	put(t, "p2", `{"address": "127.0.0.1:9002", "protocol": "http", "labels": {"version": "v2", "tier": "gold"}, "state": "draining", "weight": 7}`)
	bad := strings.NewReplacer("90", "80", "subset: v2", "subset: v3").Replace(documents)
	tr := &transcript{t: t}
	for _, c := range []struct{ stdin, args string }{
		{"", "get rules"},
		{documents, "apply -f -"},
		{documents, "apply -f -"},
		{strings.Replace(documents, "5", "4", 1), "apply -f -"},
		{bad, "apply -f -"},
		{strings.Replace(documents, "name: canary", "name: other", 1), "apply -f -"},
		{strings.Replace(documents, "split", "spilt", 1), "apply -f -"},
		{"", "get services"},
		{"", "get instances product"},
		{"", "get instances product -o json"},
		{"", "get instances product -o yaml"},
		{"", "get instances cart"},
		{"", "get rules"},
		{"", "get rules retry"},
		{"", "get rules retry -o name"},
		{"", "get instances product -o wide"},
		{"", "get instances product.default -o name"},
		{"", "get rules retry patient -o yaml"},
		{"", "get rules --service product -o json"},
		{"", "get rules retry impatient"},
		{"", "get rules nokind"},
		{"", "get services -n Shop"},
		{"", "get rules -n shop"},
		{"", "delete retry patient"},
		{documents, "delete -f -"},
		{"", "get rules -o json"},
		{"", "get rules -o yaml"},
		{"", "get"},
		{"", "get pods"},
		{"", "get instances"},
		{"", "apply"},
		{"", "delete route"},
		{"", "fetch"},
		{"", "get services -o xml"},
		{"", "get services --wide"},
		{"", "apply -f no-such-file.yaml"},
		{"", "get services --server ftp://x"},
	} {
		args := strings.Fields(c.args)
		tr.write(args, func() (int, string, string) { return ctl(t, c.stdin, args...) })
	}
	text := tr.out.String()
	for _, c := range changing {
		text = c.pattern.ReplaceAllString(text, c.text)
	}
	golden(t, "golden.txt", text)
}

// TestWhatIsShownCanBeApplied pipes get into apply.
func TestWhatIsShownCanBeApplied(t *testing.T) {
	start(t)
	if code, _, stderr := ctl(t, documents, "apply", "-f", "-"); code != 0 {
		t.Fatal(stderr)
	}
	for _, format := range []string{"yaml", "json"} {
		_, shown, _ := ctl(t, "", "get", "rules", "-o", format)
		code, stdout, stderr := ctl(t, shown, "apply", "-f", "-")
		if want := "retry/patient unchanged\nroute/canary unchanged\n"; code != 0 || stdout != want {
			t.Errorf("%s: %d %q %q", format, code, stdout, stderr)
		}
	}
}

func TestNamespace(t *testing.T) {
	start(t)
	if code, _, stderr := ctl(t, documents, "apply", "-n", "shop", "-f", "-"); code != 0 {
		t.Fatal(stderr)
	}
	if _, stdout, _ := ctl(t, "", "get", "rules", "-n", "shop", "-o", "yaml"); strings.Count(stdout, "namespace: shop") != 2 {
		t.Error(stdout)
	}
	stated := "namespace: other" + documents
	if code, _, stderr := ctl(t, stated, "apply", "-n", "shop", "-f", "-"); code != exitFailed || !strings.Contains(stderr, `"shop"`) {
		t.Error(code, stderr)
	}
	if code, _, stderr := ctl(t, stated, "delete", "-n", "shop", "-f", "-"); code != exitFailed || !strings.Contains(stderr, "--namespace") {
		t.Error(code, stderr)
	}
	if code, stdout, stderr := ctl(t, documents, "delete", "-n", "shop", "-f", "-"); code != 0 || stdout != "route/canary deleted\nretry/patient deleted\n" {
		t.Error(code, stdout, stderr)
	}
}

// TestPagesAreReadToTheEnd shows all pages as one list.
func TestPagesAreReadToTheEnd(t *testing.T) {
	serve(t, exchange{want: "GET /v1/services", answer: `{"items": [{"name": "a"}], "next": "a"}`},
		exchange{want: "GET /v1/services?after=a", answer: `{"items": [{"name": "b"}], "next": "b"}`},
		exchange{want: "GET /v1/services?after=b", answer: `{"items": [{"name": "c"}]}`})
	if code, stdout, stderr := ctl(t, "", "get", "services", "-o", "name"); code != 0 || stdout != "service/a\nservice/b\nservice/c\n" {
		t.Error(code, stdout, stderr)
	}
}

func TestNoContact(t *testing.T) {
	s := start(t)
	for _, c := range []struct {
		name string
		env  map[string]string
		args []string
		says string // "" is the control
	}{
		{"found by itself", nil, nil, ""},
		{"by flag", nil, []string{"--server", s.HTTPAddr()}, ""},
		{"by URL", nil, []string{"--server", "http://" + s.HTTPAddr() + "/"}, ""},
		{"by environment", map[string]string{"WEFT_HTTP": s.HTTPAddr()}, nil, ""},
		{"wrong token", map[string]string{"WEFT_TOKEN": "wrong"}, nil, "WEFT_TOKEN"},
		{"nobody there", map[string]string{"WEFT_TOKEN": "x", "WEFT_HTTP": closedPort(t)}, nil, "start one with registry-server"},
		{"no token for another address", map[string]string{"WEFT_HTTP": closedPort(t)}, nil, "set WEFT_TOKEN"},
		{"nothing written down", map[string]string{"XDG_CONFIG_HOME": t.TempDir()}, nil, "start one with registry-server"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for name, value := range c.env {
				t.Setenv(name, value)
			}
			code, _, stderr := ctl(t, "", append([]string{"get", "services"}, c.args...)...)
			if c.says == "" && code != 0 || c.says != "" && (code != exitFailed || !strings.Contains(stderr, c.says)) {
				t.Errorf("code %d, %q; want %q", code, stderr, c.says)
			}
		})
	}
}

// closedPort gives an address where nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	return lis.Addr().String()
}

func TestSeveralServers(t *testing.T) {
	start(t)
	second := startAnother(t)
	if code, _, stderr := ctl(t, "", "get", "services"); code != exitFailed || !strings.Contains(stderr, second.HTTPAddr()) || !strings.Contains(stderr, "--server") {
		t.Error(code, stderr)
	}
	if code, _, stderr := ctl(t, "", "get", "services", "--server", second.HTTPAddr()); code != 0 {
		t.Error(code, stderr)
	}
	// The default port wins over the others.
	f, err := credential.Read(port(t, second.GRPCAddr()))
	if err != nil {
		t.Fatal(err)
	}
	if err := credential.Write(defaultPort, f); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := ctl(t, "", "get", "services"); code != 0 {
		t.Error(code, stderr)
	}
}

func port(t *testing.T, address string) int {
	t.Helper()
	a, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return a.Port
}

// TestTheTokenStaysHere wants the token not to follow a redirect, and another answer than the registry's explained.
func TestTheTokenStaysHere(t *testing.T) {
	start(t)
	asked := false
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	defer other.Close()
	redirects := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer redirects.Close()
	t.Setenv("WEFT_TOKEN", "secret")
	code, _, stderr := ctl(t, "", "get", "services", "--server", redirects.URL)
	if code != exitFailed || !strings.Contains(stderr, "is not a registry server") || asked {
		t.Error(code, stderr, asked)
	}
	// The control: a client that follows redirects asks the other server.
	c, err := (&options{server: redirects.URL}).connect()
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	c.http.CheckRedirect = nil
	answer, err := c.http.Get(redirects.URL)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if !asked {
		t.Error("the redirect leads nowhere")
	}
}
