# All targets run in .venv. `make env` creates it and updates it when pyproject.toml or constraints.txt changes.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.made
# Versions to install. constraints-oldest.txt lists the oldest supported versions.
CONSTRAINTS ?= constraints.txt
# The oldest version that the SDK supports: its generated code runs with protobuf 5, 6 and 7.
STUBS_TOOLS := grpcio-tools==1.64.3 setuptools==75.8.0 protobuf==5.26.1 grpcio==1.64.3
# Branch whose protos/ `make breaking` compares with.
BASE ?= origin/main
PROTOS := $(wildcard protos/layertap/v1/*.proto)
# The Open Inference Protocol is part of the server only, as descriptors for a pool of its own: generated modules would
# register `inference` in the default pool, where other packages register it too.
OIP_PROTOS := $(wildcard protos/inference/*.proto)
OIP_DESCRIPTORS := server/layertap_server/rpc/oip/inference.binpb

.PHONY: env demo serve test node lint docs generated stubs check-stubs breaking sizes coverage clean
.PHONY: check-stages check-sweeps check-blocks check-gradients check-models check-bulk check-soak check-fuzz-models check-local check-plans check-batching measure-operations bench overload
.PHONY: container-test scale-test

env: $(STAMP)

$(STAMP): pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[server,viz,dev]'
	touch $@

demo: env  ## starts the service, extracts features of a photograph and draws them
	$(BIN)/python examples/demo.py

serve: env  ## runs the service on localhost:8001 with the models of this repository
	$(BIN)/layertap serve --models models --reflection

test: env  ## runs the tests, without sweeps and without those of containers and replicas
	$(BIN)/python -m pytest -n 2 --dist loadfile --ignore=tests/container --ignore=tests/scale $(ARGS)

check-sweeps: env  ## runs the cases of the tests that `make test` leaves out; TESTS=tests/e2e restricts them
	LAYERTAP_SWEEP=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m sweep --ignore=tests/container --ignore=tests/scale $(TESTS) $(ARGS)

node:  ## installs the dependencies of examples/node, for tests/e2e/test_node.py; needs npm
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

generated: env  ## writes constructors, methods of the clients, docs/blocks.md, tables of the docs, the list of the public API, the figures and the dashboard
	$(BIN)/python scripts/make_constructors.py
	$(BIN)/python scripts/make_client_methods.py
	$(BIN)/python scripts/make_block_docs.py
	$(BIN)/python scripts/make_tables.py
	$(BIN)/python scripts/make_public_api.py
	$(BIN)/python scripts/make_figures.py
	$(BIN)/python scripts/make_dashboard.py

check-blocks: env  ## compares every block, in every use, with its reference
	PYTHONPATH=. $(BIN)/python -W ignore scripts/check_blocks.py

check-stages: env  ## compares stage:N and block:N with the feature maps of timm networks; needs TIMM_PYTHON
	PYTHONPATH=. $(BIN)/python -W ignore scripts/check_stages.py

check-activations: env  ## compares all:activations with the activation modules of timm networks; needs TIMM_PYTHON
	PYTHONPATH=. $(BIN)/python -W ignore scripts/check_activations.py

check-gradients: env  ## compares the gradient rules and whole networks with float64 differences
	PYTHONPATH=. $(BIN)/python -W ignore scripts/check_gradients.py

check-models: env  ## compares each layer of real architectures with the same layer of the whole model
	PYTHONPATH=. $(BIN)/python -W ignore scripts/check_models.py

check-batching: env  ## checks on random graphs that joined layers give the same results together and separately
	BATCHING_EXAMPLES=5000 $(BIN)/python -m pytest tests/server/graph/test_batch_axis.py -q -p no:xdist $(ARGS)

measure-operations: env  ## prints the price and CPU time of heads and models, to set --max-operations
	PYTHONPATH=. $(BIN)/python scripts/measure_operations.py

check-bulk: env  ## extracts 20,000 images, kills the run midway, and checks that the output is complete and memory bounded
	PYTHONPATH=. $(BIN)/python scripts/check_bulk.py $(ARGS)

check-soak: env  ## sends 20,000 mixed requests and 400 streams: no incident, no wrong result, bounded memory
	PYTHONPATH=. $(BIN)/python -W ignore scripts/check_soak.py

check-fuzz-models: env  ## loads and uses 3,000 damaged model files in a real server: no traceback, no crash
	PYTHONPATH=. $(BIN)/python scripts/check_fuzz_models.py

check-plans: env  ## sends 2,000 sets of taps by four callers: right results, memory within the plan budget
	LAYERTAP_SWEEP=1 LAYERTAP_CHECK_PLANS=2000 $(BIN)/python -m pytest tests/e2e/test_plan_memory.py -p no:xdist --timeout 1800 $(ARGS)

check-local: env  ## runs each command 50 times with --local, and with Ctrl-C at 50 moments: no foreign output
	LAYERTAP_SWEEP=1 RUNS=50 $(BIN)/python -m pytest tests/e2e/test_local.py -p no:xdist --timeout 3600 $(ARGS)

bench: env  ## measures every scenario of docs/performance.md against plain onnxruntime
	$(BIN)/python -m benchmarks $(ARGS)

overload: env  ## sends ten times as many requests as the server can answer, for a minute
	$(BIN)/python -m benchmarks.overload $(ARGS)

stubs:  ## generates client/layertap/v1 and the descriptors of the Open Inference Protocol from protos/
	@test -x build/stubs-env/bin/python || $(PYTHON) -m venv build/stubs-env
	build/stubs-env/bin/python -m pip install --quiet --disable-pip-version-check $(STUBS_TOOLS)
	build/stubs-env/bin/python -m grpc_tools.protoc -I protos \
		--python_out=client --pyi_out=client --grpc_python_out=client $(PROTOS)
	rm -f client/layertap/v1/types_pb2_grpc.py
	build/stubs-env/bin/python -m grpc_tools.protoc -I protos --include_imports \
		--descriptor_set_out=$(OIP_DESCRIPTORS) $(OIP_PROTOS)

check-stubs: stubs  ## fails if the committed stubs differ from those generated from protos/
	@test -z "$$(git status --porcelain client/layertap/v1 $(OIP_DESCRIPTORS))" || \
		(git status --short client/layertap/v1 $(OIP_DESCRIPTORS); echo 'the stubs are out of date: run make stubs and commit them'; exit 1)

# Each of these must have FLOOR percent coverage by the unit tests, branches included.
COVERED := graph/* blocks/* planning/*
FLOOR := 95

sizes: env  ## prints the sizes of modules and functions
	$(BIN)/python scripts/code_sizes.py

coverage: env  ## runs the unit tests with all sweeps; fails if they cover less than the floors
	$(BIN)/coverage erase
	LAYERTAP_SWEEP=1 $(BIN)/coverage run -m pytest -n 2 --dist loadfile $(or $(TESTS),tests/client tests/server tests/test_generated.py) $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered --fail-under=75
	@set -f; for part in $(COVERED); do \
		$(BIN)/coverage report --include="*/layertap_server/$$part" --format=total | { read total; \
		echo "$$part: $$total %"; test $$total -ge $(FLOOR); } || exit 1; \
	done

breaking: env  ## lists incompatible changes in protos/ since this branch left BASE; never fails before 1.0
	@base=$$(git merge-base HEAD $(BASE)) || { echo 'no common commit with $(BASE): name another branch with BASE=…'; exit 0; }; \
	$(BIN)/buf breaking protos --against ".git#ref=$$base,subdir=protos" \
		&& echo "no incompatible changes in protos/ since $$base" \
		|| echo 'these changes are incompatible with existing callers: allowed before 1.0; list them in CHANGELOG.md'

container-test: env  ## tests the containers with docker-compose; needs a Docker engine and, offline, BASE_IMAGE
	$(BIN)/python -m pytest tests/container -p no:xdist $(ARGS)

scale-test: env  ## tests three replicas behind a real Envoy, under load, while replicas die and return
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[scale-test]'
	$(BIN)/python -m pytest tests/scale -p no:xdist $(ARGS)

clean:
	rm -rf $(VENV) build dist
