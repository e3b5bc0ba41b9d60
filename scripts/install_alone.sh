#!/usr/bin/env bash
# Install each package into an empty environment, beside only the packages that it may import, and import it.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
constraints="$work/constraints.txt"
sed -n '/^constraint-dependencies/,/^\]/p' pyproject.toml | grep -oE '"[^"]+"' | tr -d '"' >"$constraints"

alone() { # package, packages it may import...
    local name=$1 env="$work/$1"
    shift
    uv venv --quiet "$env"
    uv pip install --quiet --python "$env/bin/python" --constraints "$constraints" "$@"
    (cd "$work" && "$env/bin/python" -c "import triptych_$name as package; print('triptych_$name alone:', len(package.__all__), 'names')")
}
alone parser ./packages/parser
alone kernels ./packages/kernels
alone data ./packages/parser ./packages/data
echo '{"prompt": "What is red ?", "answer": "a rose"}' >"$work/rows.jsonl"
"$work/data/bin/triptych-data" check "$work/rows.jsonl" # without torch and datasets, which only its extras install
"$work/data/bin/python" -c "import importlib.util as u, sys; sys.exit(any(map(u.find_spec, ('torch', 'datasets', 'transformers'))))"
alone trainer ./packages/parser ./packages/kernels ./packages/data ./packages/trainer
