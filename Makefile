# convspec: the commands of its developers. Every target sets up what it needs, says what it does, and may be run again.
#
#   make check   the main job: the curated corpora on all four frameworks, in both layouts
#   make test    all tests: those without a framework first, then two frameworks at a time, each in a process of its own
#   make test-torch   the tests of one framework; so for every other one
#   make test-fast   tests that need no framework, kill no process and take no time: for the loop while editing
#   make lint    ruff, mypy --strict, import-linter
#   make docs    the site, into docs/_build/html; warnings are errors
#   make docs-serve   the same, at http://localhost:8000; the calculator page needs it
#   make generated   the corpora that scripts write, written again; fails where git sees a change in them or in the docs
#   make mutation   which corpus catches which faulty convolution, into the docs; minutes
#   make self-mutation   which faults in convspec's own code the tests catch, a sample of them, into the docs; an hour
#   make regressions   what public bugs do on the installed frameworks today, into the docs; minutes
#   make support   the table of support from a run of the corpus features on everything, into the docs; an hour
#   make support-new   the same for the cases that were not there at the last run
#   make grid    every combination of the parameters on every adapter and variant, into the docs; resumes where it was; hours
#   make nightly   what takes too long for every change: compiled PyTorch layers with gradients, another sample every day; an hour
#   make drills   real faults – kills, full disks, damaged and hostile files – against the command, as a table; half an hour
#   make dist    sdist and wheel, each installed and tried in fresh environments of Python 3.11, 3.12 and 3.13
#   make lowest  every framework's lowest version that is supported, in an environment of its own; into the docs
#   make newest  every framework's newest version, likewise; what fails is reported, and fails nothing
#   make bench   measurements beside named peers, as ratios, into docs/performance.md; half an hour
#   make clean   removes the virtual environment and everything generated

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
FRAMEWORKS := torch flax keras onnx equinox openvino mlx litert ncnn
# a test that needs several frameworks runs once, with the last of them
LATER = $(foreach name,$(shell echo '$(FRAMEWORKS)' | sed 's/.*$(1)//'), and not $(name))
NONE := not browser$(foreach name,$(FRAMEWORKS), and not $(name))
# two frameworks share two cores: each has one thread; OpenVINO's tests ask for more by themselves
# the tests start hundreds of interpreters: each loads compiled modules instead of compiling them anew
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -q
KERAS_TESTS := $(addprefix tests/adapters/keras/,test_read.py test_models.py test_trace_steps.py)
CORPORA := tutorial features architectures

.PHONY: help check test test-fast lint docs docs-serve generated mutation self-mutation regressions support support-new grid \
	nightly drills dist lowest newest bench clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# \{0,1\}//p' Makefile

# Installed once, and again whenever the requirements change. torch is pinned to one release: an unpinned one brings CUDA.
# silero-vad is there for its model files alone; of jax2onnx's requirements, only those that exporting imports are there.
$(STAMP): pyproject.toml constraints.txt
	@echo "== installing into $(VENV) with $(PYTHON); the frameworks take some minutes the first time"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev,docs,test]'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps silero-vad \
		jax2onnx chex dm-pix einops toolz
	@touch $@

check: $(STAMP)
	@echo "== convspec check: corpora $(CORPORA), all four frameworks, both layouts"
	$(BIN)/convspec check --adapters torch,flax,keras,onnx $(foreach corpus,$(CORPORA),--corpus $(corpus))

test: $(STAMP)
	@echo "== tests that need no framework"
	@$(PYTEST) -n 3 --dist worksteal -m '$(NONE)'  # one more than cores: those that kill processes wait much of the time
	@$(MAKE) --no-print-directory --keep-going --jobs 2 $(filter --output-sync,$(.FEATURES:%=--%)) $(SUITES)

# the longest first, so that no core waits for the last one; what a suite prints comes when it has ended
SUITES := test-onnx test-torch test-flax test-keras test-keras-on-jax test-browser test-equinox test-keras-on-torch \
	test-openvino test-mlx test-litert test-ncnn
.PHONY: $(SUITES)

$(FRAMEWORKS:%=test-%): test-%: $(STAMP)
	@echo "== tests of the $* adapter"
	@$(PYTEST) -m '$*$(call LATER,$*)' tests

test-keras-on-jax test-keras-on-torch: test-keras-on-%: $(STAMP)
	@echo "== reading, comparing and tracing Keras models on $*"
	@KERAS_BACKEND=$* $(PYTEST) -m keras $(KERAS_TESTS)

test-browser: $(STAMP)
	@echo "== tests of the site in a browser, where there is one"
	@$(PYTEST) -rs -m browser tests/browser

test-fast: $(STAMP)
	@$(PYTEST) -n 2 --dist worksteal -m '$(NONE) and not slow and not processes' tests convspec

lint: $(STAMP)
	@echo "== ruff, mypy, import-linter"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(STAMP)
	@echo "== the site"
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html
	@echo "open docs/_build/html/index.html; make docs-serve for the calculator page"

docs-serve: docs
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory docs/_build/html 8000

generated: $(STAMP)
	@echo "== what scripts write, written again: nothing may change"
	@mkdir -p build
	$(BIN)/python scripts/cover_features.py > build/features.jsonl
	mv build/features.jsonl convspec/corpora/features.jsonl
	$(BIN)/python scripts/cover_combinations.py
	git diff --exit-code -- convspec docs

mutation: $(STAMP)
	@echo "== faulty convolutions against the corpora, and against ONNX's own tests"
	$(BIN)/python scripts/mutation.py --write

SELF_MUTATION ?=

self-mutation: $(STAMP)
	@echo "== faults in convspec's own code against the tests that reach them"
	$(BIN)/python scripts/self_mutation.py --write $(SELF_MUTATION)

regressions: $(STAMP)
	@echo "== public bugs on the installed frameworks"
	$(BIN)/python scripts/regressions.py

EVERYTHING := --adapters all --dtypes all --gradients --data exact,random,probe

support: $(STAMP)
	@echo "== the corpus features on every adapter and variant, everything"
	@mkdir -p build
	$(BIN)/convspec check --corpus features $(EVERYTHING) --json build/support.json
	$(BIN)/python scripts/support.py build/support.json

support-new: $(STAMP)
	@echo "== the new cases of the corpus features on every adapter and variant, everything"
	@mkdir -p build
	$(BIN)/python scripts/support.py --new > build/new.jsonl
	$(BIN)/convspec check --corpus build/new.jsonl $(EVERYTHING) --json build/support.json
	$(BIN)/python scripts/support.py --add build/support.json

GRID ?= --adapters all

grid: $(STAMP)
	@echo "== the grid; make grid GRID='--adapters mlx,ncnn' for some; build/grid.journal resumes, remove it to begin anew"
	@mkdir -p build
	$(BIN)/python scripts/grid.py --cells > build/grid.jsonl
	if test -f build/grid.journal; then $(BIN)/convspec check --resume build/grid.journal --json build/grid.json; \
	else $(BIN)/convspec check --corpus build/grid.jsonl $(GRID) --data exact --journal build/grid.journal --json build/grid.json; fi
	$(BIN)/python scripts/grid.py build/grid.json

DAY := $(shell expr `date +%s` / 86400)
NIGHTLY := --adapters torch:compile --gradients --dtypes float32,float16,bfloat16

nightly: $(STAMP)
	@echo "== compiled PyTorch layers, with gradients; the sample is that of day $(DAY)"
	$(BIN)/convspec check --corpus tutorial $(NIGHTLY)
	$(BIN)/convspec check --corpus features --sample 50 --seed $(DAY) $(NIGHTLY)

drills: $(STAMP)
	@echo "== fault drills; make drills DRILLS='--short --only kill,journals' for some"
	$(BIN)/python scripts/drills.py $(DRILLS)

dist: $(STAMP)
	@echo "== sdist and wheel, in fresh environments"
	$(BIN)/python scripts/distributions.py

VERSIONS ?= torch flax keras onnx equinox openvino mlx litert ncnn

lowest newest: $(STAMP)
	@echo "== the $@ versions of $(VERSIONS)"
	$(BIN)/python scripts/tested_versions.py $@ $(VERSIONS)

bench: $(STAMP)
	@echo "== benchmarks, into docs/performance.md"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt polygraphy
	$(BIN)/python benchmarks/record.py

clean:
	rm -rf $(VENV) docs/_build dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
