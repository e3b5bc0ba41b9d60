"""The demo's processor: stock Qwen2.5-VL without its video branch, so that torchvision is not needed."""

from typing import Any

from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from triptych_data.image_only import image_only_processor


def build_processor(tokenizer: Any) -> Any:
    """Join the tokenizer with a Pillow image processor that keeps a 56 x 56 picture as it is: 4 image tokens.

    `save_pretrained` writes a folder that `triptych_trainer.models.load.load_processor` reads back.
    """
    image_processor = Qwen2VLImageProcessorPil(size={"shortest_edge": 28 * 28, "longest_edge": 28 * 28 * 64})
    return image_only_processor("Qwen2_5_VLProcessor", image_processor=image_processor, tokenizer=tokenizer)
