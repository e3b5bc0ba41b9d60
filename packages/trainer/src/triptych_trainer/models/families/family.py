"""The adapter of a model family; its defaults describe the plain LLaVA-like case."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import torch
import transformers

from triptych_trainer.errors import IncompatibleVersionError
from triptych_trainer.models.families.features import ImageFeatures, ImageInputs, TokenRows

if TYPE_CHECKING:
    from triptych_kernels import MergePlan
    from triptych_parser import ImageSpan

SharingPath = Literal["packed", "cache", "plain"]
ImageAttention = Literal["causal", "both_ways", "both_ways_in_window"]
"""Whether a token of an image sees the image's later tokens, and whether a sliding window limits that."""


class Family:
    """Describes a model by defaults: features from `get_image_features`, 1-D positions, a merge into the token
    embeddings.

    `model` below is the class with the language-model head, `vision_language_model` the module inside it that owns
    the vision tower and the language model.
    """

    model_types: tuple[str, ...] = ()
    """`config.model_type` values this adapter has been tested with."""
    takes_images: bool = True
    """Whether the model has any part for images."""
    least_transformers: tuple[int, int] = (5, 17)
    """The first version of transformers whose own model code is right for several images."""
    path: SharingPath = "packed"
    """How the policy pass shares the prompt: one packed row, a cached prompt, or not at all."""
    generate_counts_pads: bool = False
    """Whether the model's own `generate` gives positions to the pads before a prompt as well."""
    prefills: bool = True
    """Whether generation may cache a prompt without its last token; not where earlier tokens see that one."""

    no_later_images: str | None = None
    """Why no image may arrive after the prompt, as the end of a sentence; None where one may."""
    types_cover_cache: bool = False
    """Whether a call on top of a cached prompt takes the type ids of the prompt's tokens as well."""

    completion_types: Mapping[str, int] = MappingProxyType({})
    """Values of the processor's type ids after the prompt, by name, where they are not 0."""

    def vision_language_model(self, model: torch.nn.Module) -> torch.nn.Module:
        """Return the module that owns tower and language model."""
        return model.model

    def language_model(self, vision_language_model: torch.nn.Module) -> torch.nn.Module:
        """Return the text backbone, which takes `inputs_embeds` and gives hidden states."""
        for name in ("language_model", "text_model"):
            if (module := getattr(vision_language_model, name, None)) is not None:
                return module
        raise AttributeError(f"{type(vision_language_model).__name__} has neither `language_model` nor `text_model`")

    def vision_parameters(self, vision_language_model: torch.nn.Module) -> list[torch.nn.Parameter]:
        """Return every parameter that is not the text backbone's: those of the tower, the projector and learned
        separators.
        """
        text = {id(p) for p in self.language_model(vision_language_model).parameters()}
        return [p for p in vision_language_model.parameters() if id(p) not in text]

    def preprocess(self, image_processor: Any, images: Sequence[Any]) -> tuple[ImageInputs, ...]:
        """Run the model's image processor over all images of ONE prompt; one mapping per image.

        A family that treats an image differently among several overrides this; here each image is treated alone.
        """
        return tuple(tensors(image_processor(images=[image], return_tensors="pt")) for image in images)

    def preprocess_arrived(self, image_processor: Any, image: Any, *, alone: bool) -> ImageInputs:
        """Run the model's image processor over an image that arrived after a prompt; `alone` in its turn, or not."""
        return self.preprocess(image_processor, [image])[0]

    def num_rows(self, vision_language_model: torch.nn.Module, image: ImageInputs) -> int | None:
        """Return the feature rows that the tower will make of an image, or None if only the tower knows."""
        return None

    def collate_images(self, images: Sequence[ImageInputs]) -> dict[str, torch.Tensor]:
        """Join images for one call of the tower."""
        return {name: torch.cat([image[name] for image in images]) for name in images[0]}

    def tower_inputs(
        self, vision_language_model: torch.nn.Module, images: Sequence[ImageInputs]
    ) -> dict[str, torch.Tensor]:
        """Return the collated inputs that `get_image_features` names; processors return some that only they need."""
        accepted = inspect.signature(vision_language_model.get_image_features).parameters
        return {name: values for name, values in self.collate_images(images).items() if name in accepted}

    def encode(self, vision_language_model: torch.nn.Module, images: Sequence[ImageInputs]) -> ImageFeatures:
        """Run tower and projector once over all images."""
        inputs = self.tower_inputs(vision_language_model, images)
        output = vision_language_model.get_image_features(**inputs, return_dict=True)
        return self.read_features(output, images=images)

    def read_features(self, output: Any, *, images: Sequence[ImageInputs]) -> ImageFeatures:
        """Flatten the tower's pooled output: one `[n, D]` entry per image, or one per tile of its `pixel_values`.

        Raises:
            IncompatibleVersionError: there is another number of entries.
        """
        parts = [part.reshape(-1, part.shape[-1]) for part in output.pooler_output]
        sizes = [1] * len(images)
        if len(parts) != len(images):
            sizes = [self.num_tiles(image) for image in images]
        if sum(sizes) != len(parts):
            raise IncompatibleVersionError(
                f"expected features of {len(images)} images or of their {sum(sizes)} tiles, and the vision tower "
                f"returned {len(parts)} entries with transformers {transformers.__version__}; install a later version, "
                "or write an adapter, which docs/add-a-family.md shows"
            )
        ends = torch.tensor(sizes).cumsum(0).tolist()
        counts = tuple(
            sum(part.shape[0] for part in parts[end - size : end]) for size, end in zip(sizes, ends, strict=True)
        )
        return ImageFeatures(rows=torch.cat(parts), counts=counts)

    def num_tiles(self, image: ImageInputs) -> int:
        """Return how many entries of the tower's pooled output an image takes, if there is one entry per tile."""
        return image["pixel_values"].shape[0]

    def dummy_image(self, vision_language_model: torch.nn.Module) -> ImageInputs:
        """Return the smallest image that the tower takes; it keeps collective operations aligned on ranks that have no
        image.
        """
        vision = vision_language_model.config.vision_config
        size = vision.image_size
        height, width = size if isinstance(size, (list, tuple)) else (size, size)
        return {"pixel_values": torch.zeros(1, getattr(vision, "num_channels", 3), height, width)}

    def positions(
        self,
        vision_language_model: torch.nn.Module,
        ids: Sequence[int],
        *,
        spans: Sequence[ImageSpan],
        images: Sequence[ImageInputs],
    ) -> tuple[torch.Tensor, int]:
        """Return the position ids `[A, L]` of one prompt, and the position of the first token after it (A rotary axes).

        `images[k]` is the image of `spans[k]`.
        """
        return torch.arange(len(ids)).unsqueeze(0), len(ids)

    def position_ids(self, positions_ABT: torch.Tensor) -> torch.Tensor:
        """Return what the model takes as `position_ids`."""
        return positions_ABT[0] if positions_ABT.shape[0] == 1 else positions_ABT

    def image_attention(self, text_config: Any, *, window: int | None) -> ImageAttention:
        """Return how the tokens of one image see each other in the layers of this sliding window (None: full
        attention).
        """
        return "causal"

    def before_language_model(
        self, kwargs: dict[str, Any], config: Any, *, features: ImageFeatures, plan: MergePlan, rows: TokenRows
    ) -> None:
        """Add to `kwargs` what the text backbone takes next to merged embeddings, or change the merged embeddings.

        `config` is the whole model's; the plan is on the device of the embeddings.
        """

    def forward_extras(self, config: Any, rows: TokenRows) -> dict[str, Any]:
        """Return further keyword arguments of a model call; `config` is the whole model's."""
        return {}

    def stock_inputs(
        self, vision_language_model: torch.nn.Module, images: Sequence[ImageInputs]
    ) -> dict[str, torch.Tensor]:
        """Return the image inputs of the model's own forward for rows that show these images, in order."""
        return self.tower_inputs(vision_language_model, images) if images else {}

    def continue_generation(
        self, vision_language_model: torch.nn.Module, *, next_minus_length_B: torch.Tensor
    ) -> dict[str, Any]:
        """Prepare `generate` to continue from a prefilled cache; returns further arguments for it.

        `next_minus_length_B[b]` is the position of the first new token of row b minus the number of its prompt tokens.
        """
        return {}

    def image_token_ids(self, config: Any) -> tuple[int, ...]:
        """Return the ids that represent image or video content and must never be sampled, as far as the head knows
        them.
        """
        names = (
            *("image_token_id", "image_token_index", "video_token_id", "video_token_index"),
            *("vision_start_token_id", "vision_end_token_id", "image_start_token_id", "image_end_token_id"),
            *("boi_token_index", "eoi_token_index", "boi_token_id", "eoi_token_id"),
        )
        found = (getattr(config, name, None) for name in names)
        size = config.get_text_config().vocab_size
        return tuple(sorted({token for token in found if isinstance(token, int) and 0 <= token < size}))


def tensors(inputs: Mapping[str, Any]) -> ImageInputs:
    """Return the tensors among a processor's outputs, without plain numbers about all images of the call."""
    return {name: value for name, value in inputs.items() if isinstance(value, torch.Tensor) and value.dim()}
