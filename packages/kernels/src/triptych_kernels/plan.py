"""The merge plan: which feature row goes to which position of a batch, checked on the host."""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from math import prod
from typing import Self

import torch

from triptych_kernels import _native

Runs = Sequence[tuple[int, int]]
"""(start, length) of consecutive tokens, counted within a row."""
ImagePlace = tuple[int, int, Runs] | tuple[int, int, Runs, str]
"""(row, image, runs[, label]): one image at one place of the batch."""

_MAX_INT32 = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class MergePlan:
    """Says where each feature row of a batch goes.

    `index` is one int32 tensor, so that a plan moves in one copy. It contains `src` (the feature row of every position,
    -1 = text), `offsets` (N + 1 numbers) and `positions` (S numbers). Feature row n goes to the flat positions
    `positions[offsets[n]:offsets[n + 1]]`, which are in ascending order.
    """

    shape: tuple[int, int]
    """(B, T)."""
    num_features: int
    """N, the rows of `features_ND` that this plan was made for."""
    num_slots: int
    """S, the positions that take a feature row; more than N where an image has several places."""
    index: torch.Tensor

    @classmethod
    def from_images(
        cls, shape: tuple[int, int], places: Iterable[ImagePlace], *, features_per_image: Sequence[int]
    ) -> Self:
        """Make the plan of a batch of `shape` (B, T) from the places of its images.

        A place is (row, image, ((start, length), ...)) and may end in a label that names it in errors. `image` counts
        from 0 in `features_per_image`, the number of feature rows of each image; in `features_ND` the images follow one
        another in this order. An image may have several places, in one row or in several. Raises ValueError where a
        place has more or fewer tokens than its image has feature rows, leaves its row, or overlaps another place, and
        where an image has no place.
        """
        num_rows, num_tokens = shape
        if max(num_rows * num_tokens, sum(features_per_image)) > _MAX_INT32:
            raise ValueError(
                f"a plan counts up to {_MAX_INT32}, got {num_rows * num_tokens} positions and "
                f"{sum(features_per_image)} feature rows; make the batch smaller"
            )
        first_features = [0, *accumulate(features_per_image)]
        runs: list[_Run] = []
        placed = set()
        for place in places:
            _check_place(place, shape=shape, features_per_image=features_per_image)
            row, image, image_runs = place[:3]
            feature = first_features[image]
            for start, length in image_runs:
                runs.append((row * num_tokens + start, length, feature, place))
                feature += length
            placed.add(image)
        for image, count in enumerate(features_per_image):
            if image not in placed:
                raise ValueError(
                    f"image {image} of {len(features_per_image)} has {count} feature rows but no place in the batch; "
                    "give it a place, or leave its rows out of the features"
                )
        return cls._of_runs(shape, runs, num_features=first_features[-1])

    @classmethod
    def _of_runs(cls, shape: tuple[int, int], runs: Sequence["_Run"], *, num_features: int) -> Self:
        num_positions, num_slots = prod(shape), sum(length for _, length, _, _ in runs)
        index = torch.empty(num_positions + num_features + 1 + num_slots, dtype=torch.int32)
        runs_K3 = array("q", (number for run in runs for number in run[:3]))
        late = _native.place_runs(index.data_ptr(), num_positions, runs_K3.buffer_info()[0], len(runs))
        if late >= 0:
            raise ValueError(_overlap_message(runs, late, num_tokens=shape[1]))
        _native.group_slots(index.data_ptr(), num_positions, num_features)
        return cls(shape=shape, num_features=num_features, num_slots=num_slots, index=index)

    @property
    def src(self) -> torch.Tensor:
        """Feature row of every position, int32 `[B, T]`, -1 = text."""
        return self.index[: prod(self.shape)].view(self.shape)

    @property
    def offsets(self) -> torch.Tensor:
        """Where the positions of each feature row begin and end in `positions`, int32 `[N + 1]`."""
        return self.index[prod(self.shape) :][: self.num_features + 1]

    @property
    def positions(self) -> torch.Tensor:
        """Flat position of every slot, grouped by feature row, int32 `[S]`."""
        return self.index[prod(self.shape) + self.num_features + 1 :]

    def to(self, device: torch.device | str) -> Self:
        """Return this plan on `device`, in one copy, or itself where it already is on `device`."""
        moved = self.index.to(device)
        return self if moved is self.index else replace(self, index=moved)


_Run = tuple[int, int, int, ImagePlace]
"""(first flat position, length, first feature row, place that it belongs to)."""


def _name(place: ImagePlace) -> str:
    return f"row {place[0]}, {place[3] if len(place) == 4 else f'image {place[1]}'}"


def _check_place(place: ImagePlace, *, shape: tuple[int, int], features_per_image: Sequence[int]) -> None:
    num_rows, num_tokens = shape
    row, image, runs = place[:3]
    if not 0 <= image < len(features_per_image):
        raise ValueError(
            f"{_name(place)}: expected an image from 0 to {len(features_per_image) - 1}, got image {image}"
        )
    num_slots = sum(length for _, length in runs)
    if num_slots != features_per_image[image]:
        raise ValueError(
            f"{_name(place)}: {num_slots} placeholder tokens, but its image has {features_per_image[image]} feature "
            "rows; the prompt was tokenized for another size of this image, or the row was cut"
        )
    for start, length in runs:
        if not (0 <= row < num_rows and start >= 0 and length > 0 and start + length <= num_tokens):
            raise ValueError(
                f"{_name(place)}: tokens {start} to {start + length - 1} are not in a batch of {num_rows} rows of "
                f"{num_tokens} tokens; the row was cut or padded after its image places were computed"
            )


def _overlap_message(runs: Sequence[_Run], late: int, *, num_tokens: int) -> str:
    begin, length, _, late_place = runs[late]
    early = next(run for run in runs[:late] if run[0] < begin + length and begin < run[0] + run[1])
    spans = [f"{first % num_tokens} to {first % num_tokens + count - 1}" for first, count, _, _ in (runs[late], early)]
    return (
        f"{_name(late_place)}: its tokens {spans[0]} overlap tokens {spans[1]} of {_name(early[3])}; "
        "every token takes at most one feature row"
    )
