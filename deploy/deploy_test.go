package deploy

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// The ports of the server, wherever they are said.
const (
	grpcPort = 7070
	httpPort = 7080
)

// finding says what is wrong with a file.
type finding = string

// serverFlags are those of registry-server as it is.
func serverFlags() (map[string]bool, error) {
	bin, err := serverBinary()
	if err != nil {
		return nil, err
	}
	out, err := exec.Command(bin, "--help").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	flags := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^  -([a-z-]+)`).FindAllSubmatch(out, -1) {
		flags[string(m[1])] = true
	}
	if !flags["data-dir"] {
		return nil, fmt.Errorf("no flags in %s", out)
	}
	return flags, nil
}

// serverBinary builds the server when it is first wanted.
var serverBinary func() (string, error)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "weft-deploy-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	serverBinary = sync.OnceValues(func() (string, error) {
		path := filepath.Join(dir, "registry-server")
		if out, err := exec.Command("go", "build", "-o", path, "../registry-server").CombinedOutput(); err != nil {
			return "", fmt.Errorf("go build: %w: %s", err, out)
		}
		return path, nil
	})
	return m.Run()
}

var (
	flagWord     = regexp.MustCompile(`(?:^|[\s\[,"])--([a-z][a-z-]+)`)
	variableWord = regexp.MustCompile(`WEFT_SERVER_([A-Z_]+)`)
)

// unknownFlags finds flags, and variables that stand for flags, that the server does not have.
func unknownFlags(flags map[string]bool, text string, notOurs ...string) (found []finding) {
	var used []string
	for _, m := range flagWord.FindAllStringSubmatch(text, -1) {
		used = append(used, m[1])
	}
	for _, m := range variableWord.FindAllStringSubmatch(text, -1) {
		used = append(used, strings.ToLower(strings.ReplaceAll(strings.TrimSuffix(m[1], "_"), "_", "-")))
	}
	for _, f := range used {
		if !flags[f] && !slices.Contains(notOurs, f) {
			found = append(found, "registry-server has no --"+f)
		}
	}
	return found
}

// unit is a systemd unit: the values of each key, in order, an empty one included.
type unit map[string][]string

func parseUnit(text string) (unit, error) {
	u := unit{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, "[") {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			return nil, fmt.Errorf("line %q: want key=value", line)
		}
		u[key] = append(u[key], value)
	}
	return u, nil
}

// hardening is what the unit must say, and nothing weaker.
var hardening = map[string]string{
	"Type": "notify", "NotifyAccess": "main", "DynamicUser": "yes", "StateDirectory": "weft-registry", "StateDirectoryMode": "0700", "UMask": "0077",
	"ProtectSystem": "strict", "ProtectHome": "yes", "PrivateTmp": "yes", "PrivateDevices": "yes", "PrivateUsers": "yes",
	"ProtectClock": "yes", "ProtectControlGroups": "yes", "ProtectHostname": "yes", "ProtectKernelLogs": "yes", "ProtectKernelModules": "yes",
	"ProtectKernelTunables": "yes", "ProtectProc": "invisible", "NoNewPrivileges": "yes", "CapabilityBoundingSet": "", "AmbientCapabilities": "",
	"RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX", "RestrictNamespaces": "yes", "RestrictRealtime": "yes", "RestrictSUIDSGID": "yes",
	"LockPersonality": "yes", "MemoryDenyWriteExecute": "yes", "SystemCallArchitectures": "native", "LimitNOFILE": "65536", "LimitCORE": "0",
	"WatchdogSec": "30s", "Restart": "on-failure",
}

func checkUnit(text string) (found []finding) {
	u, err := parseUnit(text)
	if err != nil {
		return []finding{err.Error()}
	}
	for key, want := range hardening {
		if got := u[key]; len(got) != 1 || got[0] != want {
			found = append(found, fmt.Sprintf("%s=%q, want %q once", key, got, want))
		}
	}
	if got := u["SystemCallFilter"]; !slices.Equal(got, []string{"@system-service", "~@privileged @resources"}) {
		found = append(found, fmt.Sprintf("SystemCallFilter=%q", got))
	}
	if got := u["ExecStart"]; len(got) != 1 || !strings.HasPrefix(got[0], "/") || !strings.Contains(got[0], "--data-dir ${STATE_DIRECTORY}") {
		found = append(found, fmt.Sprintf("ExecStart=%q: want an absolute path and the state directory", got))
	}
	return found
}

var (
	pinned   = regexp.MustCompile(`^[a-z0-9./-]+:[A-Za-z0-9._-]+$`)
	fromLine = regexp.MustCompile(`(?m)^FROM (?:--platform=\S+ )?(\S+)`)
)

// pinnedImage reports whether an image has a tag that says which it is.
func pinnedImage(image string) bool {
	return pinned.MatchString(image) && !strings.HasSuffix(image, ":latest")
}

func checkDockerfile(text string) (found []finding) {
	stages := fromLine.FindAllStringSubmatch(text, -1)
	if len(stages) != 2 {
		found = append(found, fmt.Sprintf("%d stages, want 2", len(stages)))
	}
	for _, s := range stages {
		if !pinnedImage(s[1]) {
			found = append(found, "image "+s[1]+" is not pinned by a tag")
		}
	}
	for _, want := range []string{
		`(?m)^FROM gcr\.io/distroless/static-debian12:nonroot$`, `CGO_ENABLED=0`, `-trimpath`, `(?m)^USER 65532:65532$`, `(?m)^VOLUME /data$`,
		fmt.Sprintf(`(?m)^EXPOSE %d %d$`, grpcPort, httpPort), fmt.Sprintf(`WEFT_SERVER_GRPC_ADDR=:%d\b`, grpcPort), fmt.Sprintf(`WEFT_SERVER_HTTP_ADDR=:%d\b`, httpPort),
		`WEFT_SERVER_DATA_DIR=/data/`, `(?m)^HEALTHCHECK NONE$`, `(?m)^ENTRYPOINT \["/registry-server"\]$`, `--chown=65532:65532 /out/data /data`,
	} {
		if !regexp.MustCompile(want).MatchString(text) {
			found = append(found, "nothing matches "+want)
		}
	}
	return found
}

// object is a Kubernetes object, or a part of one.
type object = map[string]any

func parseManifests(text string) (list []object, err error) {
	d := yaml.NewDecoder(strings.NewReader(text))
	for {
		var o object
		switch err := d.Decode(&o); {
		case errors.Is(err, io.EOF):
			return list, nil
		case err != nil:
			return nil, err
		}
		list = append(list, o)
	}
}

// at finds a value by its path, such as "spec.template.spec.containers.0.image"; nil if there is none.
func at(v any, path string) any {
	for step := range strings.SplitSeq(path, ".") {
		switch x := v.(type) {
		case object:
			v = x[step]
		case []any:
			i := int(step[0] - '0')
			if len(step) != 1 || i < 0 || i >= len(x) {
				return nil
			}
			v = x[i]
		default:
			return nil
		}
	}
	return v
}

// wanted is what each kind must say, by path; values are compared as text.
var wanted = map[string]map[string]any{
	"Namespace":      {"metadata.labels": "map[pod-security.kubernetes.io/audit:restricted pod-security.kubernetes.io/enforce:restricted pod-security.kubernetes.io/warn:restricted]"},
	"ServiceAccount": {"automountServiceAccountToken": false},
	"PodDisruptionBudget": {
		"spec.maxUnavailable": 1, "spec.minAvailable": nil, "spec.selector.matchLabels": selector, "spec.unhealthyPodEvictionPolicy": "AlwaysAllow",
	},
	"NetworkPolicy": {
		"spec.podSelector.matchLabels": selector, "spec.policyTypes": "[Ingress Egress]", "spec.egress": "[]",
		"spec.ingress.0.ports": fmt.Sprintf("[map[port:%d protocol:TCP]]", grpcPort),
		"spec.ingress.1.ports": fmt.Sprintf("[map[port:%d protocol:TCP]]", httpPort),
		"spec.ingress.1.from":  `[map[namespaceSelector:map[matchLabels:map[weft/operators:true]]]]`,
		"spec.ingress.2":       nil,
	},
	"StatefulSet": {
		"spec.replicas": 1, "spec.serviceName": "weft-registry-pods",
		"spec.selector.matchLabels": selector, "spec.template.metadata.labels": selector,
		"spec.persistentVolumeClaimRetentionPolicy.whenDeleted":  "Retain",
		"spec.volumeClaimTemplates.0.spec.accessModes":           "[ReadWriteOncePod]",
		"spec.volumeClaimTemplates.0.metadata.name":              "data",
		"spec.template.spec.serviceAccountName":                  "weft-registry",
		"spec.template.spec.automountServiceAccountToken":        false,
		"spec.template.spec.hostNetwork":                         nil,
		"spec.template.spec.hostPID":                             nil,
		"spec.template.spec.volumes":                             nil,
		"spec.template.spec.initContainers":                      nil,
		"spec.template.spec.securityContext.runAsNonRoot":        true,
		"spec.template.spec.securityContext.runAsUser":           65532,
		"spec.template.spec.securityContext.fsGroup":             65532,
		"spec.template.spec.securityContext.fsGroupChangePolicy": "OnRootMismatch",
		"spec.template.spec.securityContext.seccompProfile.type": "RuntimeDefault",
		"spec.template.spec.containers.1":                        nil,
		container + "securityContext.allowPrivilegeEscalation":   false,
		container + "securityContext.readOnlyRootFilesystem":     true,
		container + "securityContext.capabilities":               "map[drop:[ALL]]",
		container + "securityContext.privileged":                 nil,
		container + "ports":                                      fmt.Sprintf("[map[containerPort:%d name:grpc] map[containerPort:%d name:https]]", grpcPort, httpPort),
		container + "startupProbe.httpGet":                       "map[path:/readyz port:https scheme:HTTPS]",
		container + "readinessProbe.httpGet":                     "map[path:/readyz port:https scheme:HTTPS]",
		container + "livenessProbe.httpGet":                      "map[path:/healthz port:https scheme:HTTPS]",
		container + "resources.requests.cpu":                     "100m",
		container + "resources.requests.memory":                  "128Mi",
		container + "resources.limits.memory":                    "512Mi",
		container + "volumeMounts":                               "[map[mountPath:/data name:data]]",
		container + "args":                                       fmt.Sprintf("[--grpc-addr=:%d --http-addr=:%d --data-dir=/data/store --log-format=json]", grpcPort, httpPort),
	},
	"Service": {"spec.selector": selector, "spec.type": nil},
}

const (
	selector  = "map[app.kubernetes.io/name:weft-registry]"
	container = "spec.template.spec.containers.0."
)

// checkManifests looks at all manifests together.
func checkManifests(text string) (found []finding) {
	list, err := parseManifests(text)
	if err != nil {
		return []finding{err.Error()}
	}
	kinds := map[string]int{}
	for _, o := range list {
		kind := fmt.Sprint(o["kind"])
		kinds[kind]++
		if wanted[kind] == nil {
			found = append(found, "nobody looks at the kind "+kind)
		}
		for path, want := range wanted[kind] {
			if got := at(o, path); fmt.Sprint(got) != fmt.Sprint(want) {
				found = append(found, fmt.Sprintf("%s: %s is %v, want %v", kind, path, got, want))
			}
		}
		if kind != "Namespace" && at(o, "metadata.namespace") != "weft" {
			found = append(found, kind+" is in no namespace")
		}
		found = append(found, checkPorts(o)...)
	}
	for kind := range wanted {
		if kinds[kind] == 0 {
			found = append(found, "there is no "+kind)
		}
	}
	return found
}

// checkPorts looks at the ports of services and at the image.
func checkPorts(o object) (found []finding) {
	if image := at(o, container+"image"); o["kind"] == "StatefulSet" && !pinnedImage(fmt.Sprint(image)) {
		found = append(found, fmt.Sprintf("image %v is not pinned by a tag", image))
	}
	if o["kind"] != "Service" {
		return found
	}
	ports, _ := at(o, "spec.ports").([]any)
	for _, p := range ports {
		name, port, target := at(p, "name"), at(p, "port"), at(p, "targetPort")
		if want := map[any]int{"grpc": grpcPort, "https": httpPort}[name]; port != want || target != name {
			found = append(found, fmt.Sprintf("service port %v", p))
		}
	}
	if len(ports) == 0 {
		found = append(found, "a service has no ports")
	}
	return found
}

// read joins the files of a folder with a suffix.
func read(t *testing.T, pattern string) string {
	t.Helper()
	names, err := fs.Glob(Files, pattern)
	if err != nil || len(names) == 0 {
		t.Fatalf("%s: %v, %v", pattern, names, err)
	}
	var all bytes.Buffer
	for _, name := range names {
		data, err := Files.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&all, "---\n%s\n", data)
	}
	return strings.TrimPrefix(all.String(), "---\n")
}

// checks are all of them, by the files that they look at. Each mutation is a weakness that the check must find: its
// control.
var checks = []struct {
	files     string
	check     func(string) []finding
	mutations [][2]string
}{
	{"systemd/weft-registry.service", checkUnit, [][2]string{
		{"NoNewPrivileges=yes", "NoNewPrivileges=no"}, {"ProtectSystem=strict", "ProtectSystem=full"}, {"DynamicUser=yes\n", ""},
		{"Type=notify", "Type=simple"}, {"WatchdogSec=30s\n", ""}, {"CapabilityBoundingSet=\n", "CapabilityBoundingSet=CAP_NET_ADMIN\n"},
		{"SystemCallFilter=~@privileged @resources\n", ""}, {" --data-dir ${STATE_DIRECTORY}", ""}, {"LimitNOFILE=65536", "LimitNOFILE=1024"},
		{"AF_INET AF_INET6 AF_UNIX", "AF_INET AF_NETLINK"},
	}},
	{"docker/Dockerfile", checkDockerfile, [][2]string{
		{":nonroot", ":latest"}, {"golang:1.26.8-bookworm", "golang"}, {"USER 65532:65532\n", ""}, {"CGO_ENABLED=0", "CGO_ENABLED=1"}, {"-trimpath ", ""},
		{"EXPOSE 7070 7080", "EXPOSE 7070"}, {"WEFT_SERVER_HTTP_ADDR=:7080", "WEFT_SERVER_HTTP_ADDR=:8080"}, {"VOLUME /data\n", ""},
	}},
	{"kubernetes/*.yaml", checkManifests, [][2]string{
		{"runAsNonRoot: true", "runAsNonRoot: false"}, {"drop: [ALL]", "drop: [NET_RAW]"}, {"readOnlyRootFilesystem: true\n", "readOnlyRootFilesystem: false\n"},
		{"registry-server:0.3.0", "registry-server:latest"}, {"registry-server:0.3.0", "registry-server"}, {"containerPort: 7070", "containerPort: 7071"},
		{"port: 7080, targetPort: https", "port: 8080, targetPort: https"}, {"path: /readyz", "path: /healthz"}, {"scheme: HTTPS", "scheme: HTTP"},
		{"maxUnavailable: 1", "minAvailable: 1"}, {"egress: []", "egress: [{}]"}, {"replicas: 1", "replicas: 2"}, {"limits: {memory: 512Mi}", "limits: {}"},
		{"      automountServiceAccountToken: false\n", ""}, {"kind: ServiceAccount\n", "kind: Secret\n"}, {"enforce: restricted", "enforce: baseline"},
		{"--http-addr=:7080", "--http-addr=:7081"}, {"fsGroupChangePolicy: OnRootMismatch", "fsGroupChangePolicy: Always"},
	}},
}

func TestHardening(t *testing.T) {
	for _, c := range checks {
		text := read(t, c.files)
		for _, f := range c.check(text) {
			t.Errorf("%s: %s", c.files, f)
		}
		for _, m := range c.mutations {
			weak := strings.ReplaceAll(text, m[0], m[1])
			if weak == text {
				t.Errorf("%s: control: there is no %q", c.files, m[0])
			} else if len(c.check(weak)) == 0 {
				t.Errorf("%s: control: nothing is found with %q in place of %q", c.files, m[1], m[0])
			}
		}
	}
}

// Every flag that a file uses is one of the server's.
func TestFlagsExist(t *testing.T) {
	flags, err := serverFlags()
	if err != nil {
		t.Fatal(err)
	}
	for _, files := range []string{"systemd/*", "docker/Dockerfile", "kubernetes/*.yaml"} {
		for _, f := range unknownFlags(flags, uncommented(read(t, files)), "platform", "chown", "from") {
			t.Errorf("%s: %s", files, f)
		}
	}
	if len(unknownFlags(flags, "ExecStart=/registry-server --no-such-flag\nENV WEFT_SERVER_NEITHER=1")) != 2 {
		t.Error("control: flags that are not there were not found")
	}
}

// uncommented leaves comments in, but not those that speak of other programs' flags.
func uncommented(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if trimmed := strings.TrimSpace(line); !strings.HasPrefix(trimmed, "#") || strings.Contains(trimmed, "WEFT_SERVER_") && !strings.Contains(trimmed, "<FLAG>") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// The server runs with the arguments of the manifest, where nobody has a home and on a volume that the group may write, and
// answers the probes as the kubelet asks them: over TLS, in plaintext never.
func TestArgumentsServe(t *testing.T) {
	volume := t.TempDir()
	if err := os.Chmod(volume, os.ModeSetgid|0o770); err != nil {
		t.Fatal(err)
	}
	list, err := parseManifests(read(t, "kubernetes/statefulset.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	grpcAddr, httpAddr := freeAddr(t), freeAddr(t)
	change := strings.NewReplacer("=:7070", "="+grpcAddr, "=:7080", "="+httpAddr, "=/data/", "="+volume+"/")
	var args []string
	for _, a := range at(list[0], container+"args").([]any) {
		args = append(args, change.Replace(a.(string)))
	}
	bin, err := serverBinary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, args...)
	cmd.Env = []string{"HOME=/nonexistent", "GOMEMLIMIT=400MiB"}
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true}}} // the kubelet does not look either
	defer func() {
		if err := errors.Join(cmd.Process.Signal(syscall.SIGTERM), cmd.Wait()); err != nil {
			t.Errorf("it did not end well: %v\n%s", err, &log)
		}
	}()
	_, port, _ := net.SplitHostPort(httpAddr)
	for _, path := range []string{"/readyz", "/healthz"} {
		if code, err := ask(&client, "https://127.0.0.1:"+port+path); code != http.StatusOK {
			t.Errorf("%s: %d, %v", path, code, err)
		}
	}
	if resp, err := client.Get("http://127.0.0.1:" + port + "/readyz"); err == nil && resp.StatusCode == http.StatusOK {
		t.Error("control: it answers in plaintext too")
	}
}

// ask repeats a request for up to 20 s until it is answered with 200.
func ask(client *http.Client, url string) (code int, err error) {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		var resp *http.Response
		if resp, err = client.Get(url); err != nil {
			continue
		}
		resp.Body.Close()
		if code = resp.StatusCode; code == http.StatusOK {
			return code, nil
		}
	}
	return code, err
}

// freeAddr is of all interfaces, as in the manifest.
func freeAddr(t *testing.T) string {
	t.Helper()
	lis, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	return fmt.Sprintf(":%d", lis.Addr().(*net.TCPAddr).Port)
}

// Nothing that holds secrets or is not needed is sent to the builder of the image.
func TestDockerIgnore(t *testing.T) {
	text := read(t, "docker/Dockerfile.dockerignore")
	lines := strings.Split(strings.TrimSpace(text), "\n")
	lines = slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, "#") })
	if lines[0] != "*" {
		t.Errorf("it begins with %q, want everything left out first", lines[0])
	}
	for _, secret := range []string{"weft-data/admin.token", "weft-data/server.pem", ".git/config", "bench/go.mod"} {
		if sent(lines, secret) {
			t.Errorf("%s would be sent", secret)
		}
	}
	for _, needed := range []string{"go.mod", "go.sum", "registry-server/main.go", "weft.go"} {
		if !sent(lines, needed) {
			t.Errorf("%s would not be sent", needed)
		}
	}
}

// sent follows the patterns of the ignore file, as far as ours need: the last that matches decides.
func sent(patterns []string, file string) bool {
	in := true
	for _, p := range patterns {
		name, again := strings.CutPrefix(p, "!")
		if matches(name, file) {
			in = again
		}
	}
	return in
}

func matches(pattern, file string) bool {
	if rest, anywhere := strings.CutPrefix(pattern, "**/"); anywhere {
		ok, _ := path.Match(rest, path.Base(file))
		return ok
	}
	first, _, _ := strings.Cut(file, "/")
	ok, _ := path.Match(pattern, first)
	return ok
}

// The tools say what they think of the files, where they are there. Docker and kubectl would need a daemon or a cluster
// for that; they are not asked.
func TestSystemdAgrees(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze is not here: the unit was not shown to systemd")
	}
	text := read(t, "systemd/weft-registry.service")
	stand := writeUnit(t, strings.Replace(text, "/usr/local/bin/registry-server", "/bin/true", 1)) // the binary must be there
	if out, err := exec.Command("systemd-analyze", "verify", "--man=no", stand).CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 {
		t.Errorf("verify: %v\n%s", err, out)
	}
	security := func(file string) ([]byte, error) {
		return exec.Command("systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold=20", file).CombinedOutput()
	}
	if out, err := security(stand); err != nil {
		t.Errorf("exposure above 2.0: %v\n%s", err, out)
	}
	weak := writeUnit(t, strings.NewReplacer("/usr/local/bin/registry-server", "/bin/true", "SystemCallFilter=", "#", "ProtectSystem=strict\n", "",
		"PrivateUsers=yes\n", "", "RestrictNamespaces=yes\n", "").Replace(text))
	if _, err := security(weak); err == nil {
		t.Error("control: a weaker unit passes too")
	}
}

func writeUnit(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "weft-registry.service")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
