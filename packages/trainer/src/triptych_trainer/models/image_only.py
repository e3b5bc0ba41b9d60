"""Stock processors without their video branch, for machines without torchvision."""

from typing import Any

import transformers

from triptych_trainer.upstream.transformers_names import PROCESSOR_MAPPING_NAMES

__all__ = ["image_only_class", "image_only_processor"]


def image_only_class(stock: type) -> type:
    """Return a subclass of a stock processor class that asks for no video processor.

    It carries the stock name, so that ``save_pretrained`` writes a folder which loads as the stock class elsewhere.
    """

    class ImageOnly(stock):  # type: ignore[misc, valid-type]
        def __init__(
            self, image_processor: Any = None, tokenizer: Any = None, chat_template: str | None = None, **kwargs: Any
        ) -> None:
            super().__init__(image_processor, tokenizer, None, chat_template=chat_template, **kwargs)

        @property
        def model_input_names(self) -> list[str]:
            names = [*self.tokenizer.model_input_names, *self.image_processor.model_input_names]
            return [*dict.fromkeys([*names, "mm_token_type_ids"])]

    ImageOnly.__name__ = stock.__name__
    ImageOnly.__qualname__ = stock.__qualname__
    return ImageOnly


def image_only_processor(name: str, *, image_processor: Any, tokenizer: Any, chat_template: str | None = None) -> Any:
    """Build a processor from its parts; ``name`` is a processor class or a model type.

    Raises:
        ImportError: transformers has no such processor, or it has no video branch to leave out.
    """
    class_name = PROCESSOR_MAPPING_NAMES.get(name, name)
    stock = getattr(transformers, class_name, None)
    if stock is None:
        raise ImportError(f"transformers {transformers.__version__} has no processor {class_name!r}")
    template = chat_template or getattr(tokenizer, "chat_template", None)
    return image_only_class(stock)(image_processor=image_processor, tokenizer=tokenizer, chat_template=template)
