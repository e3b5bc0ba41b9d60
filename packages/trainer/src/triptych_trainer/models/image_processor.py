"""The image processor of a processor, called with the options that the processor itself gives it; what it returns."""

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from triptych_data.resize import resize

from triptych_trainer.upstream.transformers_names import image_options

__all__ = ["image_digest", "image_processor_of", "resized_as_by"]


def image_processor_of(processor: Any) -> Callable[..., Mapping[str, Any]]:
    """Return `processor.image_processor` with the image options of a call of the whole processor.

    Some processors set options that their image processor does not know: whether to cut images into crops, or
    the patch size after merging. The pixels have to follow them, as the processor's token ids do.
    """
    options = image_options(processor)
    options.pop("return_tensors", None)
    if "PixtralProcessor" in {cls.__name__ for cls in type(processor).__mro__}:
        options["patch_size"] = processor.patch_size * processor.spatial_merge_size
    return partial(processor.image_processor, **options) if options else processor.image_processor


def resized_as_by(processor: Any, picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resize a picture to (height, width) by the very values that the processor would compute.

    transformers has two backends, whose bicubic resampling differs by one level of 256 in some pixels: torchvision
    (`resize` gives the same values), and Pillow.
    """
    height, width = size
    if picture.size == (width, height):
        return picture
    if "TorchvisionBackend" in {cls.__name__ for cls in type(processor.image_processor).__mro__}:
        return Image.fromarray(np.array(resize(np.asarray(picture), size)))
    return picture.resize((width, height), Image.Resampling.BICUBIC)


def image_digest(inputs: Mapping[str, torch.Tensor]) -> str:
    """Return a digest of an image as the vision tower takes it; images that are equal in every value share it."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(inputs):
        values = inputs[name].detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        digest.update(values.flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
