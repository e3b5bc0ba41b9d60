"""The image processor of a processor, called with the options that the processor itself gives it; what it returns."""

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from triptych_trainer.upstream.transformers_names import image_options

__all__ = ["image_digest", "image_processor_of"]


def image_processor_of(processor: Any) -> Callable[..., Mapping[str, Any]]:
    """Return `processor.image_processor` with the image options of a call of the whole processor.

    Some processors set options that their image processor does not know by itself: whether to cut images into crops, or
    the patch size after merging. The pixels have to follow them, as the processor's token ids do.
    """
    options = image_options(processor)
    options.pop("return_tensors", None)
    if "PixtralProcessor" in {cls.__name__ for cls in type(processor).__mro__}:
        options["patch_size"] = processor.patch_size * processor.spatial_merge_size
    return partial(processor.image_processor, **options) if options else processor.image_processor


def image_digest(inputs: Mapping[str, torch.Tensor]) -> str:
    """A digest of an image as the vision tower takes it: images that are equal in every value share it."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(inputs):
        values = inputs[name].detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        digest.update(values.flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
