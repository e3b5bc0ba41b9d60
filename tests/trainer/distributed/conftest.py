"""Rows for the ranks of a training."""

import json
from pathlib import Path

import pytest
from PIL import Image

# Two ranks take two prompts each: in the first generation the second rank has no image, in the second the first.
IMAGES = [2, 1, 0, 0, 0, 0, 1, 5]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    for k in range(6):
        Image.new("RGB", (56 + 28 * (k % 3), 56), (40 * k, 30, 200 - 30 * k)).save(folder / f"{k}.png")
    lines = [
        {
            "id": f"row-{k}",
            "image": [f"{(k + j) % 6}.png" for j in range(count)],
            "conversations": [
                {"from": "human", "value": "".join(f"Part {j + 1} <image> . " for j in range(count)) + "Which ?"},
                {"from": "gpt", "value": "red"},
            ],
        }
        for k, count in enumerate(IMAGES)
    ]
    path = folder / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    return path
