# Everything a developer or CI runs. Needs Python >= 3.11 and make; the rest goes into .venv.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.ready

.PHONY: help setup demo check test test-containers fuzz schedules nemesis soak bench bench-small format lock clean

help:            ## show this list
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/'

setup: $(STAMP)  ## make the virtual environment with the locked dependencies

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("rdahub needs Python 3.11 or newer; say make PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(STAMP)   ## simulator, hub and live view; Ctrl-C ends all
	@if [ -t 1 ]; then $(BIN)/rdahub demo; else echo "not a terminal: the demo ends after 10 s"; $(BIN)/rdahub demo --seconds 10; fi

check: $(STAMP)  ## everything that looks without running: style, types, architecture
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(STAMP)   ## all tests, documents and examples among them
	$(BIN)/pytest -n 2 --dist loadfile

test-containers: $(STAMP)  ## image and compose.yaml, built and run for real, with faults (Docker, or root on Debian)
	$(BIN)/python tests/containers/stage.py

fuzz: $(STAMP)   ## 30 s of fuzzing for each decoder of foreign bytes (Linux)
	$(BIN)/python tests/fuzz/fuzz_rda.py -max_total_time=30 tests/data/rda/cases
	$(BIN)/python tests/fuzz/fuzz_request.py -max_total_time=30

schedules: $(STAMP)  ## thousands of random schedules of losses and restarts
	RDAHUB_SCHEDULES=5000 $(BIN)/pytest tests/rdahub_client/test_timeline.py

nemesis: $(STAMP) ## the long form: random faults for 10 minutes, 1,000 joins, a million hostile requests
	$(BIN)/python tests/nemesis/campaign.py --seconds 600 --joins 1000
	$(BIN)/python tests/nemesis/hostile_campaign.py --requests 1000000 --connections 10000

soak: $(STAMP)   ## 15 minutes of steady load: memory, descriptors and shared memory must not grow
	$(BIN)/python tests/nemesis/soak.py --seconds 900

BENCH_READY := .venv-bench/.ready
bench: $(STAMP) $(BENCH_READY)  ## rdahub beside its peers; make bench BENCH="--workload w1 --awake"
	$(BIN)/python -m benchmarks $(BENCH)

bench-small: $(STAMP)  ## the same without peers to install, once and tiny: does it work, is every sample right? no times
	$(BIN)/python -m benchmarks --small --lanes zmq,tcp,rdahub,local,rdaclient --out build/bench-small

$(BENCH_READY): benchmarks/requirements.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet -r benchmarks/requirements.txt
	@command -v redis-server >/dev/null || echo "no redis-server: that lane will be named as missing"
	@touch $@

format: $(STAMP) ## put the code into shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(STAMP)   ## renew requirements.lock
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --all-extras --group pyproject.toml:dev pyproject.toml --upgrade -o requirements.lock

clean:           ## remove what was made
	rm -rf $(VENV) .venv-bench .pytest_cache .mypy_cache .ruff_cache .hypothesis
