# Everything a contributor runs. `make help` lists it; CI runs .ci/run, which calls these targets.

BIN      := $(CURDIR)/.cache/bin
OUT      ?= airlock
ARGS     ?=
RACE     ?= ./...
FUZZTIME ?= 10s
TESTRUN  := go run ./testdata/testrun
# The programs that tests under the build tag "all" run, beside those that make tools builds, and the Debian
# package of each where it has another name.
SYSTEM   := skopeo,zstd,openssl,tar,containerd,docker-registry,pg_dump:postgresql,mosquitto,named:bind9,dnsmasq,nginx,nft:nftables,ip:iproute2,npm
# What a box runs (testdata/cluster/box): a real node.
BOX      := containerd,ctr:containerd,runc,/usr/lib/cni/bridge:containernetworking-plugins,iptables,ip:iproute2,nsenter:util-linux
# The connected side leaves on a medium what is carried into the box.
CARRY    := PATH="$(BIN):$$PATH" AIRLOCK_E2E_TOOL=$(CURDIR)/.cache/airlock-in-bundle AIRLOCK_E2E_MEDIUM=$(CURDIR)/.cache/medium
# Azure's blob service for tests; there is none in Go. 3.36 and later want a newer Node than Debian has.
AZURITE  := azurite@3.35.0
# go's "..." skips testdata, so the packages there are named; nested modules are not among them.
NESTED   := $(dir $(wildcard testdata/*/go.mod))
ALL      := ./... $(patsubst %/,./%,$(filter-out $(addsuffix %,$(NESTED)),$(sort $(dir $(wildcard testdata/*/*.go testdata/*/*/*.go)))))
# Kubernetes says which version it is only if it is told.
KUBE     := $(lastword $(shell grep -m1 k8s.io/kubernetes testdata/kube/go.mod))
KUBEVARS := -X k8s.io/component-base/version.gitVersion=$(KUBE) -X k8s.io/component-base/version.gitMajor=1 \
	-X k8s.io/component-base/version.gitMinor=$(word 2,$(subst ., ,$(KUBE))) -X k8s.io/component-base/version.gitTreeState=clean \
	-X k8s.io/client-go/pkg/version.gitVersion=$(KUBE)
# Version and commit come from the checkout, also where GOFLAGS says otherwise.
VCS      := $(shell git rev-parse --verify -q HEAD >/dev/null 2>&1 && echo true || echo false)

.DEFAULT_GOAL := help
.PHONY: help build demo test test-all e2e race fuzz lint bench cover schema tools servers cluster

help: ## list the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build ./airlock (OUT=FILE for another place)
	@$(VCS) || echo "build: git cannot read a commit of this directory, so the binary reports neither version nor commit" >&2
	CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -buildvcs=$(VCS) -o $(OUT) ./cmd/airlock

demo: ## create, verify, tamper, mirror, serve and install, with real output
	go run ./testdata/demo $(ARGS)

test: ## all tests that need only Go, make and git; skips nothing
	$(TESTRUN) $(ARGS) $(ALL)

test-all: ## all tests; needs programs of the system as well, and says which (root: network namespaces)
	@$(TESTRUN) -need $(SYSTEM)
	@$(MAKE) --no-print-directory tools servers cluster
	PATH="$(BIN):$$PATH" $(TESTRUN) -tags all $(ARGS) $(ALL)

e2e: ## tests on a real Kubernetes node without a way out, in namespaces; needs root, cgroup v1 and programs of the system
	@$(TESTRUN) -need $(BOX)
	@$(MAKE) --no-print-directory cluster
	go build -o $(BIN)/box ./testdata/cluster/box
	PATH="$(BIN):$$PATH" $(TESTRUN) -tags e2e -count=1 ./testdata/cluster/box
	PATH="$(BIN):$$PATH" $(TESTRUN) -tags e2e -count=1 -exec "$(BIN)/box --" $(ARGS) ./testdata/e2e
	@$(MAKE) --no-print-directory tools build OUT=.cache/airlock-in-bundle
	$(CARRY) $(TESTRUN) -tags e2e -count=1 -run '^TestOutside$$' $(ARGS) ./cmd/airlock
	$(CARRY) $(TESTRUN) -tags e2e -count=1 -exec "$(BIN)/box --" -run '^(TestEndToEnd|TestMirrorJobs|TestBootstrap)$$' $(ARGS) ./cmd/airlock

race: ## tests under the race detector (RACE=packages); needs a C compiler
	CGO_ENABLED=1 $(TESTRUN) -race -short $(ARGS) $(RACE)

fuzz: ## every fuzz target for FUZZTIME each
	go run ./testdata/fuzzrun -fuzztime $(FUZZTIME) ./...

lint: tools ## linters, formatting, go fix, go mod tidy: all must have nothing to say
	$(BIN)/golangci-lint run $(ALL)
	@d="$$(gofmt -l cmd manifests bundle verify mirror install testdata)"; test -z "$$d" || { echo "gofmt: $$d" >&2; exit 1; }
	go fix -diff -tags all,e2e $(ALL)
	go mod tidy -diff

bench: ## time, bytes written and peak memory beside cp, sha256sum and skopeo
	PATH="$(BIN):$$PATH" go run ./testdata/bench $(ARGS)

cover: ## statement coverage over all packages, in .cache/cover.out
	@mkdir -p .cache
	go test -coverpkg=./... -coverprofile=.cache/cover.out ./...
	go tool cover -func=.cache/cover.out | tail -n 1

schema: ## write the JSON Schemas of the documents from the types
	go generate ./manifests/...

tools: ## build what testdata/tools pins into .cache/bin
	@mkdir -p $(BIN)
	GOBIN=$(BIN) CGO_ENABLED=0 go -C testdata/tools install -trimpath tool

servers: ## build the servers that tests run into .cache/bin: MinIO, versitygw, fake-gcs-server, Azurite
	@mkdir -p $(BIN)
	GOBIN=$(BIN) CGO_ENABLED=0 go -C testdata/storage install -trimpath tool
	GOBIN=$(BIN) CGO_ENABLED=0 go -C testdata/minio install -trimpath tool
	npm install --silent --no-audit --no-fund --prefix .cache/node $(AZURITE)
	ln -sf ../node/node_modules/.bin/azurite-blob $(BIN)/azurite-blob

cluster: ## build kubebox, a whole Kubernetes in one program, into .cache/bin (ten minutes and 3 GB of memory the first time)
	@mkdir -p $(BIN)
	CGO_ENABLED=0 go -C testdata/kube build -trimpath -ldflags="-s -w $(KUBEVARS)" -o $(BIN)/kubebox ./kubebox
