# Everything a fresh machine needs: `make demo` runs the main job on the embedded model, `make test` passes the tests.
PYTHON ?= python3
BIN = .venv/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check install -q

.PHONY: install demo test clean

# torch is pinned and comes first, so that no other package draws in a build of its own choice.
.venv/.installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(PIP) torch==2.13.0
	$(PIP) -e .
	$(BIN)/egohoi assets || echo "the hand networks could not be fetched: the embedded model runs without them, and finds fewer hands"
	touch $@

.venv/.tested: .venv/.installed
	$(PIP) -e '.[test]'
	touch $@

install: .venv/.installed

demo: install
	mkdir -p out
	$(BIN)/egohoi ask examples/kitchen.jpg "Where are my hands?" --json --overlay out/demo.png
	@echo "picture: out/demo.png"

test: .venv/.tested
	OMP_NUM_THREADS=2 $(BIN)/python -m pytest tests

clean:
	rm -rf .venv out
