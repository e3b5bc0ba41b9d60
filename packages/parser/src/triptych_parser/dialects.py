"""The ways in which prompts write "an image is here": one table entry each."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from triptych_parser.errors import MarkerError
from triptych_parser.reference import match_image, write_image
from triptych_parser.scan import Found, Match, Matcher

__all__ = ["DIALECTS", "LABEL", "Dialect", "get_dialect", "read_label"]

LABEL = "Image-{}: "
_LABEL = re.compile(r"Image-(\d{1,9}): \Z", re.ASCII)
_LABEL_CHARACTERS = len(LABEL) + 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """Describes how one convention writes an image marker.

    >>> DIALECTS["phi"].write(2, None)
    '<|image_2|>'
    """

    name: str
    opener: str | None
    """The characters every marker starts with; None when images are content parts and text is only text."""
    matcher: Matcher | None = None
    plain: str | None = None
    """How the marker for "the next image" is written, if there is one."""
    write: Callable[[int | str | None, str | None], str] = lambda ref, annotation: ""
    orders: bool = True
    """Has a plain marker for "the next image"."""
    numbers: bool = False
    """Can refer to an image by its number."""
    names: bool = False
    """Can refer to an image by its name."""
    annotations: bool = False
    """Can carry an annotation inside the marker."""
    labelled: bool = False
    """Several images have "Image-k: " before them, and k must be right."""
    part: str | None = None
    """Type of the content part written for an image."""


def _fixed(token: str) -> Matcher:
    def matcher(text: str, *, literal: bool) -> Match:
        return lambda at, *, content: Found(start=at, end=at + len(token))

    return matcher


def _marker(name: str, token: str, *, labelled: bool = False) -> Dialect:
    return Dialect(
        name=name,
        opener=token,
        plain=token,
        matcher=_fixed(token),
        write=lambda ref, annotation: token,
        labelled=labelled,
    )


_PHI, _PHI_END, _MAX_DIGITS = "<|image_", "|>", 9


def _match_phi(text: str, *, literal: bool) -> Match:
    def match(at: int, *, content: bool) -> Found | None:
        window = text[at + len(_PHI) : at + len(_PHI) + _MAX_DIGITS + len(_PHI_END)]
        digits, closed, _ = window.partition(_PHI_END)
        if not closed or not digits.isascii() or not digits.isdigit() or (digits[0] == "0" and digits != "0"):
            return None
        return Found(start=at, end=at + len(_PHI) + len(digits) + len(_PHI_END), ref=int(digits))

    return match


_TABLE = (
    Dialect(
        name="image",
        opener="<image",
        plain="<image>",
        matcher=match_image,
        write=write_image,
        numbers=True,
        names=True,
        annotations=True,
    ),
    Dialect(
        name="phi",
        opener=_PHI,
        matcher=_match_phi,
        write=lambda ref, annotation: f"{_PHI}{ref}{_PHI_END}",
        orders=False,
        numbers=True,
    ),
    _marker("qwen", "<|vision_start|><|image_pad|><|vision_end|>"),
    _marker("internvl", "<image>", labelled=True),
    _marker("pixtral", "[IMG]"),
    _marker("gemma", "<start_of_image>"),
    _marker("minicpm", "(<image>./</image>)"),
    Dialect(name="parts", opener=None, part="image", names=True, annotations=True),
    Dialect(name="openai", opener=None, part="image_url"),
)

DIALECTS: Mapping[str, Dialect] = MappingProxyType({dialect.name: dialect for dialect in _TABLE})
"""Every dialect by name. `image` is also what VLM-R1, LLaVA, LLaMA-Factory and ms-swift files use."""


def get_dialect(name: str) -> Dialect:
    """Look a dialect up by name.

    >>> get_dialect("pixtral").opener
    '[IMG]'
    """
    if name not in DIALECTS:
        raise MarkerError(f"unknown dialect {name!r}", remedy=f"use one of {', '.join(DIALECTS)}")
    return DIALECTS[name]


def read_label(text: str) -> int | None:
    """Return the number of the label that a text ends with; this is the label of the image behind it.

    >>> read_label("The old screen is Image-2: ")
    2
    """
    label = _LABEL.search(text[-_LABEL_CHARACTERS:])
    return int(label[1]) if label else None
