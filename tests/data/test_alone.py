"""The package without torch, datasets, transformers and pyarrow: what its own dependencies are enough for."""

import json
import subprocess
import sys

import pytest
from PIL import Image

BLOCK = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "datasets", "transformers", "pyarrow", "torchvision"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name.partition(".")[0])
sys.meta_path.insert(0, Blocked())
"""
EVERYTHING = """
from pathlib import Path
import numpy as np
from triptych_data import ImageLoader, load_image, read_examples
from triptych_data.__main__ import main
from triptych_data.errors import UsageError
from triptych_data.resize import resize
from triptych_data.rows import open_rows

assert main(["check", "rows.jsonl", "rows.json", "--workers", "1", "--fix", "clean.jsonl"]) == 0
assert main(["check", "clean.jsonl", "--workers", "1"]) == 0
assert main(["preview", "rows.jsonl", "-o", "page.html", "--quiet"]) == 0
assert "data:image/png;base64," in Path("page.html").read_text()
(example,) = read_examples("rows.jsonl")
assert load_image(example.images[0]).size == (40, 30)
with ImageLoader(threads=1) as images:
    assert [image.size for image in images.get(example)] == [(40, 30)]
pixels = np.zeros((30, 40, 3), dtype=np.uint8)
assert resize(pixels, (30, 40)) is pixels
for what, expected in [
    (lambda: resize(pixels, (15, 20)), "resizing an image needs torch: pip install 'triptych-data[torch]'"),
    (lambda: open_rows("rows.parquet"), "rows.parquet needs datasets: pip install 'triptych-data[hub]'"),
    (lambda: open_rows("someone/something"), "needs datasets: pip install 'triptych-data[hub]'"),
]:
    try:
        what()
    except UsageError as error:
        assert expected in str(error), error
    else:
        raise AssertionError(expected)
for command in ("check", "preview"):
    assert main([command, "rows.jsonl", "--model", "nowhere"]) == 2
"""


@pytest.fixture
def folder(tmp_path):
    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.png")
    row = {"prompt": "What is in <image> ?", "images": ["a.png"], "answer": "red"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "rows.json").write_text(json.dumps([row]))
    (tmp_path / "rows.parquet").write_bytes(b"PAR1" + bytes(300))
    return tmp_path


def test_reads_checks_decodes_and_previews_without_torch_and_datasets(folder):
    run = subprocess.run([sys.executable, "-c", BLOCK + EVERYTHING], cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    for command in ("check", "preview"):
        assert f"triptych-data {command}: error: --model needs transformers: pip install transformers" in run.stderr
