"""The image processor of a processor, called with the options that the processor itself gives it."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from triptych_trainer.upstream.transformers_names import image_options

__all__ = ["image_processor_of"]


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
