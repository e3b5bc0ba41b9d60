"""The images that the calls of a turn returned, and which of them the model cannot be shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from PIL import Image

from triptych_trainer.errors import UsageError
from triptych_trainer.prompts.prepare import PromptPreparer
from triptych_trainer.trajectories.calls import Outcome

__all__ = ["pictures_of", "usable"]


def pictures_of(outcomes: Sequence[Outcome]) -> list[tuple[str, int, Image.Image]]:
    """Return (the tool that returned it, its number from 1 among the images of the tool, the image) for each image of a
    turn.
    """
    counts: Counter[str] = Counter()
    found = []
    for outcome in outcomes:
        for piece in outcome.pieces:
            if isinstance(piece, Image.Image):
                counts[outcome.name] += 1
                found.append((outcome.name, counts[outcome.name], piece))
    return found


def usable(outcomes: Sequence[Outcome], preparer: PromptPreparer, *, where: str) -> list[Outcome]:
    """Return the outcomes of a turn; an outcome with an image that the model cannot be shown is a failure, and the
    model is told so.

    What a tool returns follows from what the model asks for, for example from a box without an area.
    """
    pictures = pictures_of(outcomes)
    reasons: dict[str, str] = {}
    for name, number, picture in pictures:
        try:
            preparer.picture(picture, where=f"{where}, image {number} of `{name}`", alone=len(pictures) == 1)
        except UsageError as error:
            if not preparer.family.takes_images:
                raise
            reasons.setdefault(name, str(error))
    return [
        replace(one, pieces=(str({"error": f"an image of {one.name} cannot be shown"}),), failure=reasons[one.name])
        if one.name in reasons and pictures_of([one])
        else one
        for one in outcomes
    ]
