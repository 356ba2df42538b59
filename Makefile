# Everything that is built, checked and measured in this project. `make test` is what CI runs.

SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := build
.DELETE_ON_ERROR:

# A clone whose owner is somebody else (containers) must build as well, so no version control stamps.
export GOFLAGS += -buildvcs=false

TOOLS       := $(CURDIR)/.tools
BUILD       := $(CURDIR)/.build
NODE        := test/compat/node
GOFUMPT     := $(TOOLS)/gofumpt-v0.12.0
STATICCHECK := $(TOOLS)/staticcheck-v0.8.2

FUZZTIME ?= 3s
SOAK     ?= 20
BENCH    ?= echo

# Packages whose statements must be covered to the percentage that test/gate asks for.
COVERED := wire placement auth

.PHONY: help build fmt lint test unit node compat compat-clustered cluster faults cover fuzz gate npm tools bench bench-peers soak demo clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

build: ## the binary, as bin/trunkline
	go build -trimpath -o bin/trunkline ./cmd/trunkline

demo: ## a small world with two deaths to watch
	go run ./cmd/trunkline demo

fmt: $(GOFUMPT) ## format the tree
	$(GOFUMPT) -w .

# ---------------------------------------------------------------- what CI runs

# The order: what fails in seconds first, what judges the logs of everything else last. The last lines are go test's.
test: lint npm cover fuzz unit node compat compat-clustered faults cluster gate ## install and run everything that CI runs

lint: $(GOFUMPT) $(STATICCHECK) ## formatting, go vet, staticcheck, import law
	@unformatted=$$($(GOFUMPT) -l .); \
	if [ -n "$$unformatted" ]; then echo "gofumpt wants changes (make fmt):"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	$(STATICCHECK) ./...
	go test -count=1 .

# Each run leaves its whole output in .build/logs, where `make gate` looks for secrets; the terminal gets the lines that
# go test prints without -v, and everything of a package that failed.
# Tests in which a node moves to another address skip with the detector, say why, and run without it.
unit: ## every Go test that needs no process, with the race detector
	@$(call logged,unit,go test -race -count=1 -timeout 10m -v $$(go list ./... | grep -v -e /test/compat -e /test/node -e /test/cluster -e /test/faults -e /test/gate))
	@$(call logged,unit-moves,go test -count=1 -timeout 5m -v -run 'Address' ./cluster ./cluster/consensus)

node: ## whole nodes as processes: deaths, order, restarts, hostile peers
	@$(call logged,node,$(PROCESSES)/node go test -count=1 -timeout 12m -v ./test/node)

compat: npm ## the published npm packages and old protocols against a real process
	@$(call logged,compat,$(PROCESSES)/compat go test -count=1 -timeout 12m -v ./test/compat/...)

compat-clustered: npm ## the same, every node being three, with clients and backends each at another one
	@$(call logged,compat-clustered,$(PROCESSES)/compat-clustered TRUNKLINE_CLUSTERED=1 go test -count=1 -timeout 12m -v ./test/compat)

# Without the race detector: what it asks for are times. Where namespaces are not allowed its tests skip and say why.
cluster: ## several nodes as processes in networks and on disks that break (wants root)
	@$(call logged,cluster,env TRUNKLINE_LOGS=$(BUILD)/logs/cluster go test -count=1 -parallel 2 -timeout 12m -v ./test/cluster)

faults: ## the control plane of several nodes in one process, on a network and disks in memory that break
	@$(call logged,faults,go test -count=1 -parallel 4 -timeout 12m -v ./test/faults)

# The binary that node and compat start has the race detector, and what it logs is kept.
PROCESSES := env TRUNKLINE_RACE=1 TRUNKLINE_LOGS=$(BUILD)/logs

cover: ## statement coverage of the packages that have a floor
	@mkdir -p $(BUILD)
	@for group in $(COVERED); do \
	  go test -count=1 -coverpkg=./$$group/... -coverprofile=$(BUILD)/cover-$$group.out ./$$group/...; \
	done

# Go's fuzzer may report "context deadline exceeded" when its time ends while a worker is busy. That is no finding: a
# finding names the input it wrote.
fuzz: ## every fuzz target, FUZZTIME (3s) each
	@mkdir -p $(BUILD); out=$(BUILD)/fuzz.out; \
	grep -rlE '^func Fuzz[A-Z]' --include='*_test.go' --exclude-dir=node_modules --exclude-dir='.*' * | sort | while read -r file; do \
	  for target in $$(sed -nE 's/^func (Fuzz[A-Za-z0-9_]+)\(.*/\1/p' "$$file"); do \
	    echo "fuzz $$target ($$(dirname "$$file"), $(FUZZTIME))"; \
	    if ! go test -vet=off -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x "./$$(dirname "$$file")" </dev/null >$$out 2>&1; then \
	      cat $$out; \
	      if grep -q 'Failing input written' $$out || ! grep -q 'context deadline exceeded' $$out; then exit 1; fi; \
	    fi; \
	  done; \
	done

gate: ## what must hold of the project itself: coverage floors, guarantees and their tests, no secret in any log
	TRUNKLINE_LOGS=$(BUILD)/logs TRUNKLINE_COVER=$(BUILD) go test -count=1 ./test/gate

# $(call logged,NAME,COMMAND): see `unit`.
define logged
mkdir -p $(BUILD)/logs; rm -rf $(BUILD)/logs/$(1).log $(BUILD)/logs/$(1); \
if ! $(2) 2>&1 | tee $(BUILD)/logs/$(1).log | grep --line-buffered -E '^(ok|FAIL|\?|panic:|--- FAIL|\s+--- FAIL)'; then \
  grep -vE '^\s*(=== (RUN|PAUSE|CONT|NAME)|--- (PASS|SKIP))' $(BUILD)/logs/$(1).log | tail -n 400; \
  grep -E '^(FAIL|ok|--- FAIL)' $(BUILD)/logs/$(1).log | tail -n 40; exit 1; \
fi
endef

# ---------------------------------------------------------------- what is run by hand

bench: build ## measure: make bench BENCH="echo --conns 100"
	bin/trunkline bench $(BENCH)

bench-peers: build ## the same beside HAProxy and nginx (installs Debian's packages)
	@missing=; for peer in haproxy nginx; do command -v $$peer >/dev/null || missing="$$missing $$peer"; done; \
	if [ -n "$$missing" ]; then \
	  if [ "$$(id -u)" = 0 ]; then apt-get install -y --no-install-recommends $$missing; \
	  else sudo apt-get install -y --no-install-recommends $$missing; fi; \
	fi
	bin/trunkline bench $(BENCH) --peers

soak: npm ## the compatibility suite and every story of test/cluster and test/faults SOAK (20) times over, stories longer and each with another seed
	TRUNKLINE_RACE=1 go test -count=$(SOAK) -timeout 0 ./test/compat/...
	TRUNKLINE_SOAK=$(SOAK) go test -count=1 -parallel 2 -timeout 0 ./test/cluster
	TRUNKLINE_SOAK=$(SOAK) go test -count=1 -parallel 4 -timeout 0 ./test/faults

# ---------------------------------------------------------------- what the above needs

tools: $(GOFUMPT) $(STATICCHECK) ## the pinned tools, in .tools

$(GOFUMPT):
	GOBIN=$(TOOLS) go install mvdan.cc/gofumpt@v0.12.0
	mv $(TOOLS)/gofumpt $@

$(STATICCHECK):
	GOBIN=$(TOOLS) go install honnef.co/go/tools/cmd/staticcheck@v0.8.2
	mv $(TOOLS)/staticcheck $@

npm: $(NODE)/node_modules/.package-lock.json ## the npm packages, exactly as locked

$(NODE)/node_modules/.package-lock.json: $(NODE)/package-lock.json
	cd $(NODE) && npm ci --no-audit --no-fund --ignore-scripts
	touch $@

clean: ## remove what make wrote
	rm -rf $(TOOLS) $(BUILD) bin $(NODE)/node_modules
