# Everything runs in .venv, which `make env` makes and keeps in step with pyproject.toml and constraints.txt.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.made
# The versions to install: constraints-oldest.txt has the oldest that are supported.
CONSTRAINTS ?= constraints.txt
# Generated code of this version runs with protobuf 5, 6 and 7: it is the oldest that the SDK supports.
STUBS_TOOLS := grpcio-tools==1.64.3 setuptools==75.8.0 protobuf==5.26.1 grpcio==1.64.3
# Where `make breaking` finds the contract to compare with.
BASE ?= origin/main
PROTOS := $(wildcard protos/layertap/v1/*.proto)

.PHONY: env demo serve test node lint docs generated stubs check-stubs breaking coverage clean
.PHONY: check-blocks check-models check-bulk check-soak check-fuzz-models check-local check-plans check-batching measure-operations bench overload
.PHONY: container-test scale-test

env: $(STAMP)

$(STAMP): pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[server,viz,dev]'
	touch $@

demo: env  ## starts the service, extracts features of a photograph, draws them
	$(BIN)/python examples/demo.py

serve: env  ## runs the service on localhost:8001 with the models that ship
	$(BIN)/layertap serve --models models --reflection

test: env  ## every test but those of containers and replicas
	$(BIN)/python -m pytest -n 2 --dist loadfile --ignore=tests/container --ignore=tests/scale $(ARGS)

node:  ## installs what examples/node needs, for tests/e2e/test_node.py; needs npm
	mkdir -p build/node
	cp examples/node/package.json build/node/
	cd build/node && npm install --no-audit --no-fund --loglevel error

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/buf lint protos

docs: env  ## builds the documentation site into build/docs; a warning is an error
	$(BIN)/sphinx-build -W -n --keep-going -q -E -d build/docs-cache docs build/docs

generated: env  ## writes constructors, docs/blocks.md, the public API's pin, the figures and the dashboard
	$(BIN)/python scripts/make_constructors.py
	$(BIN)/python scripts/make_block_docs.py
	$(BIN)/python scripts/make_public_api.py
	$(BIN)/python scripts/make_figures.py
	$(BIN)/python scripts/make_dashboard.py

check-blocks: env  ## the table of every block in every use, against its reference
	PYTHONPATH=. $(BIN)/python -W ignore scripts/check_blocks.py

check-models: env  ## the table of real architectures, each layer against the whole model
	PYTHONPATH=. $(BIN)/python -W ignore scripts/check_models.py

check-batching: env  ## many random graphs: layers that may be joined give together what they give apart
	BATCHING_EXAMPLES=5000 $(BIN)/python -m pytest tests/server/graph/test_batch_axis.py -q -p no:xdist $(ARGS)

measure-operations: env  ## the price of heads and models over their CPU time: what --max-operations is set by
	PYTHONPATH=. $(BIN)/python scripts/measure_operations.py

check-bulk: env  ## 20,000 images through layertap extract, killed in the middle: complete, memory bounded
	PYTHONPATH=. $(BIN)/python scripts/check_bulk.py $(ARGS)

check-soak: env  ## 20,000 mixed requests and 400 streams at once: no incident, no wrong answer, memory bounded
	PYTHONPATH=. $(BIN)/python -W ignore scripts/check_soak.py

check-fuzz-models: env  ## 3,000 damaged model files, loaded and used by a real server: no traceback, no death
	PYTHONPATH=. $(BIN)/python scripts/check_fuzz_models.py

check-plans: env  ## 2,000 sets of taps by four callers: right answers, memory inside the plan budget
	LAYERTAP_CHECK_PLANS=2000 $(BIN)/python -m pytest tests/e2e/test_plan_memory.py -p no:xdist --timeout 1800 $(ARGS)

check-local: env  ## --local 50 times for each kind of command, and Ctrl-C at 50 moments: no word that is not one's own
	RUNS=50 $(BIN)/python -m pytest tests/e2e/test_local.py -p no:xdist --timeout 3600 $(ARGS)

bench: env  ## every scenario of docs/performance.md beside plain onnxruntime
	$(BIN)/python -m benchmarks $(ARGS)

overload: env  ## ten times as many callers as there is room for, for a minute
	$(BIN)/python -m benchmarks.overload $(ARGS)

stubs:  ## generates client/layertap/v1 from protos/
	@test -x build/stubs-env/bin/python || $(PYTHON) -m venv build/stubs-env
	build/stubs-env/bin/python -m pip install --quiet --disable-pip-version-check $(STUBS_TOOLS)
	build/stubs-env/bin/python -m grpc_tools.protoc -I protos \
		--python_out=client --pyi_out=client --grpc_python_out=client $(PROTOS)
	rm -f client/layertap/v1/types_pb2_grpc.py

check-stubs: stubs  ## fails where the committed stubs are not those of protos/
	@test -z "$$(git status --porcelain client/layertap/v1)" || \
		(git status --short client/layertap/v1; echo 'the stubs are not up to date: run make stubs'; exit 1)

# What must be covered by the unit tests to FLOOR percent, branches included, each by itself.
COVERED := graph/* blocks/* planning/*
FLOOR := 95

coverage: env  ## measures the unit tests, and the servers that they start; fails below the floors
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n 2 --dist loadfile $(or $(TESTS),tests/client tests/server tests/test_generated.py) $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered --fail-under=75
	@set -f; for part in $(COVERED); do \
		$(BIN)/coverage report --include="*/layertap_server/$$part" --format=total | { read total; \
		echo "$$part: $$total %"; test $$total -ge $(FLOOR); } || exit 1; \
	done

breaking: env  ## lists what breaks callers in protos/ since this branch left BASE; never fails before 1.0
	@base=$$(git merge-base HEAD $(BASE)) || { echo 'no common commit with $(BASE): name another by BASE=…'; exit 0; }; \
	$(BIN)/buf breaking protos --against ".git#ref=$$base,subdir=protos" \
		&& echo "protos/ breaks nothing since $$base" \
		|| echo 'these changes break callers: allowed before 1.0, name them in CHANGELOG.md'

container-test: env  ## docker-compose up for real; needs a Docker engine and, offline, BASE_IMAGE
	$(BIN)/python -m pytest tests/container -p no:xdist $(ARGS)

scale-test: env  ## three replicas behind a real Envoy, under load while they die and return
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[scale-test]'
	$(BIN)/python -m pytest tests/scale -p no:xdist $(ARGS)

clean:
	rm -rf $(VENV) build dist
