#!/usr/bin/env bash
# The stated ranges are true: install the oldest and the newest versions that they allow, each into a throw-away
# environment, and run there the tests that libraries can break, without those marked slow.
#
#   bash scripts/lanes.sh                   both lanes, and what resolves beside vLLM
#   bash scripts/lanes.sh lowest            one lane; the others are called newest and vllm
#   bash scripts/lanes.sh slow              the slow tests with the newest transformers before the libraries of `uv sync`
#   LANES_TESTS="tests/parser" bash scripts/lanes.sh newest      other tests
#   LANES_UV="--find-links wheels --override overrides.txt" ...  further arguments of uv, such as a folder of CPU wheels
#   LANES_KEEP=/folder ...                  keep the environments there, and use them again
#
# An environment takes about 6 GB, or 2 GB with a torch for CPUs, and a lane about fifteen minutes on two cores.
# The last lines are rows of the table in docs/versions.md.
set -euo pipefail
cd "$(dirname "$0")/.."
work=${LANES_KEEP:-$(mktemp -d)}
mkdir -p "$work"
[ -n "${LANES_KEEP:-}" ] || trap 'rm -rf "$work"' EXIT
read -ra more <<<"${LANES_UV:-}"
read -ra tests <<<"${LANES_TESTS:-tests/parser tests/data tests/kernels tests/trainer --ignore=tests/trainer/docs}"
packages=("$PWD"/packages/{parser,kernels,data,trainer})
editable=("${packages[@]/#/--editable=}") # a copy of the sources could be an old one from uv's cache
tools=(pytest pytest-timeout pytest-xdist pytest-benchmark hypothesis num2words openai simplejpeg math-verify tensorboard)
shown=(torch torchvision transformers trl peft accelerate datasets pillow)
rows=()
export TRIPTYCH_CUDA=off # the tests need no CUDA kernels, which take longer to compile than all else
uv() { (cd "$work" && command uv "$@"); } # elsewhere the constraints of this workspace do not hold
step() { printf '\n== %s (%ss)\n' "$1" "$SECONDS"; }

install() { # lane, resolution
    local python="$work/$1/bin/python" file
    [ -x "$python" ] || uv venv --quiet --python 3.11 "$work/$1" || return 1
    uv pip install --quiet --python "$python" --resolution "$2" "${more[@]}" "${editable[@]}" || return 1
    uv pip freeze --quiet --python "$python" | grep '==' >"$work/$1.txt"
    uv pip install --quiet --python "$python" --constraints "$work/$1.txt" "${more[@]}" "${tools[@]}" || return 1
    "$python" -c "import torchvision" 2>/dev/null && return
    # The index has torchvision for CUDA only. Beside a torch for CPUs its C++ operators do not load; no test uses them.
    file=$("$python" -c "import importlib.util as u; print(u.find_spec('torchvision').submodule_search_locations[0])")
    file+="/_meta_registrations.py"
    for name in nms qnms; do
        printf 'import torch\ntorch.library.define("torchvision::%s", "%s")\n%s\n' "$name" \
            "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor" "$(cat "$file")" >"$file.new"
        mv "$file.new" "$file"
    done
    "$python" -c "import torchvision"
}

versions() { # lane
    local name line=""
    for name in "${shown[@]}"; do
        line+=" $(grep -i "^$name==" "$work/$1.txt" | sed 's/.*==//') |"
    done
    printf '%s' "$line"
}

lane() { # lane, resolution
    step "$1: install"
    install "$1" "$2" || { rows+=("| $1 | cannot be installed |") && return 1; }
    step "$1: test"
    local status=0
    env -u PYTHONPATH OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 "$work/$1/bin/python" -m pytest -q -p no:cacheprovider \
        -m "not gpu and not slow" --tb=line "${tests[@]}" 2>&1 | tee "$work/$1.log" || status=$?
    rows+=("| $1 |$(versions "$1") $(tail -n 1 "$work/$1.log" | sed 's/ in .*//; s/=//g; s/^ *//') |")
    return "$status"
}

slow() { # only transformers changes, so that 60 MB are enough
    step "slow: install"
    local bounds status=0 tests
    local folders=(stock forward grpo sft verification models checkpoints trajectories forecast families distributed)
    bounds=$(grep -o '"transformers[^"]*"' packages/trainer/pyproject.toml | tr -d '"')
    uv pip install --quiet --python 3.11 --no-deps --target "$work/transformers" "$bounds" || return 1
    read -ra tests <<<"${LANES_TESTS:-${folders[*]/#/tests/trainer/}}"
    step "slow: test"
    OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 PYTHONPATH="$work/transformers" command uv run --no-sync python -m pytest -q \
        -p no:cacheprovider -m "slow and not gpu" --tb=line "${tests[@]}" 2>&1 | tee "$work/slow.log" || status=$?
    rows+=("| slow, $(basename "$work"/transformers/transformers-*.dist-info) | $(tail -n 1 "$work/slow.log") |")
    return "$status"
}

beside_vllm() {
    step "vllm: resolve"
    local requirement
    for requirement in "vllm==0.30.*" "vllm==0.31.*" "vllm==0.32.*" "vllm>=0.33"; do
        printf '%s\n' "${packages[@]}" "$requirement" >"$work/vllm.in"
        if uv pip compile --quiet --python-version 3.11 "${more[@]}" "$work/vllm.in" -o "$work/vllm.txt"; then
            rows+=("| $requirement |$(versions vllm) $(grep '^vllm==' "$work/vllm.txt"), resolved only |")
        else
            rows+=("| $requirement | no version fits |")
        fi
    done
}

failed=0
for name in ${*:-lowest newest vllm}; do
    case "$name" in
        lowest) lane lowest lowest-direct || failed=1 ;;
        newest) lane newest highest || failed=1 ;;
        vllm) beside_vllm ;;
        slow) slow || failed=1 ;;
        *) echo "no lane $name: lowest, newest, vllm, slow" >&2 && exit 2 ;;
    esac
done
printf '\n| lane | %s result |\n' "$(printf '%s | ' "${shown[@]}")"
printf '%s\n' "${rows[@]}"
exit "$failed"
