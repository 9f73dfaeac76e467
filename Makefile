SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:

.PHONY: help run test test-long test-vllm fuzz deny bench bench-latency bench-engine bench-policies bench-collector bench-proxy demo-eval requirements clean-tools setup build-tools

help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z -]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: .runtime/libonnxruntime.so ## Set up what is missing and serve config.yaml with the demo model
	@. tests/setup/lib.sh && need_rust
	cargo run --release --locked -p plimsoll-proxy --bin plimsoll -- serve --config config.yaml

test: setup ## Set up what is missing, then run all checks and tests
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked
	cargo test --workspace --doc --locked
	cargo build --workspace --bins --tests --locked
	cargo nextest run --workspace --locked

test-long: setup ## Run the tests that take long, properties with 10,000 cases
	cargo build --workspace --bins --tests --locked
	PROPTEST_CASES=10000 cargo nextest run --release -p plimsoll-policies --locked --profile long --run-ignored all
	PROPTEST_CASES=10000 cargo nextest run --workspace --exclude plimsoll-policies --locked --profile long --run-ignored all

test-vllm: build-tools .runtime/libonnxruntime.so .tools/vllm/.ready ## Run the tests before a real vLLM (6 GB are fetched); writes tests/bench/RESULTS.md
	cargo build --workspace --bins --tests --locked
	python3 tests/vllm/run.py cargo nextest run -p plimsoll-tests --locked --profile vllm --run-ignored all

fuzz: ## Fuzz what is read of strangers, a minute each: FUZZ_SECONDS=60 FUZZ_TARGETS="chat anthropic"
	tests/fuzz/run.sh

deny: ## Judge what is depended on by deny.toml (the first time `cargo-deny` compiles for some minutes)
	@tests/setup/deny.sh

bench: .runtime/libonnxruntime.so build-tools ## Print added latency, tokens a second, time to the first token, what a bad collector costs
	cargo build --release --locked -p plimsoll-proxy
	cargo bench -p plimsoll-tests --bench latency --bench engine --bench policies --bench collector --locked

bench-latency bench-engine bench-policies bench-collector: bench-%: .runtime/libonnxruntime.so build-tools ## One of the benchmarks; of the engine's, PART="single reuse"
	cargo build --release --locked -p plimsoll-proxy
	cargo bench -p plimsoll-tests --bench $* --locked -- $(PART)

bench bench-engine: .tools/genai/.ready

bench-proxy: build-tools .tools/peers/nginx/.ready .tools/peers/litellm/.ready .tools/peers/portkey/.ready .tools/peers/headroom/.ready ## Plimsoll beside a bare hyper proxy, nginx, LiteLLM, Portkey, headroom; PART="1KB 32KB 256KB 1MB throughput streams memory start"
	cargo build --release --locked -p plimsoll-proxy
	cargo bench -p plimsoll-tests --bench proxy --locked -- $(PART)

demo-eval: .runtime/libonnxruntime.so ## Measure the demo model and what a policy is worth, over HTTP
	cargo build --release --locked -p plimsoll-proxy
	python3 engine/demo/eval/evaluate.py --serve target/release/plimsoll

requirements: .venv/.ready ## Lock the tests' Python and npm packages anew (needs `uv`)
	for locked in tests/clients/requirements tests/setup/checkov tests/setup/genai tests/setup/onnxruntime-gpu \
	    tests/setup/peers/litellm tests/setup/peers/headroom; do \
	  uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade --no-header \
	    $$locked.in --output-file $$locked.txt; \
	done
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade --no-header \
	  tests/setup/vllm.in --override tests/setup/vllm-overrides.in --output-file tests/setup/vllm.txt
	PATH="$$PWD/.venv/bin:$$PATH" npm update --prefix tests/clients/node --package-lock-only --ignore-scripts

clean-tools: ## Remove what the setup fetched: .runtime, .tools, .venv, node_modules
	rm -rf .runtime .tools .venv tests/clients/node/node_modules

setup: build-tools .runtime/libonnxruntime.so .venv/.ready tests/clients/node/node_modules/.package-lock.json .tools/bin/helm .tools/bin/promtool .tools/bin/prometheus .tools/bin/chromium .tools/bin/varnishtest .tools/bin/iptables .tools/checkov/.ready

build-tools:
	@tests/setup/build-tools.sh

.runtime/libonnxruntime.so: tests/setup/onnxruntime.sh tests/setup/onnxruntime.txt
	@tests/setup/onnxruntime.sh

.venv/.ready: tests/setup/venv.sh tests/clients/requirements.txt
	@tests/setup/venv.sh

tests/clients/node/node_modules/.package-lock.json: tests/setup/node.sh tests/clients/node/package-lock.json .venv/.ready
	@tests/setup/node.sh

.tools/bin/helm: tests/setup/helm.sh tests/setup/helm.txt
	@tests/setup/helm.sh

.tools/bin/promtool .tools/bin/prometheus &: tests/setup/promtool.sh
	@tests/setup/promtool.sh

.tools/bin/varnishtest .tools/bin/slowhttptest &: tests/setup/wire.sh
	@tests/setup/wire.sh

.tools/bin/iptables .tools/bin/ip6tables .tools/bin/busybox &: tests/setup/netns.sh
	@tests/setup/netns.sh

.tools/genai/.ready: tests/setup/genai.sh tests/setup/genai.txt
	@tests/setup/genai.sh

.tools/checkov/.ready: tests/setup/checkov.sh tests/setup/checkov.txt
	@tests/setup/checkov.sh

# A peer that cannot be installed is a line of the results, not the end of the benchmark.
.tools/peers/nginx/.ready: tests/setup/peer-nginx.sh
	@tests/setup/peer-nginx.sh || echo "nginx is left out"

.tools/peers/litellm/.ready .tools/peers/headroom/.ready: .tools/peers/%/.ready: tests/setup/peer-python.sh tests/setup/peers/%.txt
	@tests/setup/peer-python.sh $* || echo "$* is left out"

.tools/peers/portkey/.ready: tests/setup/peer-portkey.sh tests/setup/peers/portkey/package-lock.json
	@tests/setup/peer-portkey.sh || echo "Portkey's gateway is left out"

.tools/vllm/.ready: tests/setup/vllm.sh tests/setup/vllm.txt
	@tests/setup/vllm.sh

.tools/bin/chromium: tests/setup/chromium.sh
	@tests/setup/chromium.sh
