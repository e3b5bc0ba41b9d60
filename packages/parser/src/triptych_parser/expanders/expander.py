"""What an expander is: how one processor turns the image token of its chat template into placeholders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from triptych_parser.errors import MarkerError

__all__ = ["Expansion", "ImageExpander", "Make", "Sizes", "between_edges", "image_token", "per_size", "token_expander"]

Sizes = Sequence[tuple[int, int]]
"""(height, width) in pixels of each marker's image, in marker order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expansion:
    """Contains what represents one image in the prompt, with every run of placeholders written as a single one.

    >>> Expansion(text="<img><pad></img>", runs=(256,)).num_features
    256
    """

    text: str
    runs: tuple[int, ...]
    """How many placeholders each written one represents, in order."""

    @property
    def num_features(self) -> int:
        """How many feature rows the image fills.

        >>> Expansion(text="<pad><row><pad>", runs=(64, 64)).num_features
        128
        """
        return sum(self.runs)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageExpander:
    """Describes how one processor expands images.

    >>> expander = ImageExpander(template_token="<pad>", placeholder="<pad>", expand=lambda sizes: [])
    >>> expander.opening is None
    True
    """

    template_token: str
    """What the chat template writes at the place of an image."""
    placeholder: str
    """The token whose embeddings the image features replace."""
    expand: Callable[[Sizes], list[Expansion]]
    opening: str | None = None
    """Special token that begins an image."""
    closings: tuple[str, ...] = ()
    """Special tokens that can end an image: the first of them after its last placeholder does."""
    template_writes_edges: bool = True
    """Whether opening and closing come from the chat template, and not from the expansion."""
    template_text: str | None = None
    """All that the chat template writes for an image, where it is more than its token between opening and closing."""
    finish: Callable[[str], str] | None = None
    """What the processor changes in the whole text once its images are written; None where it changes nothing."""
    finishes_prompt: bool = False
    """Whether `finish` ends the prompt, so that it changes nothing of the answer in a whole conversation."""
    takes_text_only: bool = True
    """Whether the processor takes a prompt without any image."""

    @property
    def inline_text(self) -> str:
        """What represents an image in a text that is written by hand, so that the result is the chat template's.

        >>> edges = {"opening": "<img>", "closings": ("</img>",)}
        >>> ImageExpander(template_token="<pad>", placeholder="<pad>", expand=lambda sizes: [], **edges).inline_text
        '<img><pad></img>'
        """
        if self.template_text is not None:
            return self.template_text
        edges = (self.opening or "", "".join(self.closings)) if self.template_writes_edges else ("", "")
        return f"{edges[0]}{self.template_token}{edges[1]}"


Make = Callable[[Any, Mapping[str, Any]], ImageExpander]
"""The expander of a processor, given the image options of its call."""


def token_expander(token: str) -> ImageExpander:
    """Return an expander that only knows its image token; the caller gives the number of placeholders of each image."""

    def expand(sizes: Sizes) -> list[Expansion]:
        raise MarkerError(f"{token} does not say how many tokens an image takes", remedy="pass image_tokens=[...]")

    return ImageExpander(
        template_token=token,
        placeholder=token,
        expand=expand,
        opening="<|vision_start|>",
        closings=("<|vision_end|>",),
    )


def image_token(processor: Any) -> str:
    """Return the token that a processor's chat template writes for an image; raise MarkerError if the processor has
    none.
    """
    token = getattr(processor, "image_token", None)
    if not isinstance(token, str):
        raise MarkerError(
            f"{type(processor).__name__} names no token for an image",
            remedy="pass image_token='<...>' and image_tokens=[...]",
        )
    return token


def per_size(expansion: Callable[[int, int], Expansion]) -> Callable[[Sizes], list[Expansion]]:
    """Expand each image by its height and width alone; equal sizes are looked at once."""

    def expand(sizes: Sizes) -> list[Expansion]:
        known = {size: expansion(*size) for size in dict.fromkeys((int(height), int(width)) for height, width in sizes)}
        return [known[int(height), int(width)] for height, width in sizes]

    return expand


def between_edges(
    expansion: Callable[[int, int], Expansion],
    *,
    placeholder: str,
    opening: str,
    closing: str,
    template_token: str | None = None,
    finish: Callable[[str], str] | None = None,
) -> ImageExpander:
    """Return an expander that expands each size alone, and whose expansion writes the opening and the closing token
    itself.
    """
    return ImageExpander(
        template_token=template_token or placeholder,
        placeholder=placeholder,
        expand=per_size(expansion),
        opening=opening,
        closings=(closing,),
        template_writes_edges=False,
        finish=finish,
    )
