# Everything a newcomer needs: make run, make test. The work is in scripts/, so
# that it can be read and run without make.

PORT     ?= 8420
FUZZTIME ?= 60s

export PORT FUZZTIME

.DEFAULT_GOAL := help
.PHONY: coverage-report runtime help run stop build test test-short fmt lint fuzz bench bench-closure bench-load faults clean

help: ## Say what there is
	@echo 'make TARGET, with one of these targets:'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 18
	@echo 'Variables: PORT=$(PORT) of the server, FUZZTIME=$(FUZZTIME) for each fuzz target.'

run: ## Build Hallmark and the sample project, show its status, serve it
	@scripts/run

stop: ## End the server that make run started
	@scripts/stop

build: ## Compile bin/hallmark, the same bytes wherever the checkout lies
	@scripts/build

test: ## All tests and checks; installs what they need
	@scripts/test

test-short: ## Only the tests that need neither network nor root
	CGO_ENABLED=0 go test -short ./...

fmt: ## Format the Go files
	gofmt -w $$(git ls-files -co --exclude-standard '*.go')

lint: ## gofmt, go vet, staticcheck, govulncheck
	@scripts/lint

fuzz: ## Run each fuzz target for FUZZTIME
	@scripts/fuzz

coverage-report: ## Build 60 popular packages and write docs/coverage.md (most of an hour)
	@scripts/coverage-report

runtime: ## Build whole runtimes (Python, Perl, Ruby, Tcl) down to the C library and write docs/runtimes.md (hours; RUNTIMES="tcl" for some)
	@scripts/runtime

faults: ## 200 kills of a command and 50 of a server at random moments, every byte flipped: what make test does a part of
	HALLMARK_E2E_KILLS=200 HALLMARK_E2E_SERVER_KILLS=50 CGO_ENABLED=0 go test -count=1 -v -timeout 3h -run '^Test(Server)?Killed$$' ./internal/e2e
	HALLMARK_EVERY_BYTE=1 CGO_ENABLED=0 go test -count=1 -v -timeout 3h -run 'TestFlip|TestEveryCell' ./internal/app ./internal/store

bench: ## Measure against runc, Nix, a plain shell, Fromager and cosign; writes docs/performance.md
	@scripts/bench

bench-load: ## What a team's pages cost while 200 people look at them, about 4 minutes; part of bench
	@scripts/bench load

bench-closure: ## The same for the closure of 17 packages against Fromager, 10 to 30 minutes
	@scripts/bench closure

clean: ## End the server; remove bin/ and .hallmark/, the sample's data directory included
	@scripts/stop
	@chmod -R u+w .hallmark 2>/dev/null || true
	rm -rf bin .hallmark sample/hallmark.lock
