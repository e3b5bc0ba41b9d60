#!/usr/bin/env bash
# Everything that needs a CUDA device: the kernels (build, `-m gpu` tests, table), attention without masks against three other
# ways, and three training steps of a model of Qwen2.5-VL-3B's shape. One call, under ten minutes, no network.
#
#   bash scripts/gpu_check.sh              on a machine with a GPU
#   bash scripts/gpu_check.sh --cpu-tiny   the same lines on tiny sizes on the CPU, without nvcc: what can be tried without a GPU
#
# Needs on the machine: nvcc, a C++ compiler, Python 3.11 or later with torch 2.11 or later, pybind11 3, scikit-build-core,
# cmake, ninja, pytest, pytest-timeout, pytest-benchmark and hypothesis. Attention and steps also need transformers 5.17 or
# later, accelerate, peft, numpy and Pillow. TRL 1.16 and datasets add TRL's steps and the forecast of memory; transformers adds the
# masked_scatter row; Triton comes with torch. Nothing is downloaded: where a package is missing, put its wheel into a folder
# and set TRIPTYCH_WHEELS to it (`pip download --no-deps --only-binary :all: --python-version 3.12 -d wheels accelerate peft
# pybind11 scikit-build-core pytest-timeout pytest-benchmark` makes one). A part that fails or misses a package says so, and the
# other parts run. TRIPTYCH_PYTHON chooses the interpreter (default: python3).
set -euo pipefail
cd "$(dirname "$0")/.."
python=${TRIPTYCH_PYTHON:-python3}
tiny=${1:-}
[ -z "$tiny" ] || [ "$tiny" = --cpu-tiny ] || { echo "expected nothing or --cpu-tiny, got $tiny" >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=()
step() { printf '\n== %s (%ss)\n' "$1" "$SECONDS"; }
part() { # part NAME COMMAND...: run it, and go on where it fails
    step "$1"
    "${@:2}" || { echo "FAILED: $1"; failed+=("$1"); }
}

build() { # the kernels for this device, into a folder of this run
    local site="$work/site"
    local pip=("$python" -m pip install --quiet --no-index --no-deps --no-compile --target "$site")
    export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
    if [ -n "${TRIPTYCH_WHEELS:-}" ]; then "${pip[@]}" "$TRIPTYCH_WHEELS"/*.whl || return 1; fi
    TRIPTYCH_CUDA=on "${pip[@]}" --no-build-isolation --upgrade ./packages/kernels || return 1
    "$python" -c 'import triptych_kernels as tk; reason = tk.unavailable_reason(); assert reason is None, reason; print(tk.__file__)'
}

step "machine"
"$python" -c 'import sys, torch; print("python", sys.version.split()[0], "torch", torch.__version__)'
if [ -z "$tiny" ]; then
    nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
    nvcc --version | tail -n 2
    "$python" -c 'import torch; assert torch.cuda.is_available(), "torch finds no CUDA device"'
    part "build of the kernels" build
    part "tests of the kernels" "$python" -m pytest tests/kernels -m gpu -q -p no:cacheprovider --confcutdir tests/kernels \
        --override-ini addopts="--strict-markers --import-mode=importlib"
    part "table of the kernels" timeout 180 "$python" packages/kernels/benchmarks/table.py --device cuda --rounds 15 \
        --sizes 4096x2048 16384x2048 32768x3584 --groups forward feature-backward text-backward forward+backward
    echo "targets at 16384x2048 and above: copy >= 0.85, transformers_masked_scatter >= 6 (forward) and >= 10 (feature-backward)"
else
    part "table of the kernels" "$python" packages/kernels/benchmarks/table.py --device cpu --rounds 2 --no-compile \
        --sizes 64x64 --groups forward
fi

src=$(printf "%s:" "$PWD"/packages/{parser,data,trainer}/src)
export PYTHONPATH="$src${PYTHONPATH:-}" HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
part "attention and steps" timeout 300 "$python" -W ignore packages/trainer/benchmarks/device_steps.py ${tiny:+"$tiny"}

step "done"
[ ${#failed[@]} -eq 0 ] || { printf 'FAILED: %s\n' "${failed[@]}"; exit 1; }
