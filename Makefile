# kontor: see README.md. `make demo` and `make test` need nothing installed but make.
BUILD ?= build
export KONTOR := $(CURDIR)/$(BUILD)/kontor
CMAKE_FLAGS ?=
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

.PHONY: all bench build deps demo run test test-asan test-peers fuzz soak storm lint format install clean
all: build

deps:
	@tools/deps.sh build

build: deps
	@[ -f $(BUILD)/build.ninja ] || cmake -S . -B $(BUILD) -G Ninja $(CMAKE_FLAGS) >$(BUILD).log 2>&1 || { cat $(BUILD).log; exit 1; }
	@ninja -C $(BUILD) --quiet kontor

demo: build
	@tools/deps.sh demo
	@examples/demo.sh

run: build
	@$(KONTOR) serve

# T=NAME runs one part: unit, spec, conformance, integration, or a file of these.
test: build
	@tools/deps.sh test
	@tests/run $(T)

test-asan:
	@tools/deps.sh test
	@$(MAKE) --no-print-directory BUILD=build-asan CMAKE_FLAGS="-DKONTOR_ASAN=ON -DCMAKE_BUILD_TYPE=Debug" build
	@BUILD=build-asan KONTOR=$(CURDIR)/build-asan/kontor tests/run $(T)

test-peers: build
	@tools/deps.sh test
	@tests/run-peers $(T)

# libFuzzer targets, FUZZ_SECONDS=60 each; T=tests/fuzz/NAME_fuzz.c runs one.
fuzz:
	@tools/deps.sh build
	@tools/deps.sh fuzz
	@tests/run $(or $(T),fuzz)

storm: build
	@tools/deps.sh test
	@tests/run storm

# A steady mixed load for SOAK_SECONDS=1800: memory and descriptors stay flat.
soak: build
	@tools/deps.sh test
	@tests/run soak

# Kontor beside its peers in one run; writes docs/performance.md. T=NAME runs one part.
bench: build
	@tools/deps.sh test
	@tests/bench/peers.sh
	@.venv/bin/python tests/bench/run.py $(T)

lint:
	@tests/lint.sh

format:
	@clang-format -i $$(git ls-files 'runtime/*.[ch]' 'tests/*.[ch]')

install: build
	cmake --install $(BUILD)

clean:
	rm -rf $(BUILD) $(BUILD)-asan
