"""Images that a text itself carries: data addresses and bare base64."""

from __future__ import annotations

import base64
import re

from triptych_data.addresses import is_data_address
from triptych_data.errors import ImageError
from triptych_data.sniff import BASE64_STARTS, is_base64_image

_STARTS = "|".join(map(re.escape, BASE64_STARTS))
_BEHIND = re.compile(rf"(b['\"]|base64[:,]/{{0,2}}|image/[\w.+-]{{1,20}};base64,)(?:{_STARTS})")
_NO_PATH_CHARACTERS = 300
_OTHER = re.compile(r"[^A-Za-z0-9+/]")


def inline_bytes(text: str) -> bytes | None:
    """Return the bytes that a text carries, or None for a path or an address. Raises ImageError for damaged ones."""
    if is_data_address(text):
        head, comma, body = text.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise _bad(text, "expected data:<type>;base64,<data>", "encode the image again")
        return _decoded(body, text)
    if is_base64_image(text) or _is_damaged_base64(text):
        return _decoded(text, text)
    behind = _BEHIND.match(text) if len(text) > 64 else None
    if behind is not None:
        raise _bad(
            text,
            f"expected base64 alone, or behind `data:image/png;base64,`, got it behind `{behind[1]}`",
            "remove that and what it closes; in Python, bytes become text by .decode()",
        )
    return None


def _is_damaged_base64(text: str) -> bool:
    """Whether a text that is no base64 was some: it begins as an encoded image, and is too long for a path."""
    return len(text) > _NO_PATH_CHARACTERS and text.startswith(BASE64_STARTS) and "." not in text


def _decoded(body: str, text: str) -> bytes:
    """The bytes of base64 in the usual alphabet or that of addresses (RFC 4648, 4 and 5), without its white space."""
    written = "".join(body.split()).replace("-", "+").replace("_", "/")
    data = written.rstrip("=")
    padding, wanted = len(written) - len(data), -len(data) % 4
    other = _OTHER.search(data)
    if other is not None:
        raise _bad(
            text,
            f"expected base64, got the character {other[0]!r} as number {other.start() + 1} of {len(written)}",
            "decode its percent signs (urllib.parse.unquote)" if other[0] == "%" else "encode the image again",
        )
    if wanted == 3:
        raise _bad(
            text,
            f"expected base64 in groups of 4 characters, got {len(data)}, of which the last is alone",
            "copy the whole text, or encode the image again: it was cut short",
        )
    if padding != wanted:
        raise _bad(
            text,
            f"expected {len(data)} characters of base64 to end with {wanted or 'no'} `=`, got {padding or 'none'}",
            f"write {wanted or 'no'} `=` at the end if the text is whole, or else encode the image again",
        )
    return base64.b64decode(written)


def _bad(text: str, reason: str, remedy: str) -> ImageError:
    return ImageError(reason, image=f"{text[:40]}... ({len(text)} characters)", kind="corrupt", remedy=remedy)
