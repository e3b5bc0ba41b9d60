"""What each processor writes for one image: the text around its placeholders, and how many there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from triptych_parser.errors import MarkerError
from triptych_parser.pan_and_scan import num_crops

__all__ = ["Expansion", "ImageExpander", "Sizes", "expander_of", "token_expander"]

Sizes = Sequence[tuple[int, int]]
"""(height, width) in pixels of each marker's image, in marker order."""


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
class ImageExpander:
    """How one processor expands images.

    >>> expander = ImageExpander(template_token="<pad>", placeholder="<pad>", expand=lambda sizes: [])
    >>> expander.opening is None
    True
    """

    template_token: str
    """What the chat template writes where an image stands."""
    placeholder: str
    """The token whose embeddings the image features replace."""
    expand: Callable[[Sizes], list[Expansion]]
    opening: str | None = None
    """Special token that begins an image."""
    closing: str | None = None
    """Special token that ends an image."""
    template_writes_edges: bool = True
    """Whether opening and closing come from the chat template, and not from the expansion."""


def expander_of(processor: Any, *, images_kwargs: Mapping[str, Any] | None = None) -> ImageExpander:
    """The expander of a processor object, by the class it is or derives from.

    A processor of no known class is taken as a plain one: its `image_token` repeated as often as its
    `_get_num_multimodal_tokens` says. `images_kwargs` are the image options of the processor call to match.

    Raises MarkerError when the object cannot say which token stands for an image.
    """
    options = {**(getattr(processor, "images_kwargs", None) or {}), **(images_kwargs or {})}
    for cls in type(processor).__mro__:
        if cls.__name__ in _EXPANDERS:
            return _EXPANDERS[cls.__name__](processor, options)
    return _plain(processor, options)


def token_expander(token: str) -> ImageExpander:
    """An expander known by its image token alone; the caller gives the number of placeholders of each image."""

    def expand(sizes: Sizes) -> list[Expansion]:
        raise MarkerError(f"{token} does not say how many tokens an image takes", remedy="pass image_tokens=[...]")

    return ImageExpander(
        template_token=token, placeholder=token, expand=expand, opening="<|vision_start|>", closing="<|vision_end|>"
    )


def _per_unique_size(count: Callable[[int, int], Expansion], sizes: Sizes) -> list[Expansion]:
    known: dict[tuple[int, int], Expansion] = {}
    for height, width in sizes:
        if (height, width) not in known:
            known[height, width] = count(height, width)
    return [known[height, width] for height, width in sizes]


def _image_token(processor: Any) -> str:
    token = getattr(processor, "image_token", None)
    if not isinstance(token, str):
        raise MarkerError(
            f"{type(processor).__name__} does not say which token stands for an image",
            remedy="pass image_token='<...>' and image_tokens=[...]",
        )
    return token


def _plain(processor: Any, options: Mapping[str, Any]) -> ImageExpander:
    token = _image_token(processor)

    def expand(sizes: Sizes) -> list[Expansion]:
        if not sizes:
            return []
        counter = getattr(processor, "_get_num_multimodal_tokens", None)
        if counter is None:
            raise MarkerError(
                f"{type(processor).__name__} cannot count the tokens of an image", remedy="pass image_tokens=[...]"
            )
        counts = counter(image_sizes=[list(size) for size in sizes], **options)["num_image_tokens"]
        return [Expansion(text=token, runs=(int(count),)) for count in counts]

    return ImageExpander(template_token=token, placeholder=token, expand=expand)


def _grid(opening: str, closing: str) -> Callable[[Any, Mapping[str, Any]], ImageExpander]:
    """Families whose image is one run of grid cells, merged `merge_size` by `merge_size`."""

    def make(processor: Any, options: Mapping[str, Any]) -> ImageExpander:
        token = _image_token(processor)
        images = processor.image_processor
        merge = int(options.get("merge_size") or images.merge_size)
        limits = dict(options)
        if "size" in options:  # the counting method of Qwen's image processor knows a size only under these names
            limits |= {"min_pixels": options["size"]["shortest_edge"], "max_pixels": options["size"]["longest_edge"]}

        def count(height: int, width: int) -> Expansion:
            patches = int(images.get_number_of_image_patches(height, width, limits))
            return Expansion(text=token, runs=(patches // merge**2,))

        return ImageExpander(
            template_token=token,
            placeholder=token,
            expand=lambda sizes: _per_unique_size(count, sizes),
            opening=opening,
            closing=closing,
        )

    return make


def _internvl(processor: Any, options: Mapping[str, Any]) -> ImageExpander:
    """One thumbnail and the tiles of the best canvas, all in one run between `<img>` and `</img>`."""
    token = _image_token(processor)
    opening, closing = processor.start_image_token, processor.end_image_token

    def count(height: int, width: int) -> Expansion:
        tiles = int(processor.image_processor.get_number_of_image_patches(height, width, dict(options)))
        return Expansion(text=f"{opening}{token}{closing}", runs=(tiles * int(processor.image_seq_length),))

    return ImageExpander(
        template_token=token,
        placeholder=token,
        expand=lambda sizes: _per_unique_size(count, sizes),
        opening=opening,
        closing=closing,
        template_writes_edges=False,
    )


def _llava(processor: Any, options: Mapping[str, Any]) -> ImageExpander:
    """Every image is cropped to one size: a fixed number of patches."""
    token = _image_token(processor)

    def expand(sizes: Sizes) -> list[Expansion]:
        crop = options.get("crop_size") or processor.image_processor.crop_size
        patch = int(processor.patch_size)
        count = (crop["height"] // patch) * (crop["width"] // patch) + int(processor.num_additional_image_tokens)
        count -= processor.vision_feature_select_strategy == "default"
        return [Expansion(text=token, runs=(count,))] * len(sizes)

    return ImageExpander(template_token=token, placeholder=token, expand=expand)


def _llava_onevision(processor: Any, options: Mapping[str, Any]) -> ImageExpander:
    """A lone image is tiled to its resolution; several images get one tile each and a newline feature."""
    token = _image_token(processor)

    def expand(sizes: Sizes) -> list[Expansion]:
        less = int(processor.vision_feature_select_strategy == "default")
        if len(sizes) != 1:
            return [Expansion(text=token, runs=(int(processor.num_image_tokens) + 1 - less,))] * len(sizes)
        size = options.get("size") or processor.image_processor.size
        tile = size["shortest_edge"] if "shortest_edge" in size else min(size["height"], size["width"])
        height, width = sizes[0]
        count = int(processor._get_number_of_features(height, width, tile, tile))
        return [Expansion(text=token, runs=(count - less,))]

    return ImageExpander(template_token=token, placeholder=token, expand=expand)


def _gemma3(processor: Any, options: Mapping[str, Any]) -> ImageExpander:
    """A fixed number of soft tokens; with pan and scan, a sentence and one more run for every crop."""
    tokenizer = processor.tokenizer
    opening, closing, token = tokenizer.boi_token, tokenizer.eoi_token, tokenizer.image_token
    image = f"\n\n{opening}{token}{closing}\n\n"
    length = int(processor.image_seq_length)

    def count(height: int, width: int) -> Expansion:
        crops = num_crops(height, width, options)
        if not crops:
            return Expansion(text=image, runs=(length,))
        lead = f"Here is the original image {image} and here are some crops to help you see better "
        return Expansion(text=lead + " ".join([image] * crops), runs=(length,) * (crops + 1))

    return ImageExpander(
        template_token=opening,
        placeholder=token,
        expand=lambda sizes: _per_unique_size(count, sizes),
        opening=opening,
        closing=closing,
        template_writes_edges=False,
    )


def _smolvlm(processor: Any, options: Mapping[str, Any]) -> ImageExpander:
    """Tiles row by row, each after its own row-and-column token, then the whole image."""
    token = _image_token(processor)
    fake = processor.fake_image_token
    whole = getattr(processor, "global_image_token", None) or processor.global_image_tag
    length = int(processor.image_seq_len)

    def count(height: int, width: int) -> Expansion:
        _, rows, cols = processor.image_processor.get_number_of_image_patches(height, width, dict(options))
        lines = [
            "".join(f"{fake}<row_{row}_col_{col}>{token}" for col in range(1, cols + 1)) + "\n"
            for row in range(1, rows + 1)
        ]
        text = "".join(lines) + ("\n" if rows else "") + f"{fake}{whole}{token}{fake}"
        return Expansion(text=text, runs=(length,) * (rows * cols + 1))

    return ImageExpander(
        template_token=token,
        placeholder=token,
        expand=lambda sizes: _per_unique_size(count, sizes),
        opening=fake,
        closing=fake,
        template_writes_edges=False,
    )


_QWEN = _grid("<|vision_start|>", "<|vision_end|>")
_EXPANDERS: Mapping[str, Callable[[Any, Mapping[str, Any]], ImageExpander]] = MappingProxyType(
    {
        "Qwen2VLProcessor": _QWEN,
        "Qwen2_5_VLProcessor": _QWEN,
        "Qwen3VLProcessor": _QWEN,
        "Glm4vProcessor": _grid("<|begin_of_image|>", "<|end_of_image|>"),
        "InternVLProcessor": _internvl,
        "LlavaProcessor": _llava,
        "LlavaOnevisionProcessor": _llava_onevision,
        "Gemma3Processor": _gemma3,
        "SmolVLMProcessor": _smolvlm,
        "Idefics3Processor": _smolvlm,
    }
)
