// Package deptest holds the rules of the house: which folder may import which, and why some never may. Its tests
// read the imports of the whole module with the go command and compare.
package deptest

// room is a folder and what its packages may import besides the standard library. Arrows point down only.
type room struct {
	folder string // relative to the module; folders below it belong to it unless they have a room of their own
	may    string // packages, separated by spaces; ours by folder, others by path; "/..." takes in what is below
	never  []ban  // also not through others
}

// ban is an import that must never come, and the reason.
type ban struct {
	path   string
	reason string
}

const (
	grpc     = "google.golang.org/grpc/... google.golang.org/protobuf/..."
	policies = "resilience/..."
)

var (
	noGRPC   = ban{"google.golang.org/grpc", "policies and rules serve both protocols and must be usable without either"}
	noHTTP   = ban{"net/http", "the engine serves both protocols; what is HTTP belongs in internal/httpweft"}
	noRule   = ban{"rule", "the schema meets policy in internal/plan only"}
	noAPI    = ban{"api", "the wire format of the session is no concern of calls"}
	noEngine = ban{"internal/engine", "the arrow points the other way"}
	stdOnly  = ban{"", "usable alone, with the standard library"}
)

// house is the table of DESIGN: every package of the module belongs to exactly one room.
var house = []room{
	{folder: "", may: "discovery/... rule balancer routing telemetry/... internal/engine internal/plan internal/callerr internal/grpcweft internal/httpweft " + grpc +
		" github.com/prometheus/client_golang/prometheus go.opentelemetry.io/otel/...",
		never: []ban{
			{"registry-server", "a library does not link its server"},
			{"internal/registry", "a library does not link its server"},
			{"wefttest", "what tests need links the server"},
			{"discovery/consul", "users without Consul must not link it"},
			{"discovery/dns", "an optional source is chosen by the program"},
			{"go.opentelemetry.io/otel/sdk", "the program chooses its telemetry SDK; the library needs the API alone"},
			{"github.com/danielgtaylor/huma", "REST is the server's"},
			{"go.etcd.io/bbolt", "storage is the server's"},
			{"google.golang.org/grpc/xds", "it adds 16 MB to every program"},
		}},
	{folder: "rule", may: "go.yaml.in/yaml/v3", never: []ban{noGRPC, {"discovery", "rules are read where no discovery is"}}},
	{folder: "rule/internal/ruledoc", may: "rule"},
	{folder: "api", may: grpc, never: []ban{{"discovery", "the wire format depends on nothing of ours"}}},
	{folder: "discovery", never: []ban{noGRPC, noAPI, {"balancer", "finding and choosing are two things"}}},
	{folder: "discovery/registry", may: "discovery rule internal/session internal/credential api/... " + grpc, never: []ban{noEngine}},
	{folder: "balancer", never: []ban{stdOnly}},
	{folder: "routing", may: "balancer", never: []ban{noRule, noGRPC, noHTTP}},
	{folder: "resilience", never: []ban{noRule, noGRPC, noHTTP, noEngine}},
	{folder: "telemetry", never: []ban{noEngine, noGRPC}},
	{folder: "telemetry/prom", may: "telemetry github.com/prometheus/client_golang/...", never: []ban{noEngine}},
	{folder: "telemetry/otel", may: "telemetry go.opentelemetry.io/otel/...",
		never: []ban{noEngine, {"go.opentelemetry.io/otel/sdk", "the program chooses its SDK"}}},
	{folder: "internal/engine", may: "routing balancer telemetry " + policies, never: []ban{noGRPC, noHTTP, noRule, noAPI}},
	{folder: "internal/plan", may: "rule discovery internal/engine routing balancer telemetry " + policies, never: []ban{noGRPC, noHTTP}},
	{folder: "internal/callerr", may: grpc, never: []ban{noEngine}},
	{folder: "internal/session", may: "api/... internal/session " + grpc, never: []ban{noEngine, noRule}},
	{folder: "internal/credential", never: []ban{noEngine, noGRPC}},
	{folder: "internal/grpcweft", may: "internal/engine internal/callerr balancer routing telemetry " + grpc,
		never: []ban{noRule, {"internal/httpweft", "what both protocols need belongs in the engine"}}},
	{folder: "internal/httpweft", may: "internal/engine internal/callerr balancer routing telemetry",
		never: []ban{noRule, {"internal/grpcweft", "what both protocols need belongs in the engine"}}},
	{folder: "internal/deptest"},
	{folder: "internal/faults"}, // tests alone
	{folder: "internal/registry", may: "api/... rule discovery internal/credential internal/registry/... " + grpc +
		" go.etcd.io/bbolt/... github.com/danielgtaylor/huma/v2/... github.com/prometheus/client_golang/... go.yaml.in/yaml/v3 golang.org/x/sync/errgroup golang.org/x/time/rate github.com/aymanbagabas/go-udiff",
		never: []ban{{"internal/grpcweft", "the server makes no calls through the mesh it serves"}, {"internal/session", "that is the client's end"}}},
	{folder: "wefttest", may: ". rule discovery internal/registry/... " + grpc,
		never: []ban{{"examples", "examples show it, not the other way round"}}},
	{folder: "deploy"}, // files and the tests that read them
	{folder: "docs"},   // likewise
	{folder: "registry-server", may: "internal/registry/..."},
	{folder: "cmd/weftctl", may: "rule discovery internal/credential github.com/spf13/cobra go.yaml.in/yaml/v3",
		never: []ban{noEngine, {"internal/registry", "it talks to the server by REST"}}},
	{folder: "examples", may: ". rule discovery telemetry/... " + grpc + " github.com/prometheus/client_golang/... go.opentelemetry.io/otel/...",
		never: []ban{{"internal/registry", "examples use what users can use"}}},
}
