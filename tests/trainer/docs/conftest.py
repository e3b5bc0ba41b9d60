"""Small local stand-ins for the models, data files, images and reward files that the documents name."""

import json
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from .commands import values_of

PICTURES = ("a.png", "b.png")
TOOL = (
    'def {name}(number: int = 0) -> str:\n    """Measure an image.\n\n    Args:\n        number: which.\n    """\n'
    '    return "1"\n'
)
REWARD = "def {name}(completions, **columns):\n    return [float(len(str(text)) % 3) for text in completions]\n"
FAMILY = "from triptych_trainer.models.families.qwen_vl import QwenVLFamily as {name}\n"
QUESTIONS = ("Before <image> After <image> what changed ?", "Is <image> or <image> red ?")


def vlm_r1_rows() -> list[dict]:
    return [
        {
            "id": f"row-{k}",
            "image": list(PICTURES),
            "conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": "red"}],
        }
        for k, question in enumerate(QUESTIONS * 2)
    ]


def llama_factory_rows() -> list[dict]:
    return [{"conversations": row["conversations"], "images": row["image"]} for row in vlm_r1_rows()]


def trl_table(folder: Path) -> pa.Table:
    parts = [{"type": "image", "text": None}, {"type": "text", "text": "what is red ?"}]
    images = [{"bytes": (folder / name).read_bytes(), "path": None} for name in PICTURES[:1]]
    rows = [{"prompt": [{"role": "user", "content": parts}], "images": images, "answer": "red"} for _ in range(4)]
    return pa.Table.from_pylist(rows)


def write_images(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for k, name in enumerate(PICTURES):
        Image.new("RGB", (84, 56), (60 * k, 90, 200)).save(folder / name)


def write_data(path: Path) -> None:
    """Write a data file of the kind that its name ends in, with images beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_images(path.parent)
    if path.suffix == ".parquet":
        pq.write_table(trl_table(path.parent), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(llama_factory_rows()))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in vlm_r1_rows()))


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[str]], Path]:
    """Make every file and folder that a command reads, in an empty folder that is the current one."""

    def make(words: Sequence[str]) -> Path:
        monkeypatch.chdir(tmp_path)
        written = {"--json", "--html", "--fix", "-o", "--out", "--output_dir", "--keep_mixed"}
        option = ""
        for before, word in zip(["", *words], words, strict=False):
            option = word if word.startswith("--") else option
            if word.endswith((".jsonl", ".json", ".parquet")) and before not in written:
                write_data(tmp_path / word)
            if found := re.fullmatch(r"([\w/]+\.py):(\w+)", word):
                text = {"--family": FAMILY, "--tools": TOOL}.get(option, REWARD)
                (tmp_path / found[1]).write_text(text.format(name=found[2]))
        for folder in values_of(words, "--image_root"):
            write_images(tmp_path / folder)
        return tmp_path

    return make


@pytest.fixture
def judge() -> Iterator[str]:
    """The address of a chat endpoint that finds everything right."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps({"choices": [{"message": {"content": "1"}}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
