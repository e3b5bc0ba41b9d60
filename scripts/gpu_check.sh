#!/usr/bin/env bash
# Everything about the merge kernels that needs a CUDA device: build, `-m gpu` tests, table. Under ten minutes, no network.
#
# Needs on the machine: nvcc, a C++ compiler, Python 3.11 or later with torch 2.11 or later, pybind11 3, scikit-build-core,
# cmake, ninja, pytest, pytest-timeout, pytest-benchmark and hypothesis. transformers adds the masked_scatter row; Triton
# comes with torch. Nothing is downloaded: where a package is missing, put its wheel into a folder and set TRIPTYCH_WHEELS
# to it. TRIPTYCH_PYTHON chooses the interpreter (default: python3).
set -euo pipefail
cd "$(dirname "$0")/.."
python=${TRIPTYCH_PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
step() { printf '\n== %s (%ss)\n' "$1" "$SECONDS"; }

step "machine"
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
nvcc --version | tail -n 2
"$python" -c 'import sys, torch; print("python", sys.version.split()[0], "torch", torch.__version__); assert torch.cuda.is_available()'

step "build"
site="$work/site"
pip=("$python" -m pip install --quiet --no-index --no-deps --no-compile --target "$site")
if [ -n "${TRIPTYCH_WHEELS:-}" ]; then "${pip[@]}" "$TRIPTYCH_WHEELS"/*.whl; fi
export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
TRIPTYCH_CUDA=on "${pip[@]}" --no-build-isolation --upgrade ./packages/kernels
"$python" -c 'import triptych_kernels as tk; reason = tk.unavailable_reason(); assert reason is None, reason; print(tk.__file__)'

step "tests"
"$python" -m pytest tests/kernels -m gpu -q -p no:cacheprovider --confcutdir tests/kernels --override-ini addopts="--strict-markers --import-mode=importlib"

step "table"
"$python" packages/kernels/benchmarks/table.py --device cuda --rounds 15 --sizes 4096x2048 16384x2048 32768x3584 \
    --groups forward feature-backward text-backward forward+backward
echo
echo "targets at 16384x2048 and above: copy >= 0.85, transformers_masked_scatter >= 6 (forward) and >= 10 (feature-backward)"
step "done"
