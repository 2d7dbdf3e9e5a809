# Every target is a shorthand; nothing here is needed to build or use Weft.
.DEFAULT_GOAL := help
export GOWORK := off
MODULES = $(patsubst %/,%,$(dir $(shell git ls-files --cached --others --exclude-standard -- go.mod '*/go.mod')))

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: test
test: ## run the tests of the root module
	go test ./...

.PHONY: race
race: ## run them with the race detector, in a random order
	go test -race -shuffle=on ./...

.PHONY: lint
lint: ## check format, vet and linters; FIX=1 mends what can be mended
	.ci/run gofmt vet lint

.PHONY: generate
generate: ## write generated code and documents again
	go -C tools run ./protogen
	go generate ./rule/...

.PHONY: tidy
tidy: ## tidy every module
	@for m in $(MODULES); do (set -x; go -C $$m mod tidy); done

.PHONY: bench
bench: ## compare calls through Weft with bare grpc and net/http
	go -C bench test -run '^$$' -bench . -benchmem ./...

.PHONY: prove
prove: ## run the tests of promises (kill -9, lost writes, etcd beside us) in full; an hour
	WEFT_PROVE=full go test -count=1 -timeout=60m ./...
	WEFT_PROVE=full go -C bench/peers test -count=1 -timeout=60m -v ./...

.PHONY: quickstart
quickstart: ## start a registry and a small shop, and show what the mesh does
	go run ./examples/quickstart

.PHONY: tools
tools: ## build the pinned tools into ./bin
	GOBIN=$(CURDIR)/bin go -C tools install tool
	GOBIN=$(CURDIR)/bin go -C tools/lint install tool

.PHONY: ci
ci: ## run the whole gate, .ci/run
	.ci/run
