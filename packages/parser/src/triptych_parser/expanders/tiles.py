"""Families that write several runs of placeholders for an image: one for each tile, crop or row of patches."""

from __future__ import annotations

import re
from collections.abc import Mapping
from inspect import signature
from typing import Any

from triptych_parser.expanders.expander import Expansion, ImageExpander, Sizes, between_edges, image_token, per_size
from triptych_parser.expanders.options import call_defaults, own_function, read_option, side
from triptych_parser.expanders.pan_and_scan import num_crops

__all__ = ["aya_vision", "cohere2_vision", "gemma3", "idefics2", "lfm2_vl", "minicpm", "ovis2", "pixtral", "smolvlm"]


def aya_vision(processor: Any, options: Mapping[str, Any]) -> ImageExpander:
    """Return an expander that writes numbered tiles, then the whole image."""
    token = processor.img_patch_token
    length = (int(processor.img_size) // int(processor.patch_size)) ** 2

    def expansion(height: int, width: int) -> Expansion:
        patches = int(processor.image_processor.get_number_of_image_patches(height, width, dict(options)))
        tiles = "".join(f"{processor.tile_token}_{number}{token}" for number in range(1, patches))
        text = f"{processor.start_of_img_token}{tiles}{processor.tile_global_token}{token}{processor.end_of_img_token}"
        return Expansion(text=text, runs=(length,) * patches)

    return between_edges(
        expansion,
        placeholder=token,
        opening=processor.start_of_img_token,
        closing=processor.end_of_img_token,
        template_token=image_token(processor),
    )


def cohere2_vision(processor: Any, options: Mapping[str, Any]) -> ImageExpander:
    """Return an expander that writes tiles and, if there are several, the whole image, each with a line break token
    after it.
    """
    token, opening, closing = image_token(processor), processor.boi_token, processor.eoi_token
    length = int(processor.patch_size) ** 2

    def expansion(height: int, width: int) -> Expansion:
        tiles = int(processor.image_processor.get_number_of_image_patches(height, width, dict(options)))
        text = f"{opening}{(token + processor.img_line_break_token) * tiles}{closing}"
        return Expansion(text=text, runs=(length,) * tiles)

    return between_edges(expansion, placeholder=token, opening=opening, closing=closing)


def gemma3(processor: Any, options: Mapping[str, Any]) -> ImageExpander:
    """Return an expander that writes a fixed number of soft tokens; with pan and scan, a sentence and one more run for
    every crop.
    """
    tokenizer = processor.tokenizer
    opening, closing, token = tokenizer.boi_token, tokenizer.eoi_token, tokenizer.image_token
    image = f"\n\n{opening}{token}{closing}\n\n"
    length = int(processor.image_seq_length)

    def expansion(height: int, width: int) -> Expansion:
        crops = num_crops(height, width, options)
        if not crops:
            return Expansion(text=image, runs=(length,))
        lead = f"Here is the original image {image} and here are some crops to help you see better "
        return Expansion(text=lead + " ".join([image] * crops), runs=(length,) * (crops + 1))

    return between_edges(expansion, placeholder=token, opening=opening, closing=closing, template_token=opening)


def idefics2(processor: Any, options: Mapping[str, Any]) -> ImageExpander:
    """Return an expander that writes one run between two boundary tokens, or five; neighbours share a boundary, and a
    word keeps its space.
    """
    token, fake = image_token(processor), processor.fake_image_token
    runs = 5 if processor.image_processor.do_image_splitting else 1
    text = f"{fake}{token}{fake}" * runs
    word_behind = re.compile(rf"{re.escape(fake)}(?=[^\s<])")

    def finish(text: str) -> str:
        return word_behind.sub(f"{fake} ", text.replace(fake * 2, fake))

    return between_edges(
        lambda height, width: Expansion(text=text, runs=(int(processor.image_seq_len),) * runs),
        placeholder=token,
        opening=fake,
        closing=fake,
        finish=finish,
    )


def lfm2_vl(processor: Any, options: Mapping[str, Any]) -> ImageExpander:
    """Return an expander that writes a small image as one run, and a large one as tiles, each after its row-and-column
    token, and a thumbnail.
    """
    token, images = image_token(processor), processor.image_processor
    marked = options.get("use_image_special_tokens")
    if marked is None:
        older = call_defaults(processor, "text_kwargs").get("use_image_special_tokens", True)
        marked = getattr(processor, "use_image_special_tokens", older)
    patch, downsample, tile, least, most = (
        read_option(processor, options, name)
        for name in ("encoder_patch_size", "downsample_factor", "tile_size", "min_image_tokens", "max_image_tokens")
    )
    fewest, tiles = (read_option(processor, options, name) for name in ("min_tiles", "max_tiles"))
    splits = read_option(processor, options, "do_image_splitting") and not fewest == tiles == 1
    scale = {"max_image_tokens": most, "encoder_patch_size": patch, "downsample_factor": downsample}

    def cells(pixels: int) -> int:
        return -(-(pixels // patch) // downsample)

    def expansion(height: int, width: int) -> Expansion:
        wide, high = images.smart_resize(height=height, width=width, min_image_tokens=least, **scale)
        pieces, runs = [], []
        tolerance = read_option(processor, options, "max_pixels_tolerance")
        cols = rows = 1
        if splits and images._is_image_too_large(height=height, width=width, max_pixels_tolerance=tolerance, **scale):
            cols, rows, *_ = images._get_grid_layout(height, width, min_tiles=fewest, max_tiles=tiles, tile_size=tile)
        if cols * rows > 1:
            pieces += [f"<|img_row_{row}_col_{col}|>" for row in range(1, rows + 1) for col in range(1, cols + 1)]
            runs += [cells(tile) ** 2] * (rows * cols)
        if cols * rows == 1 or read_option(processor, options, "use_thumbnail"):
            pieces.append(processor.image_thumbnail_token if runs else "")
            runs.append(cells(high) * cells(wide))
        if not marked:
            return Expansion(text=token * len(runs), runs=tuple(runs))
        inside = "".join(f"{piece}{token}" for piece in pieces)
        return Expansion(text=f"{processor.image_start_token}{inside}{processor.image_end_token}", runs=tuple(runs))

    return ImageExpander(
        template_token=token,
        placeholder=token,
        expand=per_size(expansion),
        opening=processor.image_start_token if marked else None,
        closings=(processor.image_end_token,) if marked else (),
        template_writes_edges=False,
    )


def minicpm(processor: Any, options: Mapping[str, Any]) -> ImageExpander:
    """Return an expander that writes the number of an image, the whole image, then its slices row by row."""
    token, images = image_token(processor), processor.image_processor
    patch, mode = (read_option(processor, options, name) for name in ("patch_size", "downsample_mode"))
    known = {"downsample_mode": mode} if "downsample_mode" in signature(images.find_best_resize).parameters else {}
    resolution = {"scale_resolution": read_option(processor, options, "scale_resolution")}
    most = read_option(processor, options, "max_slice_nums")
    divisor = 4 if mode == "4x" else 16

    def cells(size: tuple[int, int], upscale: bool, fit: Any, *grid: Any) -> int:
        high, wide = fit(size, *grid, patch_size=patch, allow_upscale=upscale, **known, **resolution)
        rows, cols = grid[0] if grid else (1, 1)
        return (high // rows // patch) * (wide // cols // patch) // divisor

    def expansion(height: int, width: int) -> Expansion:
        size, cut = (height, width), None
        if read_option(processor, options, "slice_mode"):
            cut = images.get_sliced_grid(size, max_slice_nums=most, **resolution)
        text = f"{processor.image_start_token}{token}{processor.image_end_token}"
        runs = (cells(size, cut is None, images.find_best_resize),)
        if cut is not None:
            rows, cols = cut
            row = f"{processor.slice_start_token}{token}{processor.slice_end_token}" * cols
            text += "\n".join([row] * rows)
            runs += (cells(size, True, images.get_refine_size, cut),) * (rows * cols)
        return Expansion(text=text, runs=runs)

    def expand(sizes: Sizes) -> list[Expansion]:
        numbered = options.get("use_image_id")
        if numbered is None:
            numbered = getattr(processor, "use_image_id", None)
        if numbered is None:
            numbered = processor.default_use_image_id
        expansions = per_size(expansion)(sizes)
        if not numbered:
            return expansions
        start, end = processor.image_id_start_token, processor.image_id_end_token
        return [Expansion(text=f"{start}{index}{end}{one.text}", runs=one.runs) for index, one in enumerate(expansions)]

    return ImageExpander(
        template_token=token,
        placeholder=token,
        expand=expand,
        opening=processor.image_start_token,
        closings=(processor.image_end_token, processor.slice_end_token),
        template_writes_edges=False,
    )


def ovis2(processor: Any, options: Mapping[str, Any]) -> ImageExpander:
    """Return an expander that writes the whole image, then the tiles with tokens between columns and between rows."""
    atom = "<IMG_ATOM>"
    size = read_option(processor, options, "size")
    high, wide = side(size, "height") or 0, side(size, "width") or 0
    fewest, most = (int(read_option(processor, options, name) or 1) for name in ("min_patches", "max_patches"))
    covering = read_option(processor, options, "use_covering_area_grid")
    name = "get_min_tile_covering_grid" if covering else "get_optimal_tiled_canvas"
    best = own_function(processor.image_processor, name)

    def expansion(height: int, width: int) -> Expansion:
        cols = rows = 1
        if read_option(processor, options, "crop_to_patches") and most > 1:
            if covering:
                cols, rows = best((height, width), target_patch_size=high, max_image_tiles=most, covering_threshold=0.9)
            else:
                cols, rows = best((height, width), (high, wide), fewest, most)
        tiles = "<IMG_ROW>".join(["<IMG_COL>".join([atom] * cols)] * rows) if rows * cols > 1 else ""
        runs = 1 + (rows * cols if tiles else 0)
        text = f"<IMG_START>{atom}<IMG_GRID>{tiles}<IMG_END>"
        return Expansion(text=text, runs=(int(processor.image_seq_length),) * runs)

    return between_edges(
        expansion, placeholder=atom, opening="<IMG_START>", closing="<IMG_END>", template_token=image_token(processor)
    )


def pixtral(processor: Any, options: Mapping[str, Any]) -> ImageExpander:
    """Return an expander that writes one run for every row of patches, each with a break token after it and the last
    with the end token.
    """
    token = image_token(processor)
    patch = int(processor.patch_size) * int(processor.spatial_merge_size)

    def expansion(height: int, width: int) -> Expansion:
        longest = side(read_option(processor, options, "size"), "longest_edge") or max(height, width)
        ratio = max(height / longest, width / longest)
        if ratio > 1:
            height, width = int(height / ratio), int(width / ratio)
        rows, cols = -(-height // patch), -(-width // patch)
        text = processor.image_break_token.join([token] * rows) + processor.image_end_token
        return Expansion(text=text, runs=(cols,) * rows)

    return ImageExpander(
        template_token=token,
        placeholder=token,
        expand=per_size(expansion),
        closings=(processor.image_end_token,),
        template_writes_edges=False,
    )


def smolvlm(processor: Any, options: Mapping[str, Any]) -> ImageExpander:
    """Return an expander that writes tiles row by row, each after its row-and-column token, then the whole image."""
    token = image_token(processor)
    fake = processor.fake_image_token
    whole = getattr(processor, "global_image_token", None) or processor.global_image_tag
    length = int(processor.image_seq_len)

    def expansion(height: int, width: int) -> Expansion:
        _, rows, cols = processor.image_processor.get_number_of_image_patches(height, width, dict(options))
        lines = [
            "".join(f"{fake}<row_{row}_col_{col}>{token}" for col in range(1, cols + 1)) + "\n"
            for row in range(1, rows + 1)
        ]
        text = "".join(lines) + ("\n" if rows else "") + f"{fake}{whole}{token}{fake}"
        return Expansion(text=text, runs=(length,) * (rows * cols + 1))

    return between_edges(expansion, placeholder=token, opening=fake, closing=fake)
