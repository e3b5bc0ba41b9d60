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

    It goes on from `<title>`: what stands before that, the policy too, is that of all pages.
    Style and script are those of all pages, then `<name>.css` and `<name>.js`, with further `scripts` before it: each
    from the page's own folder or else the common one, and with its style where it has one.
    """
    common = resources.files("triptych_trainer.pages") / "assets"
    places = (assets, common)
    scripted = [next(path for place in places if (path := place / f"{more}.js").is_file()) for more in scripts]
    styled = [path for more in scripts for place in places if (path := place / f"{more}.css").is_file()]
    style = _joined(common / "common.css", *styled, assets / f"{name}.css")
    script = _joined(common / "common.js", *scripted, assets / f"{name}.js")
    parts = {**parts, "STYLE": style, "STYLE_HASH": _hash(style), "SCRIPT": script, "SCRIPT_HASH": _hash(script)}
    pieces = _joined(common / "head.html", assets / f"{name}.html").split("%%")
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


def _joined(*files: Traversable) -> str:
    return "\n".join(file.read_text(encoding="utf-8").rstrip("\n") for file in files) + "\n"


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
