"""A Qwen2.5-VL processor for images only: no video processor, so neither torchvision nor a video library is needed."""

from typing import Any

from transformers import Qwen2_5_VLProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil


class ImageOnlyQwenProcessor(Qwen2_5_VLProcessor):
    """The stock processor without its video branch.

    The stock class demands a video processor, which transformers ships for torchvision only. `save_pretrained`
    writes this file beside the vocabulary, so that `AutoProcessor.from_pretrained(folder, trust_remote_code=True)`
    loads the folder where this package is not installed; with it, call this class's own `from_pretrained`.
    """

    _auto_class = "AutoProcessor"

    def __init__(
        self, image_processor: Any = None, tokenizer: Any = None, chat_template: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(image_processor, tokenizer, None, chat_template=chat_template, **kwargs)

    @property
    def model_input_names(self) -> list[str]:
        """Names of the tensors that a call returns."""
        return [name for name in super().model_input_names if name != "second_per_grid_ts"]


def build_processor(tokenizer: Any) -> ImageOnlyQwenProcessor:
    """Join the tokenizer with a Pillow image processor that keeps a 56 x 56 picture as it is: 4 image tokens."""
    image_processor = Qwen2VLImageProcessorPil(size={"shortest_edge": 28 * 28, "longest_edge": 28 * 28 * 64})
    return ImageOnlyQwenProcessor(image_processor, tokenizer, chat_template=tokenizer.chat_template)
