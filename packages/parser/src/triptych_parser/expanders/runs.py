"""Families that write one run of placeholders for an image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from triptych_parser.expanders.expander import (
    Expansion,
    ImageExpander,
    Make,
    Sizes,
    between_edges,
    image_token,
    per_size,
)
from triptych_parser.expanders.options import output_size, own_function, read_option, side

__all__ = ["fixed", "gemma3n", "gemma4", "grid", "internvl", "llava", "llava_next", "llava_onevision", "paligemma"]


def grid(opening: str | None, closing: str | None, *, template_text: str | None = None) -> Make:
    """Make expanders for families whose image is one run of grid cells, merged `merge_size` by `merge_size`, between
    the template's edges.

    An edge that is None is the processor's `image_start_token` or `image_end_token`.
    """

    def make(processor: Any, options: Mapping[str, Any]) -> ImageExpander:
        token = image_token(processor)
        merge = int(read_option(processor, options, "merge_size"))
        limits = dict(options)
        if "size" in options and "shortest_edge" in options["size"]:
            # Qwen's counting method knows a size only under these names, GLM's only as `size`.
            limits |= {"min_pixels": options["size"]["shortest_edge"], "max_pixels": options["size"]["longest_edge"]}

        def expansion(height: int, width: int) -> Expansion:
            patches = int(processor.image_processor.get_number_of_image_patches(height, width, limits))
            return Expansion(text=token, runs=(patches // merge**2,))

        return ImageExpander(
            template_token=token,
            placeholder=token,
            expand=per_size(expansion),
            opening=opening or processor.image_start_token,
            closings=(closing or processor.image_end_token,),
            template_text=template_text,
        )

    return make


def gemma3n(processor: Any, options: Mapping[str, Any]) -> ImageExpander:
    """Return an expander that writes the same number of soft tokens for every image, in a paragraph of their own."""
    token, opening, closing = image_token(processor), processor.tokenizer.boi_token, processor.tokenizer.eoi_token
    image = Expansion(text=f"\n\n{opening}{token}{closing}\n\n", runs=(int(processor.image_seq_length),))
    return between_edges(lambda height, width: image, placeholder=token, opening=opening, closing=closing)


def gemma4(processor: Any, options: Mapping[str, Any]) -> ImageExpander:
    """Return an expander that writes as many soft tokens as the aspect ratio allows, between the tokens that begin and
    end an image.
    """
    token, opening, closing = image_token(processor), processor.boi_token, processor.eoi_token
    patch, pool, most = (
        int(read_option(processor, options, name)) for name in ("patch_size", "pooling_kernel_size", "max_soft_tokens")
    )
    fit = own_function(processor.image_processor, "get_aspect_ratio_preserving_size")

    def expansion(height: int, width: int) -> Expansion:
        high, wide = fit(
            height=height, width=width, patch_size=patch, max_patches=most * pool**2, pooling_kernel_size=pool
        )
        count = (high // patch) * (wide // patch) // pool**2
        return Expansion(text=f"{opening}{token}{closing}", runs=(count,))

    return between_edges(expansion, placeholder=token, opening=opening, closing=closing)


def internvl(processor: Any, options: Mapping[str, Any]) -> ImageExpander:
    """Return an expander that writes one thumbnail and the tiles of the best canvas, all in one run between `<img>` and
    `</img>`.
    """
    token = image_token(processor)
    opening, closing = processor.start_image_token, processor.end_image_token

    def expansion(height: int, width: int) -> Expansion:
        tiles = int(processor.image_processor.get_number_of_image_patches(height, width, dict(options)))
        return Expansion(text=f"{opening}{token}{closing}", runs=(tiles * int(processor.image_seq_length),))

    # The template of Qianfan-OCR writes another token than its placeholder.
    return between_edges(
        expansion,
        placeholder=token,
        opening=opening,
        closing=closing,
        template_token=getattr(processor, "image_placeholder_token", token),
    )


def fixed(processor: Any, options: Mapping[str, Any]) -> ImageExpander:
    """Return an expander that writes the same number of placeholders for every image, between edges if the processor
    has them.
    """
    token = image_token(processor)
    opening = getattr(processor, "image_start_token", None)
    closing = getattr(processor, "image_end_token", None)
    image = Expansion(text=f"{opening or ''}{token}{closing or ''}", runs=(int(processor.num_image_tokens),))
    return ImageExpander(
        template_token=token,
        placeholder=token,
        expand=lambda sizes: [image] * len(sizes),
        opening=opening,
        closings=() if closing is None else (closing,),
        template_writes_edges=False,
    )


def llava(processor: Any, options: Mapping[str, Any]) -> ImageExpander:
    """Return an expander that writes a row for every patch of the image after its resize, which is nearly always to one
    size.
    """
    token = image_token(processor)

    def expansion(height: int, width: int) -> Expansion:
        patch = int(processor.patch_size)
        high, wide = output_size(processor, options, height, width)
        count = (high // patch) * (wide // patch) + int(processor.num_additional_image_tokens)
        return Expansion(text=token, runs=(count - (processor.vision_feature_select_strategy == "default"),))

    return ImageExpander(template_token=token, placeholder=token, expand=per_size(expansion))


def llava_next(processor: Any, options: Mapping[str, Any]) -> ImageExpander:
    """Return an expander that writes a whole image and its tiles without their padding, with a newline feature after
    every row.
    """
    token = image_token(processor)

    def expansion(height: int, width: int) -> Expansion:
        tile = output_size(processor, options, 1, 1)  # tiles are square before they are resized
        count = int(processor._get_number_of_features(height, width, *tile))
        return Expansion(text=token, runs=(count - (processor.vision_feature_select_strategy == "default"),))

    return ImageExpander(template_token=token, placeholder=token, expand=per_size(expansion))


def llava_onevision(processor: Any, options: Mapping[str, Any]) -> ImageExpander:
    """Return an expander that tiles a lone image to its resolution, and gives each of several images one tile and a
    newline feature.
    """
    token = image_token(processor)

    def expand(sizes: Sizes) -> list[Expansion]:
        less = int(processor.vision_feature_select_strategy == "default")
        if len(sizes) != 1:
            return [Expansion(text=token, runs=(int(processor.num_image_tokens) + 1 - less,))] * len(sizes)
        size = read_option(processor, options, "size")
        tile = side(size, "shortest_edge") or min(side(size, "height") or 0, side(size, "width") or 0)
        height, width = sizes[0]
        count = int(processor._get_number_of_features(height, width, tile, tile))
        return [Expansion(text=token, runs=(count - less,))]

    return ImageExpander(template_token=token, placeholder=token, expand=expand)


def paligemma(processor: Any, options: Mapping[str, Any]) -> ImageExpander:
    """Return an expander that writes a fixed number of placeholders; the text begins after the last image and ends with
    a line break.
    """
    token, begin = image_token(processor), processor.tokenizer.bos_token
    length = int(processor.image_seq_length)

    def finish(text: str) -> str:
        before, _, after = text.rpartition(token)
        return f"{before}{token}{begin}{after}\n"

    return ImageExpander(
        template_token=token,
        placeholder=token,
        expand=per_size(lambda height, width: Expansion(text=token, runs=(length,))),
        finish=finish,
        finishes_prompt=True,
        takes_text_only=False,
    )
