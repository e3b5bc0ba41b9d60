"""The comparison of an image's placeholders with its feature rows, for images that arrived in rollouts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from triptych_trainer.errors import UsageError
from triptych_trainer.models.families import ImageInputs
from triptych_trainer.rollouts.rollout import ArrivedImage, image_names

__all__ = ["check_features"]


def check_features(
    images: Sequence[ArrivedImage],
    *,
    num_rows: Callable[[ImageInputs], int | None],
    source: str,
    turn: int | None = None,
) -> None:
    """Compare the placeholders of a rollout's images, or of those of one turn, with their feature rows.

    ``num_rows`` says how many rows the tower makes of an image, if its inputs say so.

    Raises:
        UsageError: they differ; names the rollout, the turn, the image and its tool.
    """
    for name, image in zip(image_names(images), images, strict=True):
        rows = num_rows(image.inputs) if turn in (None, image.turn) else None
        if rows is not None and rows != image.span.num_features:
            raise UsageError(
                f"{source}: {name}: {image.span.num_features} slots, {rows} features; the processor counts the image "
                "differently than it prepares it, so use the model's own processor"
            )
