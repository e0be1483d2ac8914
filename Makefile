# What people type. Every target says what it is about to do; `make` alone lists them.
.PHONY: help demo test check build generate bench chaos up down clean

help:
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 12

demo: ## a signed webhook burst absorbed, throttled, retried, dead-lettered on this machine
	@tests/tools/say "building weir (debug profile; the first time takes minutes, later seconds)"
	@cargo build --quiet --locked -p weir
	@python3 examples/scalable-webhook/demo.py target/debug/weir

test: ## install what is needed and run everything, real brokers and a real cluster included
	@tests/run

check: ## format, lints, generated files, licences
	@tests/check

build: ## the static binaries that images hold
	@tests/images/build target/images

generate: ## CRDs, chart parts and docs tables from the source
	cargo run --quiet --locked -p xtask -- generate

bench: ## ours beside the raw client, same machine, same run
	@bench/run

chaos: ## kills at random under load, counted from outside: MESSAGES=.. KILLS=.. SEED=.. GROUPS=.. BROKER=nats|nats-r3|rabbitmq|rabbitmq-4.0
	@tests/tools/install nats
	@case "$(BROKER)" in rabbitmq*) tests/tools/install rabbitmq ;; esac
	@cargo build --quiet --locked -p weir-sidecar -p weir-chaos --bins
	@target/debug/weir-chaos --messages $(or $(MESSAGES),5000) --kills $(or $(KILLS),30) --seed $(or $(SEED),0) --groups $(or $(GROUPS),0) --broker $(or $(BROKER),nats)

up: ## a Kubernetes cluster on this machine, with NATS
	tests/cluster/up

down: ## end it and remove every trace
	tests/cluster/down

clean: ## build products of this checkout; caches stay
	cargo clean
