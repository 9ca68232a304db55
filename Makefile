# hookmesh. `make help` lists what there is to do.
SHELL := /bin/bash
TOOLS := $(CURDIR)/bin/tools
export PATH := $(TOOLS):$(PATH)
export CGO_ENABLED ?= 0

BUF_VERSION          := v1.75.0
PROTOC_GEN_GO        := v1.36.12
PROTOC_GEN_GO_GRPC   := v1.6.2
GRPC_GATEWAY_VERSION := v2.33.0
GOLANGCI_VERSION     := v2.15.0
GOVULNCHECK_VERSION  := v1.9.0

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
MODULES := gen services e2e
FUZZTIME ?= 10s

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

.PHONY: build
build: ## Build bin/hookmesh (no cgo)
	@mkdir -p bin
	cd services && go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o ../bin/hookmesh ./cmd/hookmesh

.PHONY: demo
demo: build ## A simulated wiki with bad webhooks, healed before your eyes, under a minute
	bin/hookmesh demo

.PHONY: up
up: build ## Leave a server running on 127.0.0.1:8080 (docs/example.yaml, data under ./data)
	bin/hookmesh up --config docs/example.yaml

.PHONY: test
test: ## Every test that needs nothing but Go, with the race detector where a C compiler is there
	./scripts/test.sh

.PHONY: test-kafka
test-kafka: ## The stages, moves, restores, failover and the tests of e2e/mesh over real Apache Kafka and PostgreSQL (needs Java 17 and Maven)
	cd services && go test -tags kafka -run 'Apache|Rolling' -timeout 12m ./internal/kafka/
	cd e2e && go test -tags kafka -run 'ApacheKafka|BackupOfPostgreSQL|FailsOver|SeparateProcesses' -timeout 20m ./topology/ ./mesh/
	cd e2e/deploy && GOWORK=off go test -tags kafka -timeout 8m ./traces/

.PHONY: mesh
mesh: build ## The production topology as plain processes: two of every service, three Kafka nodes, PostgreSQL, a TLS proxy
	cd e2e && go run ./cmd/mesh

.PHONY: mesh-test
mesh-test: ## The same while processes, brokers and the database are killed, frozen and cut off (MESH_EVENTS=20000, MESH_SEED=…)
	cd e2e && go test -count=1 -tags kafka -run TestMeshSurvives -v -timeout 60m ./topology/

.PHONY: mesh-pause
mesh-pause: ## How long a rolling restart of consumers holds up what becomes searchable
	cd e2e && go test -count=1 -tags kafka -run TestPause -v -timeout 15m ./topology/

.PHONY: bench-mesh
bench-mesh: ## Durable 202s per second over separate processes, real Kafka and PostgreSQL, beside the embedded mode, in one run
	cd e2e && go test -count=1 -tags kafka -run TestBenchMesh -v -timeout 20m ./topology/

.PHONY: bench-scale
bench-scale: ## Events per second and processor time per event with 1, 2 and 4 of each consumer
	cd e2e && go test -count=1 -tags kafka -run TestBenchScale -v -timeout 40m ./topology/

.PHONY: check-deploy
check-deploy: ## What is deployed, read by Prometheus' promtool, Alertmanager's amtool, Caddy and an OpenTelemetry Collector (builds them once, some minutes)
	./scripts/check-deploy.sh

.PHONY: test-image
test-image: ## Build the Dockerfile with buildah, without engine and registry, and run the image (needs root and buildah; minutes)
	./scripts/image.sh

.PHONY: test-jaeger
test-jaeger: ## Traces of the separate processes through the deployed collector's configuration into a real Jaeger, and logs to where Loki takes them (needs what test-kafka and test-postgres need)
	cd e2e/deploy && HOOKMESH_TEST_JAEGER=$$(../../scripts/tool.sh jaeger) GOWORK=off go test -tags kafka,jaeger -run 'Jaeger|Loki' -count=1 -timeout 8m ./traces/

.PHONY: test-monitoring
test-monitoring: ## A real Prometheus and Alertmanager with the deployed files over separate processes: alerts sent and taken back, dashboards (needs what test-kafka and test-postgres need; some minutes)
	cd e2e/deploy && HOOKMESH_TEST_PROMETHEUS=$$(../../scripts/tool.sh prometheus) HOOKMESH_TEST_ALERTMANAGER=$$(../../scripts/tool.sh alertmanager) \
		GOWORK=off go test -tags monitoring -count=1 -v -timeout 40m ./monitoring

.PHONY: deploy-test
deploy-test: ## Dashboards and alert rules against the metrics that the program exports, compose file, Helm chart
	cd e2e/deploy && GOWORK=off go test -timeout 8m ./...

.PHONY: scenarios
scenarios: ## Failures from the field against the built program, as a table (about a minute)
	@set -o pipefail; cd e2e && go test -tags scenarios -count=1 -v -parallel 4 -timeout 8m -run TestScenarios ./scenarios | grep -vE '^ *(=== |--- PASS)'

.PHONY: scenarios-kafka
scenarios-kafka: ## The same over separate processes on Apache Kafka and PostgreSQL (needs what test-kafka and test-postgres need; five to eight minutes)
	@set -o pipefail; cd e2e && go test -tags scenarios,kafka -count=1 -v -parallel 2 -timeout 20m -run TestScenariosApart ./scenarios | grep -vE '^ *(=== |--- PASS)'

.PHONY: bench
bench: build ## Throughput, latency, memory and size, as ratios to a baseline in the same run
	cd e2e && go test -run '^$$' -bench 'Durable202|WebhookToSearchable|Start' -benchtime 1x -timeout 30m ./bench/...

.PHONY: bench-sweep
bench-sweep: ## Compare SWEEP_DOCUMENTS (default 1,000,000, after a tenth of them) of a source with as many known ones: time and memory
	cd services && go test ./wiring -run '^$$' -bench Sweep -benchtime 1x -timeout 20m

.PHONY: bench-backfill
bench-backfill: ## Fill a new source of BACKFILL_PAGES (default 100,000) with a model that costs nothing: pages/s, and live events beside it
	cd e2e && go test -tags scenarios -run '^$$' -bench Backfill -benchtime 1x -timeout 40m ./scenarios

.PHONY: bench-move
bench-move: ## Export MOVE_DOCUMENTS (default 50,000) from SQLite and import them into PostgreSQL: time and memory (scripts/postgres.sh brings one)
	cd services && ../scripts/postgres.sh go test ./wiring -run '^$$' -bench Move -benchtime 1x -timeout 40m

.PHONY: bench-write
bench-write: ## What making a document searchable takes of PostgreSQL's processor time, beside a bare INSERT in the same run
	cd services && ../scripts/postgres.sh go test ./embedder/pgstore -run '^$$' -bench Write -benchtime 1x

.PHONY: bench-memory
bench-memory: ## Memory under MEMORY_TIME (default 60m) of edits: does it grow?
	cd e2e && MEMORY_TIME=$${MEMORY_TIME:-60m} go test -run '^$$' -bench Memory -benchtime 1x -timeout 3h ./bench/...

.PHONY: bench-herd
bench-herd: ## HERD_WEBHOOKS (default 60,000) at once upon a cold instance: all accounted for, memory, p99
	cd e2e && go test -run '^$$' -bench Herd -benchtime 1x -timeout 30m ./bench/...

.PHONY: bench-order
bench-order: ## Dedupe and sequencer by how much is known (HOOKMESH_BENCH_KNOWN=10000000 adds a size, HOOKMESH_BENCH_ROUNDS=5 repeats), and their latency
	cd services && go test -run '^$$' -bench 'Order' -benchtime 1x -timeout 60m ./wiring

SEED ?=
SIMTIME ?= 60s
.PHONY: sim
sim: ## Simulate the pipeline under faults for SIMTIME (default 60s), or repeat one run to the last step: SEED=…
	cd services && go test ./simulation -run 'TestSimulation$$' -count=1 -v $(if $(SEED),-sim.seed=$(SEED),-sim.runs=1000000 -sim.time=$(SIMTIME) -timeout 24h)

.PHONY: mutants
mutants: ## Put each deliberate bug of mutants/ into a copy and see that the tests catch it (minutes)
	./scripts/mutants.sh

.PHONY: test-postgres
test-postgres: ## The stores over a real PostgreSQL with pgvector (scripts/postgres.sh brings one)
	cd services && ../scripts/postgres.sh go test -timeout 5m -count=1 ./internal/postgres/... ./dedupe/pgstore ./sequencer/pgstore ./embedder/pgstore ./reconciler/pgstore ./verifier/pgstore ./wiring

.PHONY: test-power
test-power: ## Cut the power of a process between system calls, in a model of a disk, and see that SQLite's merge-trees lose nothing (needs strace; seconds)
	cd services && HOOKMESH_TEST_POWER=1 go test -count=1 -v -run TestAPowerCutLosesNothing ./internal/sqlite/lsm/

.PHONY: test-servers
test-servers: ## Gitea and Ghost as real servers: connectors, presets, and webhooks all the way to search (scripts/servers.sh installs them once, some minutes)
	./scripts/servers.sh go test -C services -tags servers -run Real -timeout 15m -count=1 -p 1 ./connector/gitea ./connector/ghost
	./scripts/servers.sh go test -C e2e -tags servers -run Real -timeout 15m -count=1 -v ./servers

.PHONY: sdks
sdks: ## Let the providers' own libraries sign deliveries (installs them from npm into a temporary directory)
	cd e2e && HOOKMESH_SDKS=1 go test -count=1 -timeout 5m ./sdks

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME (default 10s) each
	./scripts/fuzz.sh $(FUZZTIME)

.PHONY: generate
generate: $(TOOLS)/buf $(TOOLS)/plugins ## Generate gen/ from proto/
	buf generate

.PHONY: lint
lint: $(TOOLS)/buf $(TOOLS)/plugins $(TOOLS)/golangci-lint ## Lint protos and Go, and check that gen/ is fresh and go.mod files are tidy
	buf lint
	@mkdir -p bin && buf build -o bin/api.binpb --exclude-source-info
	buf breaking bin/api.binpb --against proto/released.binpb
	./scripts/check-generated.sh
	./scripts/check-modules.sh $(MODULES)
	./scripts/mutants.sh --check
	@for m in $(MODULES); do [ $$m = gen ] || (cd $$m && echo "golangci-lint $$m" && golangci-lint run --build-tags kafka,scenarios,servers --timeout 15m ./...) || exit 1; done

.PHONY: vuln
vuln: $(TOOLS)/govulncheck ## Look for known vulnerabilities (needs the Go vulnerability database)
	@for m in $(MODULES); do (cd $$m && govulncheck ./...) || exit 1; done

.PHONY: release-api
release-api: $(TOOLS)/buf ## Make today's proto files the ones that may not be broken
	buf build -o proto/released.binpb --exclude-source-info

$(TOOLS)/buf:
	GOBIN=$(TOOLS) go install github.com/bufbuild/buf/cmd/buf@$(BUF_VERSION)

$(TOOLS)/plugins:
	GOBIN=$(TOOLS) go install google.golang.org/protobuf/cmd/protoc-gen-go@$(PROTOC_GEN_GO)
	GOBIN=$(TOOLS) go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@$(PROTOC_GEN_GO_GRPC)
	GOBIN=$(TOOLS) go install github.com/grpc-ecosystem/grpc-gateway/v2/protoc-gen-grpc-gateway@$(GRPC_GATEWAY_VERSION) \
		github.com/grpc-ecosystem/grpc-gateway/v2/protoc-gen-openapiv2@$(GRPC_GATEWAY_VERSION)
	@touch $@

$(TOOLS)/golangci-lint:
	GOBIN=$(TOOLS) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)

$(TOOLS)/govulncheck:
	GOBIN=$(TOOLS) go install golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK_VERSION)

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin
