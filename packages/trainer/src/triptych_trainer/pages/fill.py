"""One HTML file from a template, its style and its script, with a policy that allows nothing else."""

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any


def filled_page(
    assets: Traversable, name: str, *, parts: Mapping[str, str | Iterable[str]], scripts: Sequence[str] = ()
) -> Iterator[str]:
    """Yield the page `assets/<name>.html` piece by piece, with `%%PART%%` filled in; an iterable part is read lazily.

    All pages have the shell `page.html`. The page's own file has a block for each `%%NAME%%` of the shell that is
    no part, begun by a line `<!-- NAME -->`; a block may contain parts itself. Style and script are, in this order,
    those of all pages, further `scripts` from the page's own folder or else the common one, with its style where it has
    one, and `<name>.css` and `<name>.js`.
    """
    common = resources.files("triptych_trainer.pages") / "assets"
    places = (assets, common)
    scripted = [next(path for place in places if (path := place / f"{more}.js").is_file()) for more in scripts]
    styled = [path for more in scripts for place in places if (path := place / f"{more}.css").is_file()]
    style = _joined(common / "common.css", *styled, assets / f"{name}.css")
    script = _joined(common / "common.js", *scripted, assets / f"{name}.js")
    parts = {**parts, "STYLE": style, "STYLE_HASH": _hash(style), "SCRIPT": script, "SCRIPT_HASH": _hash(script)}
    blocks = _blocks((assets / f"{name}.html").read_text(encoding="utf-8"))
    shell = (common / "page.html").read_text(encoding="utf-8")
    pieces = re.sub(r"%%(\w+)%%", lambda found: blocks.get(found[1], found[0]), shell).split("%%")
    for k, piece in enumerate(pieces):  # text, NAME, text, NAME, ..., so that what is filled in is never searched again
        part = parts[piece] if k % 2 else piece
        if isinstance(part, str):
            yield part
        else:
            yield from part


def terms_html(terms: Iterable[tuple[str, str]]) -> str:
    """Terms and what is said of each, as rows of a description list."""
    return "".join(f"<div><dt>{escape(term)}</dt><dd>{escape(text)}</dd></div>" for term, text in terms)


def safe_json(value: Any) -> str:
    """Return JSON that cannot end the script element that contains it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _blocks(text: str) -> dict[str, str]:
    pieces = re.split(r"^<!-- ([A-Z_]+) -->$", text, flags=re.MULTILINE)  # nothing, NAME, block, NAME, block, ...
    return {name: block.strip("\n") for name, block in zip(pieces[1::2], pieces[2::2], strict=True)}


def _joined(*files: Traversable) -> str:
    return "\n".join(file.read_text(encoding="utf-8").rstrip("\n") for file in files) + "\n"


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
