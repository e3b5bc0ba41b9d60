"""A copy of a row's values for each completion, so that a reward which changes what it gets changes no other's."""

from typing import Any

import numpy as np
import torch
from PIL import Image

from triptych_trainer.prompts.dataset_table import reopened

__all__ = ["own_values"]


def own_values(value: Any, *, copies: dict[int, Image.Image] | None = None, images: bool = True) -> Any:
    """Return a value whose lists, dictionaries, arrays and images belong to nobody else; pixels that are not decoded
    yet stay so.

    An image that occurs more than once is copied once; ``copies`` has the copies so far. Without ``images`` they are
    shared.

    >>> row = {"words": ["a", "b"]}
    >>> own_values(row)["words"].clear()
    >>> row
    {'words': ['a', 'b']}
    """
    if isinstance(value, (str, bytes, int, float, type(None))):
        return value
    copies = {} if copies is None else copies
    if type(value) is dict:
        return {name: own_values(item, copies=copies, images=images) for name, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(own_values(item, copies=copies, images=images) for item in value)
    if isinstance(value, Image.Image) and images:
        if id(value) not in copies:
            copies[id(value)] = reopened(value)
        return copies[id(value)]
    if isinstance(value, np.ndarray):
        return value.copy()
    return value.clone() if isinstance(value, torch.Tensor) else value
