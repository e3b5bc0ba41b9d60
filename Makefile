.PHONY: help install format lint typecheck test fuzz bench bench-kernels bench-trainer bench-passes kill-check gpu-check vllm-check env-check lanes walk

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

install: ## create .venv with every package, editable, and the development tools
	uv sync

format: ## rewrite the code in the house style
	uv run ruff format .
	uv run ruff check --fix .

lint: ## check style without changing anything
	uv run ruff format --check .
	uv run ruff check .

typecheck: ## check the types of the four packages
	uv run mypy packages/parser/src packages/kernels/src packages/data/src packages/trainer/src

test: ## run every CPU test, benchmarks once each
	uv run pytest

families: ## measure every model family and write the tables of docs/families.md
	uv run pytest -q -n0 tests/trainer/families --write-families

bench: ## time the pytest-benchmark groups of every package
	uv run pytest packages --benchmark-enable --benchmark-only

bench-kernels: ## one table of merge-kernel ratios, measured round-robin
	uv run python packages/kernels/benchmarks/table.py

bench-trainer: ## tables of saved memory, of decoding and of whole steps against stock TRL; half an hour at most
	uv run python packages/trainer/benchmarks/table.py --saved
	uv run python packages/trainer/benchmarks/decode.py --pairs 3
	uv run python packages/trainer/benchmarks/whole.py --minutes 18

bench-passes: ## tables of policy passes against stock transformers, and of the head in slices
	uv run python packages/trainer/benchmarks/table.py --steps --passes
	uv run python packages/trainer/benchmarks/head.py --pairs 1

kill-check: ## kill -9 a run at KILLS (200) random moments, half of them inside a save; about 20 minutes
	KILLS=$${KILLS:-200} uv run pytest -q -s tests/trainer/checkpoints/test_kills.py

gpu-check: ## kernels, attention and three steps on a CUDA machine, in one table, in at most ten minutes
	bash scripts/gpu_check.sh

vllm-check: ## test rollouts through a real vLLM engine on this CPU, in an environment of its own (3.3 GB)
	bash scripts/vllm_check.sh

env-check: ## test MiniGrid and the pages of MiniWoB++, with their libraries in a folder of their own (50 MB)
	bash scripts/env_check.sh

fuzz: ## draw EXAMPLES (2000) new rows and texts for each test, and damage new files; about ten minutes
	TRIPTYCH_FUZZ=$${EXAMPLES:-2000} uv run pytest -q -p no:cacheprovider --timeout 0 tests/data/test_fuzz.py tests/data/test_fuzz_rows.py tests/parser/test_fuzz.py tests/parser/test_special.py tests/parser/test_roundtrip.py

lanes: ## test the oldest and the newest allowed versions, and resolve them with vLLM, each in a throw-away environment (6 GB)
	bash scripts/lanes.sh

walk: ## install the wheels into an empty environment and run every command of docs/install.md there, with both ends of the versions
	bash scripts/walk.sh
