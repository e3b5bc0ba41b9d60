"""The boxes of one rollout, as an environment: its one method is the tool that opens a box."""

from collections.abc import Sequence

from PIL import Image

from triptych_trainer.demo.look.pictures import blank, draw_inside
from triptych_trainer.demo.look.task import Inside

__all__ = ["BlankBoxes", "Boxes"]

LOOK_COST = 1 / 32
"""What a look costs; exact in binary, so that equal rewards have no spread."""


class Boxes:
    """Plays closed boxes that can be opened one at a time."""

    def __init__(self) -> None:
        self._inside: tuple[Inside, ...] = ()
        self._num_looks = 0

    def reset(self, colours: Sequence[str], shapes: Sequence[str]) -> None:
        """Close all boxes; the row's columns say what is in them."""
        pairs = zip(colours, shapes, strict=True)
        self._inside = tuple(Inside(colour=colour, shape=shape) for colour, shape in pairs)
        self._num_looks = 0

    def look(self, box: int) -> Image.Image:
        """Open a box.

        Args:
            box: The number of the box.
        """
        self._num_looks += 1
        if not 1 <= box <= len(self._inside):
            raise LookupError(f"there is no box {box} ; there are 1 to {len(self._inside)}")
        return self._shown(self._inside[box - 1])

    def get_reward(self) -> float:
        """Return what the looks of the rollout cost."""
        return -LOOK_COST * self._num_looks

    def _shown(self, inside: Inside) -> Image.Image:
        return draw_inside(inside)


class BlankBoxes(Boxes):
    """Plays the same boxes, which show nothing when they are opened."""

    def _shown(self, inside: Inside) -> Image.Image:
        return blank()
