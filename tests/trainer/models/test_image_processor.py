"""Pictures resized for an engine are those that the model's own processor would compute."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Qwen2VLImageProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from triptych_trainer.models.image_processor import resized_as_by


class Whole:
    """A processor, of which only the image processor is asked."""

    def __init__(self, image_processor):
        self.image_processor = image_processor


@pytest.mark.parametrize("backend", [Qwen2VLImageProcessor, Qwen2VLImageProcessorPil])
@pytest.mark.parametrize("size", [(61, 47), (300, 410)])
def test_a_resized_picture_gives_the_processors_own_pixels(backend, size):
    drawn = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    picture = Image.fromarray(drawn).resize((size[1] * 2, size[0] * 2))  # not only noise
    processor = backend(min_pixels=3136, max_pixels=64 * 784)
    whole = processor(picture, return_tensors="pt")
    _, high, wide = (whole["image_grid_thw"][0] * processor.patch_size).tolist()
    resized = resized_as_by(Whole(processor), picture, (high, wide))
    apart = processor(resized, do_resize=False, return_tensors="pt")
    assert resized.size == (wide, high) != picture.size
    assert torch.equal(apart["pixel_values"], whole["pixel_values"])
