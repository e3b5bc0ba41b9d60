"""Whether the ids written here are those of a processor's own call, tried on small prompts when a model is loaded."""

from __future__ import annotations

import base64
import functools
import struct
import warnings
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from triptych_parser.bind import BoundPrompt, bind
from triptych_parser.errors import MarkerError
from triptych_parser.expanders import EXPANDERS
from triptych_parser.parse import parse
from triptych_parser.tokenize import tokenize

__all__ = ["check_processor"]

_PROBES: Mapping[str, Sequence[tuple[int, int]]] = {
    "What is in <image>?": [(150, 230)],
    "First <image>, then <image>.": [(640, 960), (320, 90)],
}
"""Prompts, and (height, width) of their images."""


def check_processor(
    processor: Any,
    *,
    images_kwargs: Mapping[str, Any] | None = None,
    chat_template: str | None = None,
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> None:
    """Raise MarkerError unless `tokenize` gives the ids of the processor's own call, with one image and with two.

    The arguments are those of `tokenize`. A class whose ids are tested in this repository passes where a prompt cannot
    be tried (a part is not installed, the chat template refuses it); any other class does not.

    >>> check_processor(object())
    Traceback (most recent call last):
    ...
    triptych_parser.errors.MarkerError: object cannot be verified, a small prompt ends in TypeError: ...
    """
    options: dict[str, Any] = {
        "images_kwargs": images_kwargs,
        "chat_template": chat_template,
        "chat_template_kwargs": chat_template_kwargs,
    }
    for text, sizes in _PROBES.items():
        bound = bind(parse(text), len(sizes))
        try:
            ours = tokenize(bound, processor, image_sizes=sizes, chat_template_images="template", **options).ids
            theirs = _own_ids(processor, bound, sizes, **options)
        except Exception as error:
            if _is_tested(processor):
                return
            name = "an error" if isinstance(error, MarkerError) else type(error).__name__
            reason = error.problem if isinstance(error, MarkerError) else " ".join(str(error).split())
            raise MarkerError(
                f"{type(processor).__name__} cannot be verified, a small prompt ends in {name}: {reason}",
                remedy="correct what the error names, or use a processor that docs/markers.md names",
            ) from error
        if ours != theirs:
            raise _difference(processor, ours, theirs, len(sizes))


def _own_ids(
    processor: Any,
    bound: BoundPrompt,
    sizes: Sequence[tuple[int, int]],
    *,
    images_kwargs: Mapping[str, Any] | None,
    chat_template: str | None,
    chat_template_kwargs: Mapping[str, Any] | None,
) -> list[int]:
    messages = bound.messages()
    pictures = iter([_picture(height, width) for height, width in sizes])
    for part in messages[0]["content"]:
        if part["type"] == "image":
            part["image"] = next(pictures)
    call: dict[str, Any] = {"images_kwargs": dict(images_kwargs)} if images_kwargs else {}
    options = {**(chat_template_kwargs or {}), **({} if chat_template is None else {"chat_template": chat_template})}
    options |= {"tokenize": True, "return_dict": True, "add_generation_prompt": True}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the processor's own call warns of is no news of this comparison
        try:
            result = processor.apply_chat_template(messages, processor_kwargs=dict(call), **options)
        except Exception:  # some take only tensors
            call["return_tensors"] = "pt"
            result = processor.apply_chat_template(messages, processor_kwargs=call, **options)
    return [int(number) for number in result["input_ids"][0]]


def _is_tested(processor: Any) -> bool:
    classes = type(processor).__mro__
    return any(cls.__name__ in EXPANDERS and cls.__module__.startswith("transformers.") for cls in classes)


def _difference(processor: Any, ours: list[int], theirs: list[int], num_images: int) -> MarkerError:
    tokenizer = getattr(processor, "tokenizer", processor)
    shared = zip(ours, theirs, strict=False)
    at = next((at for at, (mine, own) in enumerate(shared) if mine != own), min(len(ours), len(theirs)))
    expected, got = (
        repr(tokenizer.convert_ids_to_tokens(ids[at])) if at < len(ids) else "the end" for ids in (theirs, ours)
    )
    return MarkerError(
        f"{type(processor).__name__} is not verified: of a prompt with {num_images} image"
        f"{'s' if num_images > 1 else ''}, token {at + 1} of {len(theirs)} differs from its own",
        expected=expected,
        got=got,
        remedy="use a processor that docs/markers.md names",
    )


@functools.cache
def _picture(height: int, width: int) -> str:
    """A grey PNG as the data address that transformers opens like any other image."""
    rows = (b"\0" + b"\x80" * (3 * width)) * height
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return "data:image/png;base64," + base64.b64encode(png).decode()
