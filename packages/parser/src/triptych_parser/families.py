"""What each model family writes for one image: the text around its placeholders, and how many there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from triptych_parser.errors import MarkerError

__all__ = ["Expansion", "Family", "family_of"]

Sizes = Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expansion:
    """What stands in the prompt for one image, with every run of placeholders written as a single one.

    >>> Expansion(text="<img><pad></img>", runs=(256,)).num_features
    256
    """

    text: str
    runs: tuple[int, ...]
    """How many placeholders each written one stands for, in order."""

    @property
    def num_features(self) -> int:
        """How many feature rows the image fills.

        >>> Expansion(text="<pad><row><pad>", runs=(64, 64)).num_features
        128
        """
        return sum(self.runs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """How one family's processor expands images.

    >>> family = Family(template_token="<pad>", placeholder="<pad>", expand=lambda sizes: [])
    >>> family.opening is None
    True
    """

    template_token: str
    """What the chat template writes where an image stands."""
    placeholder: str
    """The token whose embeddings the image features replace."""
    expand: Callable[[Sizes], list[Expansion]]
    """Expansions for the images of one sample, given (height, width) in pixels for each marker."""
    opening: str | None = None
    """Special token that begins an image."""
    closing: str | None = None
    """Special token that ends an image."""


def family_of(processor: Any) -> Family:
    """The family of a processor object, by the class it is or derives from.

    A processor of no known class is taken as a plain one: its `image_token` repeated as often as its
    `_get_num_multimodal_tokens` says.

    Raises MarkerError when the object cannot say which token stands for an image.
    """
    for cls in type(processor).__mro__:
        if cls.__name__ in _FAMILIES:
            return _FAMILIES[cls.__name__](processor)
    return _plain(processor)


def counted_family(token: str, counts: Sequence[int]) -> Family:
    """A plain family whose placeholder counts the caller knows, one per marker."""

    def expand(sizes: Sizes) -> list[Expansion]:
        return [Expansion(text=token, runs=(count,)) for count in counts]

    return Family(
        template_token=token, placeholder=token, expand=expand, opening="<|vision_start|>", closing="<|vision_end|>"
    )


def per_unique_size(count: Callable[[int, int], int]) -> Callable[[Sizes], list[int]]:
    """Apply a count to every size, asking once per distinct size."""

    def counts(sizes: Sizes) -> list[int]:
        known: dict[tuple[int, int], int] = {}
        for height, width in sizes:
            if (height, width) not in known:
                known[height, width] = int(count(height, width))
        return [known[height, width] for height, width in sizes]

    return counts


def _image_token(processor: Any) -> str:
    token = getattr(processor, "image_token", None)
    if not isinstance(token, str):
        raise MarkerError(
            f"{type(processor).__name__} does not say which token stands for an image",
            remedy="pass image_token='<...>' and image_tokens=[...]",
        )
    return token


def _plain(processor: Any) -> Family:
    token = _image_token(processor)

    def expand(sizes: Sizes) -> list[Expansion]:
        if not sizes:
            return []
        counter = getattr(processor, "_get_num_multimodal_tokens", None)
        if counter is None:
            raise MarkerError(
                f"{type(processor).__name__} cannot count the tokens of an image", remedy="pass image_tokens=[...]"
            )
        counts = counter(image_sizes=[list(size) for size in sizes])["num_image_tokens"]
        return [Expansion(text=token, runs=(int(count),)) for count in counts]

    return Family(template_token=token, placeholder=token, expand=expand)


def _grid(opening: str, closing: str) -> Callable[[Any], Family]:
    """Families whose image is one run of grid cells, merged `merge_size` by `merge_size`."""

    def make(processor: Any) -> Family:
        token = _image_token(processor)
        images = processor.image_processor

        def count(height: int, width: int) -> int:
            return int(images.get_number_of_image_patches(height, width, {})) // int(images.merge_size) ** 2

        counts = per_unique_size(count)
        return Family(
            template_token=token,
            placeholder=token,
            expand=lambda sizes: [Expansion(text=token, runs=(number,)) for number in counts(sizes)],
            opening=opening,
            closing=closing,
        )

    return make


_QWEN = _grid("<|vision_start|>", "<|vision_end|>")
_FAMILIES: Mapping[str, Callable[[Any], Family]] = {
    "Qwen2VLProcessor": _QWEN,
    "Qwen2_5_VLProcessor": _QWEN,
    "Qwen3VLProcessor": _QWEN,
}
