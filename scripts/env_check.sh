#!/usr/bin/env bash
# Test the two real environments, MiniGrid and the pages of MiniWoB++, with their libraries in a folder beside .venv.
#
#   bash scripts/env_check.sh                     fails where the libraries cannot be installed
#   bash scripts/env_check.sh --where-possible    says so instead, and succeeds
#
# The folder takes about 50 MB, is made once and kept. It holds the libraries without what they would bring along:
# everything else is in .venv, and miniwob's own browser driver (selenium) is not used. Without a chromium on this
# machine the tests of MiniWoB++ are skipped, and say so.
set -euo pipefail
cd "$(dirname "$0")/.."
home=$(realpath -m "${ENVIRONMENTS:-.venv-environments}")
python=${PYTHON:-$PWD/.venv/bin/python}
pinned=$(sed -n '/^constraint-dependencies/,/^\]/p' pyproject.toml | grep -oE '"[^"]+"' | tr -d '"')
wanted=$(grep -E '^(cloudpickle|farama-notifications|gymnasium|minigrid|miniwob|pygame-ce)==' <<<"$pinned" | tr '\n' ' ')

install() {
    rm -rf "$home"
    # shellcheck disable=SC2086 # a list of names
    uv pip install --quiet --no-config --no-deps --python "$python" --target "$home" $wanted || return 1
    echo "$wanted" >"$home/made-for"
}

if [ "$(cat "$home/made-for" 2>/dev/null)" != "$wanted" ] && ! install; then
    echo "env-check: $wanted cannot be installed here (see the error above)"
    [ "${1:-}" = --where-possible ] && exit 0
    exit 1
fi
echo "env-check: $wanted"
OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 PYGAME_HIDE_SUPPORT_PROMPT=1 PYTHONPATH="$home${PYTHONPATH:+:$PYTHONPATH}" \
    "$python" -m pytest -q -rs -n0 -p no:cacheprovider tests/trainer/environments
