"""Pictures and files that the data tests draw for themselves."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent / "support"))  # `damaged_files`, for several tests


def draw(width: int = 64, height: int = 48, *, seed: int = 0) -> Image.Image:
    """A picture with smooth shades and some noise, so that damage shows."""
    noise = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    base = np.stack([x * 255 / max(width, 1), y * 255 / max(height, 1), (x + y + 40 * seed) % 256], axis=-1)
    return Image.fromarray(np.clip(base + noise.normal(0, 6, base.shape), 0, 255).astype(np.uint8))


def encode(picture: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    """The picture's file as bytes."""
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


@pytest.fixture(name="draw")
def draw_fixture() -> Callable[..., Image.Image]:
    return draw


@pytest.fixture(name="encode")
def encode_fixture() -> Callable[..., bytes]:
    return encode


@pytest.fixture
def write_jsonl(tmp_path: Path) -> Callable[..., Path]:
    """Write rows (dicts, or raw text) to a JSONL file below the test's folder."""

    def write(rows: Iterable[Any], *, name: str = "train.jsonl") -> Path:
        path = tmp_path / name
        lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write


@pytest.fixture
def pictures(tmp_path: Path) -> list[str]:
    """Names of five pictures of different sizes in the test's folder: 0.png, 1.jpg, 2.png, 3.jpg, 4.png."""
    names = []
    for index in range(5):
        name = f"{index}.{'jpg' if index % 2 else 'png'}"
        draw(40 + 10 * index, 30 + 5 * index, seed=index).save(tmp_path / name)
        names.append(name)
    return names
