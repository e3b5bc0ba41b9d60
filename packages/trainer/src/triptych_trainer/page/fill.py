"""One HTML file from a template, its style and its script, with a policy that allows nothing else."""

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any


def filled_page(
    assets: Traversable, name: str, *, parts: Mapping[str, str | Iterable[str]], scripts: Sequence[str] = ()
) -> Iterator[str]:
    """Yield the page `assets/<name>.html` piece by piece, with `%%PART%%` filled in; an iterable part is read lazily.

    Style and script are those of all pages, then `<name>.css` and `<name>.js`, with further `scripts` before it: each
    from the page's own folder or else the common one, and with its style where it has one.
    """
    common = resources.files("triptych_trainer.page") / "assets"
    more = {kind: [_found(f"{stem}.{kind}", assets, common) for stem in scripts] for kind in ("css", "js")}
    style, script = (
        _joined(common / f"common.{kind}", *filter(None, more[kind]), assets / f"{name}.{kind}")
        for kind in ("css", "js")
    )
    parts = {**parts, "STYLE": style, "STYLE_HASH": _hash(style), "SCRIPT": script, "SCRIPT_HASH": _hash(script)}
    pieces = (assets / f"{name}.html").read_text(encoding="utf-8").split("%%")
    for k, piece in enumerate(pieces):  # text, NAME, text, NAME, ..., so that what is filled in is never searched again
        part = parts[piece] if k % 2 else piece
        if isinstance(part, str):
            yield part
        else:
            yield from part


def safe_json(value: Any) -> str:
    """Return JSON that cannot end the script element that holds it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _found(name: str, *places: Traversable) -> Traversable | None:
    return next((place / name for place in places if (place / name).is_file()), None)


def _joined(*files: Traversable) -> str:
    return "\n".join(file.read_text(encoding="utf-8").rstrip("\n") for file in files) + "\n"


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
