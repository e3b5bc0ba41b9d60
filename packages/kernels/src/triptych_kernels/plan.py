"""The merge plan: which feature row goes to which position of a batch, checked on the host."""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Self

import torch

from triptych_kernels import _native

Run = tuple[int, int, int, int] | tuple[int, int, int, int, str]
ImageRuns = tuple[int, int, Sequence[tuple[int, int]]] | tuple[int, int, Sequence[tuple[int, int]], str]

_MAX_INT32 = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class MergePlan:
    """Where each feature row of a batch goes.

    `index` is one int32 tensor, so that a plan moves in one copy: `src` (the feature row of every position, -1 = text),
    then `offsets` (N + 1) and `positions` (S): feature n goes to the flat positions
    `positions[offsets[n]:offsets[n + 1]]`, ascending.
    """

    shape: tuple[int, ...]
    """(T,) packed or (B, T)."""
    num_features: int
    """N, the rows of `features_ND` this plan was made for."""
    num_slots: int
    """S, the positions that take a feature row; more than N where rows share features."""
    index: torch.Tensor

    @classmethod
    def from_spans(
        cls, shape: Sequence[int], runs: Iterable[Run], *, num_features: int, allow_unused: bool = False
    ) -> Self:
        """Plan from runs of consecutive positions: (row, start, length, first_feature[, label]).

        `row` is 0 for a packed shape (T,). Runs of different rows may take the same features (the completions of one
        prompt); `label` names the run in errors. Raises ValueError where a run leaves its row or the features, meets
        another run, or, unless `allow_unused`, where a feature row is taken by no run.
        """
        num_rows, num_tokens = _rows_and_tokens(shape)
        _check_sizes(num_rows * num_tokens, num_features)
        placed = array("q")
        labels: list[tuple[int, str]] = []
        num_slots = 0
        for row, start, length, first, *label in runs:
            name = str(label[0]) if label else f"run {len(labels)}"
            if not (0 <= row < num_rows and start >= 0 and length > 0 and start + length <= num_tokens):
                raise ValueError(
                    f"row {row}, {name}: slots {start}..{start + length - 1} do not lie in a batch of {num_rows} "
                    f"row(s) of {num_tokens} tokens; was the row cut, or padded, after its spans were made?"
                )
            if not 0 <= first <= num_features - length:
                raise ValueError(
                    f"row {row}, {name}: {length} slots take features {first}..{first + length - 1}, "
                    f"but there are {num_features} features; check the image's feature count"
                )
            placed.extend((row * num_tokens + start, length, first))
            labels.append((row, name))
            num_slots += length
        index = torch.empty(num_rows * num_tokens + num_features + 1 + num_slots, dtype=torch.int32)
        meets = _native.place_runs(index.data_ptr(), num_rows * num_tokens, placed.buffer_info()[0], len(labels))
        if meets >= 0:
            raise ValueError(_overlap_message(placed, labels, meets, num_tokens))
        _native.group_slots(index.data_ptr(), num_rows * num_tokens, num_features)
        plan = cls(shape=tuple(shape), num_features=num_features, num_slots=num_slots, index=index)
        if not allow_unused:
            plan._check_all_used()
        return plan

    @classmethod
    def from_images(
        cls,
        shape: Sequence[int],
        images: Iterable[ImageRuns],
        *,
        features_per_image: Sequence[int],
        allow_unused: bool = False,
    ) -> Self:
        """Plan from images: (row, image, ((start, length), ...)[, label]), one entry per place an image stands.

        `image` counts from 0 in `features_per_image`, whose images lie one after another in `features_ND`; it may
        stand in several rows, or twice in one. Raises ValueError where its slots and its features differ in number.
        """
        first_features = [0]
        for count in features_per_image:
            first_features.append(first_features[-1] + count)
        runs: list[Run] = []
        for row, image, image_runs, *label in images:
            name = str(label[0]) if label else f"image {image}"
            if not 0 <= image < len(features_per_image):
                raise ValueError(
                    f"row {row}, {name}: image {image} does not exist, there are {len(features_per_image)}"
                )
            num_slots = sum(length for _, length in image_runs)
            if num_slots != features_per_image[image]:
                raise ValueError(
                    f"row {row}, {name}: {num_slots} slots, {features_per_image[image]} features; the prompt was "
                    "expanded for another image size than the one that was encoded, or the row was cut"
                )
            first = first_features[image]
            for start, length in image_runs:
                runs.append((row, start, length, first, name))
                first += length
        return cls.from_spans(shape, runs, num_features=first_features[-1], allow_unused=allow_unused)

    @classmethod
    def from_src(cls, src: torch.Tensor, *, num_features: int) -> Self:
        """Plan from the feature row of every position, [T] or [B, T] integers, -1 = text."""
        _check_sizes(src.numel(), num_features)
        flat = src.detach().reshape(-1).to(device="cpu", dtype=torch.int64)
        outside = ((flat < -1) | (flat >= num_features)).nonzero()
        if outside.numel():
            where = int(outside[0])
            raise ValueError(
                f"src at flat position {where} is {int(flat[where])}, expected -1 (text) or 0..{num_features - 1}"
            )
        num_slots = int((flat >= 0).sum())
        index = torch.empty(flat.numel() + num_features + 1 + num_slots, dtype=torch.int32)
        index[: flat.numel()] = flat
        _native.group_slots(index.data_ptr(), flat.numel(), num_features)
        return cls(shape=tuple(src.shape), num_features=num_features, num_slots=num_slots, index=index)

    @property
    def src(self) -> torch.Tensor:
        """Feature row of every position, int32 of `shape`, -1 = text."""
        return self.index[: prod(self.shape)].view(self.shape)

    @property
    def offsets(self) -> torch.Tensor:
        """int32 [N + 1] into `positions`."""
        return self.index[prod(self.shape) :][: self.num_features + 1]

    @property
    def positions(self) -> torch.Tensor:
        """Flat position of every slot, grouped by feature, int32 [S]."""
        return self.index[prod(self.shape) + self.num_features + 1 :]

    @property
    def device(self) -> torch.device:
        return self.index.device

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Self:
        """This plan on `device`, in one copy; itself where it is there already."""
        moved = self.index.to(device, non_blocking=non_blocking)
        return self if moved is self.index else replace(self, index=moved)

    def pin_memory(self) -> Self:
        """This plan in page-locked host memory, for a copy that does not wait; a DataLoader calls it."""
        return replace(self, index=self.index.pin_memory())

    def _check_all_used(self) -> None:
        offsets = self.offsets
        unused = (offsets[1:] == offsets[:-1]).nonzero()
        if unused.numel():
            raise ValueError(
                f"{unused.numel()} of {self.num_features} features are taken by no run, the first is feature "
                f"{int(unused[0])}; an image is missing from its prompt, or pass allow_unused=True"
            )


def _rows_and_tokens(shape: Sequence[int]) -> tuple[int, int]:
    if len(shape) not in (1, 2):
        raise ValueError(f"expected a shape (T,) or (B, T), got {tuple(shape)}")
    return (1, shape[0]) if len(shape) == 1 else (shape[0], shape[1])


def _check_sizes(num_positions: int, num_features: int) -> None:
    if num_features < 0:
        raise ValueError(f"expected num_features >= 0, got {num_features}")
    if max(num_positions, num_features) > _MAX_INT32:
        raise ValueError(f"a plan counts to {_MAX_INT32}, got {num_positions} positions and {num_features} features")


def _overlap_message(placed: array, labels: list[tuple[int, str]], late: int, num_tokens: int) -> str:
    begin, length = placed[3 * late], placed[3 * late + 1]
    early = next(k for k in range(late) if placed[3 * k] < begin + length and begin < placed[3 * k] + placed[3 * k + 1])
    row, late_name = labels[late]
    spans = [
        f"{name} (slots {placed[3 * k] % num_tokens}..{placed[3 * k] % num_tokens + placed[3 * k + 1] - 1})"
        for k, name in ((late, late_name), (early, labels[early][1]))
    ]
    return f"row {row}: {spans[0]} overlaps {spans[1]}; every position takes one feature row"
