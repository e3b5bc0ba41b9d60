#!/usr/bin/env bash
# Build the wheels of all packages, and install each as a user does: from the wheels alone, into an empty environment,
# without a compiler; then import it.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
constraints="$work/constraints.txt"
sed -n '/^constraint-dependencies/,/^\]/p' pyproject.toml | grep -oE '"[^"]+"' | tr -d '"' >"$constraints"

mkdir "$work/wheels"
for name in parser kernels data trainer; do uv build --quiet --wheel --out-dir "$work/wheels" "packages/$name"; done

alone() { # package; only what it depends on comes with it
    local name=$1 env="$work/$1"
    uv venv --quiet "$env"
    CC=false CXX=false uv pip install --quiet --python "$env/bin/python" --constraints "$constraints" --no-build \
        --find-links "$work/wheels" "triptych-$name"
    (cd "$work" && "$env/bin/python" -c "import triptych_$name as package; print('triptych_$name alone:', len(package.__all__), 'names')")
}
alone parser
alone kernels
alone data
echo '{"prompt": "What is red ?", "answer": "a rose"}' >"$work/rows.jsonl"
"$work/data/bin/triptych-data" check "$work/rows.jsonl" # without torch and datasets, which only its extras install
"$work/data/bin/triptych-data" preview "$work/rows.jsonl" -o "$work/page.html"
"$work/data/bin/python" -c "import importlib.util as u, sys; sys.exit(any(map(u.find_spec, ('torch', 'datasets', 'transformers'))))"
alone trainer
"$work/trainer/bin/triptych" --version
