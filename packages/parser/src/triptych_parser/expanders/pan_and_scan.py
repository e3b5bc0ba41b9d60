"""How many crops Gemma 3 adds to an image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["num_crops"]


def num_crops(height: int, width: int, options: Mapping[str, Any]) -> int:
    """Return how many crops an image of `height` by `width` pixels has under the processor's pan-and-scan options; 0
    when it is off.

    An elongated image is cut along its longer side into about as many squares as fit, at least 2 and at most
    `pan_and_scan_max_num_crops`, none of them thinner than `pan_and_scan_min_crop_size` pixels.
    """
    if not options.get("do_pan_and_scan"):
        return 0
    smallest = int(options["pan_and_scan_min_crop_size"])
    longer, shorter = max(height, width), min(height, width)
    if longer / shorter < options["pan_and_scan_min_ratio_to_activate"]:
        return 0
    crops = min(longer // smallest, int(longer / shorter + 0.5))
    crops = min(int(options["pan_and_scan_max_num_crops"]), max(2, crops))
    thinnest = min(-(-longer // crops), shorter)
    return crops if thinnest >= smallest else 0
