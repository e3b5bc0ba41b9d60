#!/usr/bin/env bash
# Everything that needs a CUDA device: the kernels (build, `-m gpu` tests, table), attention without masks against three other
# ways, and three training steps of a model of Qwen2.5-VL-3B's shape. One call without a network, which ends with one table.
#
#   bash scripts/gpu_check.sh              on a machine with a GPU
#   bash scripts/gpu_check.sh --cpu-tiny   the same lines on tiny sizes on the CPU, without nvcc: what can be tried without a GPU
#
# All parts together get TRIPTYCH_GPU_SECONDS (default 570): each part has a limit of its own and ends at it, and a part for
# which nothing is left is named in the table as not run. The exit code is 1 only if a part fails, not if one is cut short.
#
# Needs on the machine: nvcc, a C++ compiler, Python 3.11 or later with torch 2.11 or later, pybind11 3.1, scikit-build-core,
# cmake, ninja, pytest 9, pytest-timeout, pytest-benchmark and hypothesis. Attention and steps also need transformers 5.17 or
# later, accelerate, peft, numpy and Pillow. TRL 1.16 and datasets add TRL's steps and the forecast of memory; transformers adds the
# masked_scatter row; Triton comes with torch. Nothing is downloaded: where a package is missing, put its wheel into a folder
# and set TRIPTYCH_WHEELS to it (`pip download --no-deps --only-binary :all: --python-version 3.12 -d wheels trl==1.16.0
# datasets dill multiprocess` makes one of 2 MB, for a machine that has all else). A part that fails says so and makes the exit
# code 1, a part that needs TRL where it is not installed is listed as left out, and the other parts run. TRIPTYCH_PYTHON chooses the interpreter (default: python3).
set -euo pipefail
cd "$(dirname "$0")/.."
export python=${TRIPTYCH_PYTHON:-python3} HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
tiny=${1:-}
[ -z "$tiny" ] || [ "$tiny" = --cpu-tiny ] || { echo "expected nothing or --cpu-tiny, got $tiny" >&2; exit 2; }
budget=${TRIPTYCH_GPU_SECONDS:-570}
export work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rows=() failed=() left_out=()

part() { # part NAME SECONDS COMMAND...: run it for so long at most, keep its lines for the table, and go on where it fails
    local name=$1 limit=$2 began=$SECONDS left=$((budget - SECONDS)) code=0 state line
    shift 2
    if [ "$left" -lt 1 ]; then
        rows+=("| $name | - | not run: nothing is left of the $budget seconds |")
        return
    fi
    [ "$limit" -le "$left" ] || limit=$left
    printf '\n== %s (%ss, at most %ss)\n' "$name" "$SECONDS" "$limit"
    timeout -k 5 "$limit" "$@" 2>&1 | tee "$work/log" || code=$?
    case $code in
    0) state=done ;;
    69) state="left out" left_out+=("$name") ;;
    124 | 137) state="stopped after $limit seconds" ;;
    *) state="FAILED (exit code $code)" failed+=("$name") ;;
    esac
    rows+=("| $name | $((SECONDS - began)) | $state |")
    while IFS= read -r line; do rows+=("| | | ${line#RESULT } |"); done < <(grep '^RESULT ' "$work/log")
}

build() { # the kernels for this device, into a folder of this run
    local pip=("$python" -m pip install --quiet --no-index --no-deps --no-compile --target "$work/site")
    if [ -n "${TRIPTYCH_WHEELS:-}" ]; then "${pip[@]}" "$TRIPTYCH_WHEELS"/*.whl || return 1; fi
    TRIPTYCH_CUDA=on "${pip[@]}" --no-build-isolation --upgrade ./packages/kernels || return 1
    "$python" -c 'import triptych_kernels as tk; reason = tk.unavailable_reason(); assert reason is None, reason; print(tk.__file__)'
}
export -f build

"$python" -c 'import importlib.util as u, sys; sys.exit(u.find_spec("torch") is None)' ||
    { echo "expected an interpreter with torch, and $python has none; name one in TRIPTYCH_PYTHON" >&2; exit 2; }
"$python" -c 'import sys, torch; print("python", sys.version.split()[0], "torch", torch.__version__)'
own=$(printf "%s:" "$PWD"/packages/{parser,data,trainer}/src)
benchmarks=packages/trainer/benchmarks
if [ -z "$tiny" ]; then
    nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
    nvcc --version | tail -n 2
    "$python" -c 'import torch; assert torch.cuda.is_available(), "torch finds no CUDA device"'
    export PYTHONPATH="$work/site${PYTHONPATH:+:$PYTHONPATH}"
    part "build of the kernels" 150 bash -c build
    # -W default: a warning of the machine's own libraries, such as torch's of TensorFloat32, fails no test
    tests=("$python" -m pytest tests/kernels/test_gpu.py -m gpu -q -W default -p no:cacheprovider --confcutdir tests/kernels
        --override-ini addopts="--strict-markers --import-mode=importlib")
    part "tests of the kernels" 100 "${tests[@]}" -k "not sanitizer"
fi
export PYTHONPATH="$own${PYTHONPATH:-}"
part "attention of one layer" 110 "$python" -W ignore $benchmarks/device_attention.py ${tiny:+"$tiny"}
part "three steps of Triptych" 120 "$python" -W ignore $benchmarks/device_steps.py --trainer triptych ${tiny:+"$tiny"}
part "three steps of TRL" 120 "$python" -W ignore $benchmarks/device_steps.py --trainer trl ${tiny:+"$tiny"}
table=("$python" packages/kernels/benchmarks/table.py --results)
if [ -z "$tiny" ]; then
    part "table of the kernels" 150 "${table[@]}" --device cuda --rounds 15 --sizes 4096x2048 32768x3584 16384x2048 \
        --groups forward feature-backward text-backward forward+backward
    rows+=("| | | targets at 16384x2048: copy >= 0.85, masked_scatter >= 6 (forward) and >= 10 (feature-backward) |")
    part "kernels under compute-sanitizer" 100 "${tests[@]}" -k sanitizer
else
    part "table of the kernels" 60 "${table[@]}" --device cpu --rounds 2 --no-compile --sizes 64x64 --groups forward
fi

printf '\n| part | seconds | result |\n|---|---:|---|\n'
printf '%s\n' "${rows[@]}"
printf '\n%s seconds of %s\n' "$SECONDS" "$budget"
[ ${#left_out[@]} -eq 0 ] || printf 'LEFT OUT: %s\n' "${left_out[@]}"
[ ${#failed[@]} -eq 0 ] || { printf 'FAILED: %s\n' "${failed[@]}"; exit 1; }
