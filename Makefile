# Two commands: `make run` shows telemetryd at work, `make test` proves it. Both set themselves up.
PYTHON ?= python3
VENV   := .venv
AGAIN  :=
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
ACTIONLINT := github.com/rhysd/actionlint/cmd/actionlint@v1.7.12

.PHONY: help run test test-system lint types unit coverage coverage-pure changelog changelog-check layer layer-profile layer-test container-test deploy-test bench bench-quick bench-parts schema docs format lock clean fixtures-test lake-test workflow-test peers-test public-types distributions wheels

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(STAMP): requirements/dev.txt pyproject.toml proto/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "telemetryd needs Python 3.11 or newer; '$(PYTHON)' is older. Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "setting up $(VENV) (once) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable proto --editable .
	@touch $@

run: $(STAMP)  ## a local Lambda with telemetryd: 20 invocations, and where every line went
	@$(BIN)/python examples/run.py

test: lint types unit  ## lint, types, and every test that needs only Python

lint: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports
	@$(BIN)/codespell README.md CHANGELOG.md changelog.d CONTRIBUTING.md SECURITY.md docs proto daemon layer bench examples
	@$(BIN)/python tests/prose.py
	@said=$$($(BIN)/towncrier build --draft --version Unreleased 2>&1) || { echo "$$said"; exit 1; }

types: $(STAMP)
	@$(BIN)/mypy

unit: $(STAMP)
	@$(BIN)/python -m pytest $(AGAIN) -m 'not system' --ignore tests/system --ignore tests/layer \
	  --ignore tests/container --ignore tests/deploy --ignore tests/fixtures --ignore tests/lake --ignore tests/peers

$(VENV)/.installed-system: requirements/system.txt $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/system.txt
	@touch $@

test-system: $(VENV)/.installed-system  ## the tests that need other programs (each names what is missing)
	@$(BIN)/python -m pytest $(AGAIN) -m system tests/system

.venv-lake/.installed: requirements/lake.txt $(STAMP)
	@$(PYTHON) -m venv .venv-lake
	@.venv-lake/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/lake.txt
	@.venv-lake/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable proto --editable .
	@touch $@

lake-test: .venv-lake/.installed  ## loads the flat format into DuckDB, chdb, pyarrow and Spark; runs examples/lake with a million lines (Java; 15 minutes)
	@.venv-lake/bin/python -m pytest $(AGAIN) -m lake tests/lake

workflow-test: $(VENV)/.installed-system  ## actionlint and zizmor on .github/workflows
	@$(BIN)/zizmor --offline --quiet .github/workflows
	@PATH="$(CURDIR)/$(BIN):$$PATH" GOFLAGS=-modcacherw go run $(ACTIONLINT) .github/workflows/*.yml

# The tests of core and protocol alone: nothing of the daemon around them, and always the same examples.
PURE_TESTS = $$(grep -rlE --include='*.py' '^(from|import) (telemetryd\.core|telemetryd_proto)' tests/unit tests/property \
  | xargs grep -LE '^(from|import) (telemetryd\.(sinks|testing)|bench)')

# Processes that tests start are measured as well. They end by `posix._exit`, which saves nothing: where
# coverage runs, measured.pth replaces it by the `os._exit` of coverage.
coverage: $(STAMP)  ## coverage of `make unit` by package, held to the floors (twice as long as without)
	@cp tests/measured.pth "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/a2_measured.pth"
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest -q --hypothesis-seed 0 $(or $(TESTS),-m 'not system' --ignore tests/system \
	  --ignore tests/layer --ignore tests/container --ignore tests/deploy --ignore tests/fixtures --ignore tests/lake --ignore tests/peers)
	@$(BIN)/coverage combine -q
	@$(BIN)/coverage json -q -o build/coverage/all.json
	@$(BIN)/python tests/floors.py build/coverage/all.json

coverage-pure: $(STAMP)  ## core and protocol: every line and branch, by their own tests (a minute)
	@$(BIN)/coverage erase --data-file build/coverage/pure
	@$(BIN)/coverage run --data-file build/coverage/pure \
	  -m pytest -q --hypothesis-seed 0 $(PURE_TESTS)
	@$(BIN)/coverage combine -q --data-file build/coverage/pure
	@$(BIN)/coverage report --data-file build/coverage/pure --fail-under 100 \
	  --include 'daemon/telemetryd/core/*,proto/telemetryd_proto/*'

public-types: $(VENV)/.installed-system  ## pyright: all public types of telemetryd_proto and telemetryd.sink are complete
	@# it looks for the packages in the Python that is first on PATH; below 100 % it fails
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pyright --verifytypes telemetryd_proto --ignoreexternal
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pyright --verifytypes telemetryd.sink --ignoreexternal

distributions: $(STAMP)  ## sdists and wheels of both packages in dist/
	@$(BIN)/python -m build --no-isolation --outdir dist proto
	@$(BIN)/python -m build --no-isolation --outdir dist .

.venv-wheels/.installed: requirements/wheels.txt
	@$(PYTHON) -m venv .venv-wheels
	@.venv-wheels/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/wheels.txt
	@touch $@

wheels: .venv-wheels/.installed  ## wheels of telemetryd-scan for this machine's Linux in dist/ (docker)
	@.venv-wheels/bin/cibuildwheel --output-dir dist proto/scan

fixtures-test: $(STAMP)  ## remakes the fixtures of records with real runtimes and loggers (npm, cmake; 10 minutes)
	@$(BIN)/python -m pytest -m fixtures tests/fixtures

peers-test: $(VENV)/.installed-system  ## runs read back from a real OpenTelemetry Collector, VictoriaLogs and Loki (Go; the first time 20 minutes)
	@$(BIN)/python -m pytest $(AGAIN) -m peers tests/peers

layer: $(if $(CONFIG),$(STAMP))  ## dist/telemetryd-layer-*.zip, self-contained (ARCH=x86_64 or arm64, CONFIG=FILE; the first time 6 minutes)
	@$(if $(CONFIG),$(BIN)/python,$(PYTHON)) layer/build.py $(if $(ARCH),--arch $(ARCH)) $(if $(CONFIG),--config '$(CONFIG)')

layer-profile: $(STAMP)  ## counts again what the layer's interpreter runs (x86_64, llvm-profdata; 15 minutes)
	@$(BIN)/python -m layer.train

layer-test: $(STAMP)  ## builds the layer for both architectures and runs it in an older root
	@# under the limit of open files that many hosts have, and the build of an image
	@ulimit -n 1024; $(PYTHON) layer/build.py --arch x86_64
	@ulimit -n 1024; $(PYTHON) layer/build.py --arch arm64
	@$(BIN)/python -m pytest $(AGAIN) -m layer tests/layer

container-test: $(STAMP)  ## builds the images with buildah and runs them with podman, under 128 MB and 1/14 vCPU
	@$(BIN)/python -m pytest $(AGAIN) -m container tests/container

.venv-deploy/.installed: requirements/deploy.txt $(STAMP)
	@$(PYTHON) -m venv .venv-deploy
	@# --no-deps: the list is complete, and pip would look at newer versions for requirements with extras
	@.venv-deploy/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/deploy.txt
	@touch $@

deploy-test: .venv-deploy/.installed  ## hadolint, cfn-lint and sam validate on the Dockerfiles and examples/sam
	@.venv-deploy/bin/python -m pytest $(AGAIN) -m deploy tests/deploy

bench: $(STAMP)  ## the load tests, peers beside telemetryd: tables and charts in bench/results
	@$(BIN)/python -m bench run --all

bench-quick: $(STAMP)  ## under 3 minutes, for before and after a change
	@$(BIN)/python -m bench run ingest-file ingest-file-16 ingest-typed fanout --quick --out build/bench

bench-parts: $(STAMP)  ## the cost of framing, a scrape, the EMF sink, rows, nasty lines, HTTP and redaction alone
	@$(BIN)/python -m bench.framing
	@$(BIN)/python -m bench.scrape
	@$(BIN)/python -m bench.emf
	@$(BIN)/python -m bench.flat
	@$(BIN)/python -m bench.nasty
	@$(BIN)/python -m bench.http_reader
	@$(BIN)/python -m bench.redaction

schema: $(STAMP)  ## write proto/schema/ from the types
	@$(BIN)/telemetryd schema --write proto/schema

docs: $(STAMP)  ## generate docs/configuration.md, sinks-reference.md, metrics.md, log.md, the drawings of architecture.md
	@$(BIN)/python -m telemetryd.config.document > docs/configuration.md
	@$(BIN)/python -m telemetryd.config.sinks_document > docs/sinks-reference.md
	@$(BIN)/python -m telemetryd.exposition.guide > docs/metrics.md
	@$(BIN)/python -m telemetryd.log_events > docs/log.md
	@$(BIN)/python tests/architecture.py

format: $(STAMP)  ## rewrite the code in the project's format
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

lock:  ## pin the dependencies, with hashes for every platform (needs `uv`)
	@uv pip compile --universal --generate-hashes --no-header --python-version 3.11 --group dev --no-emit-package telemetryd-proto -q pyproject.toml -o requirements/dev.txt
	@uv pip compile --universal --generate-hashes --no-header --python-version 3.11 --group dev --group system --no-emit-package telemetryd-proto --constraint requirements/dev.txt -q pyproject.toml -o requirements/system.txt
	@uv pip compile --universal --generate-hashes --no-header --python-version 3.11 --group dev --group lake --no-emit-package telemetryd-proto --constraint requirements/dev.txt -q pyproject.toml -o requirements/lake.txt
	@uv pip compile --universal --generate-hashes --no-header --python-version 3.11 --no-emit-package telemetryd-proto -q pyproject.toml -o requirements/runtime.txt
	@uv pip compile --universal --generate-hashes --no-header --python-version 3.13 --group layer --no-emit-package google-re2 --no-emit-package telemetryd-proto --constraint requirements/dev.txt -q pyproject.toml -o requirements/layer.txt
	@uv pip compile --universal --generate-hashes --no-header --python-version 3.11 --group layer-build -q -o requirements/layer-build.txt
	@uv pip compile --universal --generate-hashes --no-header --python-version 3.11 --group wheels -q -o requirements/wheels.txt
	@uv pip compile --universal --generate-hashes --no-header --python-version 3.11 --group deploy -q -o requirements/deploy.txt

changelog: $(STAMP)  ## move the files of changelog.d into CHANGELOG.md
	@$(BIN)/towncrier build --yes --version Unreleased

changelog-check: $(STAMP)  ## check that this branch describes its changes in changelog.d (BASE=main)
	@$(BIN)/towncrier check --compare-with $(or $(BASE),main)

clean:  ## remove the virtual environment and everything built
	rm -rf $(VENV) .venv-deploy .venv-lake .venv-wheels dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .run
