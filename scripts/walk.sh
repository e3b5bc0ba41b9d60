#!/usr/bin/env bash
# The way of a stranger with a folder of wheels and the docs: install the wheels into an empty environment, and run there, in
# an empty folder, every command of "Try it" in docs/install.md; ask the page of the last one a question.
#
#   bash scripts/walk.sh                    with the oldest and with the newest versions that the bounds allow
#   bash scripts/walk.sh lowest             one of them; the other is called newest
#   WALK_UV="--find-links torches" ...      further arguments of uv and pip, such as a folder of CPU wheels
#   WALK_KEEP=/folder ...                   keep the environments and what the commands wrote there
#
# An environment takes about 6 GB, and the commands about four minutes on an idle core. The last lines are rows of the
# table in docs/install.md.
set -euo pipefail
cd "$(dirname "$0")/.."
work=${WALK_KEEP:-$(mktemp -d)}
mkdir -p "$work/wheels"
[ -n "${WALK_KEEP:-}" ] || trap 'rm -rf "$work"' EXIT
read -ra more <<<"${WALK_UV:-}"
shown=(torch torchvision transformers trl peft accelerate datasets pillow numpy)
rows=()
step() { printf '\n== %s (%ss)\n' "$1" "$SECONDS"; }

# What is between ```bash and ``` of the section, one command a line.
sed -n '/^## Try it/,/^## The wheel/p' docs/install.md | sed -n '/^```bash/,/^```/p' | grep -v '^```' |
    sed -e ':a' -e '/\\$/N; s/\\\n *//; ta' >"$work/commands"
for name in parser kernels data trainer; do
    TRIPTYCH_CUDA=off uv build --quiet --wheel --out-dir "$work/wheels" "packages/$name"
done
# With lowest-direct, uv takes the oldest version of what it is asked for by name: so ask for what the wheels ask for.
for wheel in "$work"/wheels/*.whl; do
    python3 -c "import sys, zipfile as z; w = z.ZipFile(sys.argv[1]); print(*(w.read(n).decode() for n in w.namelist() if n.endswith('/METADATA')))" "$wheel"
done | sed -n 's/^Requires-Dist: //p' | grep -v 'extra ==' >"$work/direct"

ask() { # output of `triptych chat`; ask as its page does
    python - "$1" <<'PYTHON'
import base64, json, pathlib, re, sys, time, urllib.request
for _ in range(600):
    found = re.search(r"http://127\.0\.0\.1:\d+/\S+", pathlib.Path(sys.argv[1]).read_text())
    if found:
        break
    time.sleep(0.2)
assert "<title>" in urllib.request.urlopen(found[0]).read().decode()
pictures = sorted(pathlib.Path("outputs/demo/data/images").rglob("*.png"))[:2]
images = [base64.b64encode(path.read_bytes()).decode() for path in pictures]
text = "Look at <image> , <image> . Which one is red ?"
body = {"messages": [{"role": "user", "content": text}], "images": images, "temperature": 0, "max_tokens": 16}
request = urllib.request.Request(found[0] + "ask", json.dumps(body).encode(), {"Content-Type": "application/json"})
reply = json.load(urllib.request.urlopen(request))
assert "error" not in reply, reply["error"]
assert len(reply["tokens"]) > 0 and len(reply["images"]) == 2
print("answer:", reply["answer"])
PYTHON
}

commands() { # in the folder and the environment of a walk
    local line begun status
    while read -r line; do
        printf '\n$ %s\n' "$line"
        begun=$SECONDS status=0
        if [[ $line == *" chat "* ]]; then
            $line --port 0 >chat.log 2>&1 &
            ask chat.log || status=$?
            kill $! || status=$?
        else
            $line </dev/null || status=$?
        fi
        echo "$((SECONDS - begun)) s"
        [ "$status" = 0 ] || { echo "exit code $status: $line" && return 1; }
    done
    for file in outputs/demo/report.html preview.html tried/report.html outputs/demo/data/mixed.jsonl cold/model.safetensors \
        adapters/report.html merged/model.safetensors eval.html; do
        [ -s "$file" ] || { echo "no $file" && return 1; }
    done
}

install() { # name
    uv venv --quiet --python 3.11 --seed "$work/$1" && cd "$work" || return 1
    if [ "$1" = newest ]; then # as docs/install.md says
        "$1/bin/pip" install --quiet --find-links wheels "${more[@]}" triptych-trainer
    else
        uv pip install --quiet --python "$1/bin/python" --find-links wheels --resolution lowest-direct --requirements direct \
            "${more[@]}" triptych-trainer
    fi
}

walk() { # name
    local name=$1 line="" library begun result
    step "$name: install"
    rm -rf "${work:?}/$name" "$work/$name.walk" && mkdir "$work/$name.walk"
    (install "$name") || { rows+=("| $name | cannot be installed |") && return 1; }
    uv pip freeze --quiet --python "$work/$name/bin/python" >"$work/$name.txt"
    for library in "${shown[@]}"; do
        line+=" $(grep -i "^$library==" "$work/$name.txt" | sed 's/.*==//') |"
    done
    step "$name: walk"
    begun=$SECONDS result="$(grep -c . "$work/commands") commands"
    (cd "$work/$name.walk" && unset PYTHONPATH VIRTUAL_ENV PYTHONDONTWRITEBYTECODE &&
        export PATH="$work/$name/bin:$PATH" OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 &&
        commands <"$work/commands") 2>&1 | tee "$work/$name.log" || result="failed"
    rows+=("| $name |$line $result, $((SECONDS - begun)) s |")
    [ "$result" != failed ]
}

failed=0
for name in ${*:-lowest newest}; do
    case "$name" in
        lowest | newest) walk "$name" || failed=1 ;;
        *) echo "no walk $name: lowest, newest" >&2 && exit 2 ;;
    esac
done
printf '\n| walk |%s result |\n' "$(printf ' %s |' "${shown[@]}")"
printf '%s\n' "${rows[@]}"
exit "$failed"
