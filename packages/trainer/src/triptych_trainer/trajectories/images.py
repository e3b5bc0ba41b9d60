"""The images of a rollout as tools get them, by number or by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from PIL import Image

__all__ = ["RolloutImage", "RolloutImages"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutImage:
    """Contains one image that the model has seen so far."""

    picture: Image.Image
    """As decoded, in RGB, before the model's own resize."""
    model_size: tuple[int, int]
    """(height, width) in pixels as the vision tower sees it."""
    name: str | None = None


class RolloutImages:
    """Contains the images of a rollout in the order in which the model saw them: first the prompt's, then those of its
    turns.

    A tool that has a parameter of this type gets them; the model is not told of that parameter. Its pictures are
    copies, so that what a tool paints on them is seen by nobody else.

    >>> images = RolloutImages([RolloutImage(picture=Image.new("RGB", (4, 2)), model_size=(28, 56), name="left")])
    >>> images["left"] is images[1] is images["1"]
    True
    """

    def __init__(self, images: Sequence[RolloutImage], *, num_arrived: int = 0) -> None:
        self._images = list(images)
        self.num_arrived = num_arrived
        """How many of them arrived after the prompt, and how many the calls before this one may still add."""
        self._copied: set[int] = set()

    def __len__(self) -> int:
        return len(self._images)

    def __iter__(self) -> Iterator[RolloutImage]:
        return (self._own(k) for k in range(len(self._images)))

    def _own(self, k: int) -> RolloutImage:
        if k not in self._copied:
            self._images[k] = replace(self._images[k], picture=self._images[k].picture.copy())
            self._copied.add(k)
        return self._images[k]

    def __getitem__(self, which: int | str) -> RolloutImage:
        """The image of a number, counted from 1, or of a name.

        Raises:
            LookupError: says which images there are; the model reads it.
        """
        for k, image in enumerate(self._images):
            if image.name is not None and image.name == which:
                return self._own(k)
        number = int(which) if isinstance(which, str) and which.strip().isdecimal() else which
        if isinstance(number, int) and not isinstance(number, bool) and 1 <= number <= len(self._images):
            return self._own(number - 1)
        names = ", ".join(repr(image.name) for image in self._images if image.name is not None)
        known = f"images 1 to {len(self._images)}" if self._images else "no images"
        raise LookupError(f"there is no image {which!r}; there are {known}{f', named {names}' if names else ''}")
