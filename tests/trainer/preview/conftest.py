"""A data set with one row of each kind: named and annotated images, none, one twice, and whatever can be wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from triptych_data.model_tokens import ModelTokens
from triptych_data.preview.build import build_preview
from triptych_data.preview.collecting import open_sources
from triptych_data.prompt_settings import PromptSettings
from triptych_trainer.models.load import load_processor

HOSTILE = '<script>document.title = "owned"</script><img src=x onerror=alert(1)>\u2028 </script><!-- &amp; '
SIZES = {"before.png": (112, 56), "after.png": (56, 112), "large.jpg": (700, 500), "tiny.png": (20, 20)}
COLOURS = {
    "before.png": (200, 30, 30),
    "after.png": (30, 160, 60),
    "large.jpg": (40, 60, 200),
    "tiny.png": (90, 90, 90),
}


def row(name: str, prompt: str, images: Any, **more: Any) -> dict[str, Any]:
    turns = [{"from": "human", "value": prompt}, {"from": "gpt", "value": "the title"}]
    return {"id": name, "image": images, "conversations": turns, **more}


NAMED = [{"name": "before", "image": "before.png"}, {"name": "after", "image": "after.png"}]
SCREENS = "Before: <image:before>\nAfter: <image:after|after the tap>\nWhat changed?"
ROWS: list[Any] = [
    row("screens", SCREENS, NAMED, kind="gui", note=HOSTILE),
    row("first", "Which of the two?", ["before.png", "after.png"]),
    row("twice", "See <image:1> and again <image:1> .", ["after.png"]),
    row("hostile", HOSTILE + "<image>", ["before.png"]),
    row("missing", "One <image> two <image> .", ["before.png", "gone.png"]),
    '{"id": "half", "image"',
    row("count", "One <image> .", ["before.png", "after.png"]),
    {"id": "shape", "text": "no known columns"},
    row("large", "Read <image> .", ["large.jpg"]),
    row("cut", "Read <image> .", ["cut.jpg"]),
    row("screens-again", SCREENS, NAMED),
    {"id": "open", "image": [], "conversations": [{"from": "human", "value": "2 + 2 ?"}]},
    row("tiny", "Read <image> .", ["tiny.png"]),
    row("escape", "Read <image> .", ["../secret.png"]),
]


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file; its images lie beside it."""
    folder = tmp_path_factory.mktemp("data")
    for name, size in SIZES.items():
        Image.new("RGB", size, COLOURS[name]).save(folder / name)
    noise = np.random.default_rng(0).integers(0, 255, (80, 120, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "whole.jpg")
    (folder / "cut.jpg").write_bytes((folder / "whole.jpg").read_bytes()[:-900])
    path = folder / "rows.jsonl"
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in ROWS) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def previewed(tmp_path_factory: pytest.TempPathFactory, model_dir: Path) -> Callable[..., Path]:
    """Build a page of a file; keyword arguments are prompt settings, `model=False` counts no tokens."""

    def make(path: Path, *, model: bool = True, max_bytes: int = 1 << 24, limit: int = 0, **options: Any) -> Path:
        out = tmp_path_factory.mktemp("pages") / "preview.html"
        tokens = ModelTokens.of(load_processor(str(model_dir))) if model else None
        sources = open_sources([str(path)])
        settings = PromptSettings(**options)
        build_preview(sources, out, model=tokens, settings=settings, title=path.name, max_bytes=max_bytes, limit=limit)
        return out

    return make
