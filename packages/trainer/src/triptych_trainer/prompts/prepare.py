"""One prompt made ready once: images decoded, preprocessed and counted, text tokenized with every image in its span."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

from PIL import Image
from triptych_data import DataError, Example, ImageError, ImageLoader, ImageSource, load_image
from triptych_data.budget import Size
from triptych_data.describe import count_images, describe, too_long
from triptych_data.model_tokens import ModelTokens
from triptych_data.prompt_settings import PromptSettings
from triptych_data.seen_headers import header_sizes
from triptych_parser import ImageSpan
from triptych_parser.expanders import expander_of

from triptych_trainer.errors import UsageError
from triptych_trainer.models.families import Family, ImageInputs
from triptych_trainer.models.image_processor import image_digest, image_processor_of

__all__ = ["ENDING_TOKENS", "PreparedPicture", "PreparedPrompt", "PromptPreparer"]

ENDING_TOKENS = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedPrompt:
    """Contains a prompt as the model gets it, shared by all of its completions."""

    example: Example
    ids: list[int]
    """Token ids with every image expanded to its placeholders."""
    spans: tuple[ImageSpan, ...]
    """One span per marker, in order; ``span.image`` counts the images of this prompt from 0."""
    image_inputs: tuple[ImageInputs, ...]
    """The image processor's output for each image of this prompt, each once."""
    image_sizes: tuple[tuple[int, int], ...]
    """(height, width) in pixels of each image as decoded, before the model's own resize."""
    model_sizes: tuple[tuple[int, int], ...]
    """(height, width) in pixels of each image as the vision tower sees it."""
    resized: tuple[Size, ...] | None = None
    """(height, width) that the loader resizes each image to before the processor gets it; None: the processor does."""
    ending: str = ""
    """The last tokens of the prompt as text: what its chat template, or the row, wrote before the completion."""
    pixels: Callable[..., Sequence[Image.Image]] | None = None
    """Decodes the images of this prompt, through the run's loader and its cache; `sizes` are (height, width)."""
    text: str | None = None
    """A prompt of plain text, which is tokenized without a template; None for a conversation."""
    image_digests: tuple[str, ...] = ()
    """A digest of each of `image_inputs`; empty where none was taken."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedPicture:
    """Contains an image that arrived after its prompt, as the model gets it."""

    picture: Image.Image
    """As decoded: RGB, upright."""
    inputs: ImageInputs
    digest: str
    model_size: tuple[int, int]
    """(height, width) in pixels as the vision tower sees it."""


class PromptPreparer:
    """Prepares prompts and keeps the last ones, so that no pass of a step prepares a prompt twice."""

    def __init__(
        self,
        processor: Any,
        *,
        loader: ImageLoader,
        family: Family | None = None,
        settings: PromptSettings | None = None,
        keep: int = 64,
    ) -> None:
        """Prepare with ``processor``'s tokenizer, chat template and image processor; keep the ``keep`` last prompts.

        ``family`` is the adapter of the model that the prompts are for: some process an image differently among many.
        ``settings`` are those of the run; a row's own pixel limits count in addition to them.
        """
        self.processor = processor
        self.loader = loader
        self.family = family or Family()
        self.settings = settings or PromptSettings()
        self.keep = keep
        self.preprocessed = 0
        """Images that went through the image processor so far."""
        self._kept: OrderedDict[str, PreparedPrompt] = OrderedDict()
        self._pictures: OrderedDict[Hashable, PreparedPicture] = OrderedDict()

    def prefetch(self, example: Example) -> None:
        """Start decoding an example's images, and resizing them, on the loader's threads."""
        if not example.images or example.key in self._kept:
            return
        with suppress(DataError):  # it is met again, and refused, when the prompt is prepared
            sizes = header_sizes(example, policy=self.loader.policy, seen=self.loader.seen)
            counted = count_images(example, model=self.model, settings=self.settings, sizes=sizes)
            self.loader.prefetch(example, sizes=counted.resized)

    def __call__(self, example: Example) -> PreparedPrompt:
        """Return the prepared prompt of ``example``.

        Raises:
            DataError: an image cannot be decoded, or the settings refuse the prompt.
        """
        key = example.key
        kept = self._kept.get(key)
        if kept is None or not is_prompt_of(kept, example):
            self._kept[key] = self._prepare(example)
        elif example.columns and kept.example.columns is not example.columns:
            # a transform may have drawn the same prompt with other values
            self._kept[key] = replace(kept, example=example)
        self._kept.move_to_end(key)
        while len(self._kept) > self.keep:
            self._kept.popitem(last=False)
        return self._kept[key]

    @cached_property
    def model(self) -> ModelTokens:
        """What counts the prompts."""
        return ModelTokens.of(self.processor)

    @cached_property
    def _placeholders(self) -> tuple[str, ...]:
        """The texts that stand for images in the prompts of this processor; none where it takes no images."""
        if not self.family.takes_images or not hasattr(self.processor, "image_processor"):
            return ()
        expander = expander_of(self.processor)
        return expander.template_token, expander.placeholder

    def plain(self, example: Example, text: str) -> PreparedPrompt:
        """Return a prompt of plain text without images, tokenized as it is: special tokens in it are special.

        Raises:
            DataError: it contains a placeholder of an image, or more tokens than the settings allow.
        """
        if found := [token for token in self._placeholders if token in text]:
            raise DataError(
                f"expected a text without placeholders of images, got {found[0]} in a prompt of a row without images",
                source=example.source,
                id=None if example.id == example.source else example.id,
                remedy='give the row its images, or write the prompt as messages: the content parts [{"type": "text", '
                '"text": ...}] are read as ordinary text',
            )
        ids = list(self.processor(text=[text])["input_ids"][0])
        refused = too_long(example, num_tokens=len(ids), num_image_tokens=0, settings=self.settings)
        if refused is not None:
            raise refused
        return PreparedPrompt(
            example=example,
            ids=ids,
            spans=(),
            image_inputs=(),
            image_sizes=(),
            model_sizes=(),
            ending=self._ending(ids),
            text=text,
        )

    def _ending(self, ids: Sequence[int]) -> str:
        tokenizer = getattr(self.processor, "tokenizer", self.processor)
        return str(tokenizer.decode(ids[-ENDING_TOKENS:], skip_special_tokens=False))

    def _prepare(self, example: Example) -> PreparedPrompt:
        if example.images and not self.family.takes_images:
            count = len(example.images)
            raise DataError(
                f"the row contains {count} image{'s' * (count != 1)}, but the model takes none",
                source=example.source,
                id=None if example.id == example.source else example.id,
                remedy="train a vision-language model, or leave the images out of the data",
            )
        if example.images and not hasattr(self.processor, "image_processor"):
            raise DataError(
                f"the row contains images, but they cannot be prepared by a {type(self.processor).__name__}",
                source=example.source,
                id=None if example.id == example.source else example.id,
                remedy="pass the model's processor as processing_class, or leave processing_class out",
            )
        sizes = self.loader.sizes(example)
        counted = describe(example, model=self.model, settings=self.settings, sizes=sizes).accepted()
        resized = counted.images.resized
        inputs: tuple[ImageInputs, ...] = ()
        if example.images:
            images = self.loader.get(example, sizes=resized)
            process = partial(image_processor_of(self.processor), **_options(resized))
            try:
                inputs = self.family.preprocess(process, images)
            except Exception as error:  # image processors refuse sizes and settings, each in its own way
                if isinstance(error, MemoryError):
                    raise
                raise _refused_by_processor(example, self.processor, error) from error
        self.preprocessed += len(example.images)
        return PreparedPrompt(
            example=example,
            ids=counted.ids,
            spans=counted.spans,
            image_inputs=inputs,
            image_sizes=sizes,
            model_sizes=tuple(self._model_size(entry, size) for entry, size in zip(inputs, sizes, strict=True)),
            resized=resized,
            ending=self._ending(counted.ids),
            pixels=partial(self.loader.get, example) if example.images else None,
            image_digests=tuple(map(image_digest, inputs)),
        )

    def pictures(self, prompt: PreparedPrompt) -> tuple[list[Image.Image], dict[str, Any]]:
        """Return the decoded images of a prompt as its processor takes them, and the options of that call."""
        if not prompt.image_sizes:
            return [], {}
        return self.loader.get(prompt.example, sizes=prompt.resized), _options(prompt.resized)

    def picture(self, picture: Image.Image, *, where: str, alone: bool = True) -> PreparedPicture:
        """Prepare an image that a tool or an environment returned; equal ones are prepared once.

        ``alone`` says whether its turn brought no other image, on which it depends in some families.

        Raises:
            UsageError: it cannot be read, or the model takes none; ``where`` names it and who returned it.
        """
        source = ImageSource(ref=picture)
        if not self.family.takes_images:
            raise UsageError(f"{where} is an image, but the model takes none; return text only")
        key = (source.key, alone)
        if key not in self._pictures:
            try:
                read = load_image(source, policy=self.loader.policy)
                inputs = self.family.preprocess_arrived(image_processor_of(self.processor), read, alone=alone)
            except Exception as error:  # image processors refuse sizes and shapes, each in its own way
                size = f"{picture.width} x {picture.height} pixels"
                why = error.reason if isinstance(error, ImageError) else " ".join(str(error).split())
                raise UsageError(f"{where} ({size}) cannot be used: {why}; return another image, or text") from error
            self.preprocessed += 1
            seen = self._model_size(inputs, (read.height, read.width))
            prepared = PreparedPicture(picture=read, inputs=inputs, digest=image_digest(inputs), model_size=seen)
            self._pictures[key] = prepared
        self._pictures.move_to_end(key)
        while len(self._pictures) > max(self.keep, 1):
            self._pictures.popitem(last=False)
        return self._pictures[key]

    def _model_size(self, inputs: ImageInputs, decoded: tuple[int, int]) -> tuple[int, int]:
        """Pixels after the model's resize: from the patch grid, the single frame, or as decoded where tiled."""
        if "image_grid_thw" in inputs:
            _, rows, columns = inputs["image_grid_thw"][0].tolist()
            patch = self.processor.image_processor.patch_size
            return rows * patch, columns * patch
        frames = inputs.get("pixel_values")  # some processors call them otherwise
        if frames is not None and frames.ndim == 4 and frames.shape[0] == 1:
            return frames.shape[-2], frames.shape[-1]
        return decoded


def _refused_by_processor(example: Example, processor: Any, error: Exception) -> DataError:
    name = type(processor.image_processor).__name__
    return DataError(
        f"{name} refuses the images of the row ({type(error).__name__}: {' '.join(str(error).split())})",
        source=example.source,
        id=None if example.id == example.source else example.id,
        remedy="correct the settings of images in processor_config.json, if it refuses every row, or the image",
        kind="processor",
    )


def _options(resized: Sequence[Size] | None) -> dict[str, Any]:
    """What the image processor is told of images that have their final sizes, or have not."""
    return {} if resized is None else {"do_resize": False}


def is_prompt_of(prepared: PreparedPrompt, example: Example) -> bool:
    """Return whether a prompt that was kept is this example's own; examples made by hand can share a key."""
    kept = prepared.example
    return kept is example or (
        kept.prompt == example.prompt and kept.images == example.images and kept.tools == example.tools
    )
