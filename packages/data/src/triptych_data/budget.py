"""How large each image may be: per image, per run, and for all images of a prompt together. Integers only."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Size = tuple[int, int]  # (height, width)
MAX_RATIO = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Contains the limits of a run; if a row gives an image limits of its own, those are used instead."""

    min_pixels: int | None = None
    """At least so many pixels per image; None takes the processor's."""
    max_pixels: int | None = None
    """At most so many pixels per image; None takes the processor's."""
    max_prompt_image_tokens: int | None = None
    """At most so many image tokens in all images of a prompt; larger images give way first."""


def smart_resize(height: int, width: int, *, factor: int, min_pixels: int, max_pixels: int) -> Size:
    """Return the size that Qwen2-VL's processor gives an image: multiples of `factor`, within the limits of pixels,
    with the same ratio.

    Equal to transformers' function wherever that stays within `max_pixels`. Where it would not (thin images at small
    limits, `min_pixels` near `max_pixels`) the long side gives way. Raises ValueError above a ratio of 200 and for a
    limit below one tile.
    """
    if min(height, width) < 1:
        raise ValueError(f"expected at least one pixel on each side, got {width}x{height}")
    if max(height, width) / min(height, width) > MAX_RATIO:
        ratio = max(height, width) / min(height, width)
        raise ValueError(f"expected an aspect ratio of at most {MAX_RATIO}, got {width}x{height} = {ratio:.1f}")
    if max_pixels < factor * factor:
        raise ValueError(f"expected max_pixels of at least {factor * factor} (one tile), got {max_pixels}")
    high, wide = round(height / factor) * factor, round(width / factor) * factor
    if high * wide > max_pixels:
        high, wide = _shrunk(height, width, factor, max_pixels)
    elif high * wide < min_pixels:
        high, wide = _grown(height, width, factor, min_pixels)
        if high * wide > max_pixels:
            high, wide = _shrunk(height, width, factor, max_pixels)
    return _clamped(high, wide, factor, max_pixels)


def _grown(height: int, width: int, factor: int, min_pixels: int) -> Size:
    beta = math.sqrt(min_pixels / (height * width))
    return math.ceil(height * beta / factor) * factor, math.ceil(width * beta / factor) * factor


def _shrunk(height: int, width: int, factor: int, max_pixels: int) -> Size:
    beta = math.sqrt(height * width / max_pixels)
    return (
        max(factor, math.floor(height / beta / factor) * factor),
        max(factor, math.floor(width / beta / factor) * factor),
    )


def _clamped(high: int, wide: int, factor: int, max_pixels: int) -> Size:
    """Shorten the long side where a side that cannot shrink below one tile pushed the image over the limit."""
    if high * wide <= max_pixels:
        return high, wide
    if high >= wide:
        return max(factor, max_pixels // wide // factor * factor), wide
    return high, max(factor, max_pixels // high // factor * factor)


def common_cap(count: Callable[[int], int], *, low: int, high: int, limit: int) -> int | None:
    """Return the largest cap in [low, high] with count(cap) <= limit, by bisection, or None if even `low` is too much.

    `count` must not fall as the cap grows.
    """
    if count(high) <= limit:
        return high
    if count(low) > limit:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        if count(middle) <= limit:
            low = middle
        else:
            high = middle
    return low


def _at_cap(height: int, width: int, cap: int, *, factor: int, min_pixels: int, max_pixels: int) -> Size:
    """The size under a cap for the whole prompt, which yields to `min_pixels`: a processor would enlarge it again."""
    low, high = min(min_pixels, cap), min(max_pixels, cap)
    size = smart_resize(height, width, factor=factor, min_pixels=low, max_pixels=high)
    if size[0] * size[1] >= min_pixels or cap >= max_pixels:
        return size
    grown = _grown(height, width, factor, min_pixels)
    return grown if grown[0] * grown[1] <= max_pixels else size


def fit_sizes(
    sizes: Sequence[Size],
    *,
    factor: int,
    limits: Sequence[tuple[int, int]],
    max_tiles: int | None = None,
    times: Sequence[int] | None = None,
) -> list[Size]:
    """Return the sizes after resizing, each within its (min_pixels, max_pixels), and together within `max_tiles` tiles.

    A tile is `factor` x `factor` pixels and costs one token; image k is shown `times[k]` times, by default once.
    Raises ValueError where the tiles cannot suffice.
    """
    shown = [1] * len(sizes) if times is None else times

    def at(cap: int) -> list[Size]:
        return [
            _at_cap(height, width, cap, factor=factor, min_pixels=low, max_pixels=high)
            for (height, width), (low, high) in zip(sizes, limits, strict=True)
        ]

    def tiles(cap: int) -> int:
        pixels = (height * width * count for (height, width), count in zip(at(cap), shown, strict=True))
        return sum(pixels) // (factor * factor)

    if not sizes:
        return []
    largest = max(high for _, high in limits)
    if max_tiles is None:
        return at(largest)
    smallest = min(largest, max(factor * factor, min(low for low, _ in limits)))
    cap = common_cap(tiles, low=smallest, high=largest, limit=max_tiles)
    if cap is None:
        raise ValueError(
            f"expected at most {max_tiles} image tokens in the prompt, got {tiles(smallest)} for {sum(shown)} images "
            f"at their smallest ({smallest} pixels)"
        )
    return at(cap)
