"""Which images a run was trained on: each checkpoint contains their states, and a resumed run compares its own.

``images_<rank>.npz`` contains the `HeaderTable` of all images of the data (`keys`, `sides`, `stamps`; the first rank
only) and what was decoded so far (`used`, see `triptych_data.used_images`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from triptych_data import Examples, ImageError, ImageSource
from triptych_data.fetch import read_image
from triptych_data.header_table import EMPTY, HeaderTable
from triptych_data.seen_headers import SeenHeaders, key_of
from triptych_data.used_images import UsedImages, digest_of_bytes, name_of

from triptych_trainer.checkpoints.folder import CheckpointError

__all__ = ["check_same_images", "write_images"]

MOST_COMPARED = 4096
"""Images whose bytes are compared at most when a run is resumed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Saved:
    """What a checkpoint says about images."""

    headers: HeaderTable
    used: NDArray[np.void]
    """Sorted by name."""


@dataclass(kw_only=True, slots=True)
class _Found:
    """What a look at the images of a data set has shown."""

    replaced: list[str] = field(default_factory=list)
    """The first replaced image with its row; later ones only count."""
    num_replaced: int = 0
    num_untold: int = 0
    """Images whose file was written again, of whose bytes nothing is known."""
    compared: int = 0

    def replace(self, where: str) -> None:
        self.num_replaced += 1
        self.replaced = self.replaced or [where]


def write_images(folder: Path, seen: SeenHeaders, *, rank: int) -> None:
    """Write what a run knows of its images into a checkpoint folder."""
    table = seen.table if rank == 0 else EMPTY
    file = folder / f"images_{rank}.npz"
    np.savez(file, keys=table.keys, sides=table.sides, stamps=table.stamps, used=seen.used.table)


def check_same_images(
    checkpoint: Path, seen: SeenHeaders, *, examples: Examples, held_out: Examples | None
) -> list[str]:
    """Compare the images of a run with those of the checkpoint that it goes on from; a sentence for what is unknown.

    An image is the same if its size in pixels and its file's length and time of change are. If only the time of change
    differs, the bytes are compared with those that were trained on. The folder of the images may be another one.
    ``seen`` takes over which images were decoded before.

    Raises:
        CheckpointError: an image of the training data was replaced.
    """
    saved = _read(checkpoint)
    if saved is None:
        return []
    seen.used.add(saved.used)
    doubtful = _doubtful(saved.headers, seen.table)
    if not len(doubtful):
        return []
    found = _look(examples, doubtful, saved, seen)
    if found.num_replaced:
        changed = _images_in_words(found.num_replaced)
        raise CheckpointError(
            f"--data: expected the images that {checkpoint} was trained with, got other bytes or sizes of {changed}, "
            f"the first is {found.replaced[0]}; put back the files, or train on from its weights as a new run: "
            f"--model_name_or_path {checkpoint} without --resume_from_checkpoint, and another --output_dir"
        )
    said = []
    if found.num_untold:
        said.append(
            f"--data: {_images_in_words(found.num_untold)} in files that were written again after {checkpoint.name}, "
            "with the same size; their bytes are not known from before and cannot be compared"
        )
    if held_out is not None and (other := _look(held_out, doubtful, saved, seen)).num_replaced:
        said.append(
            f"--eval_data: other bytes or sizes than with {checkpoint.name} of {_images_in_words(other.num_replaced)}, "
            "the first is "
            f"{other.replaced[0]}; scores do not compare"
        )
    return said


def _read(checkpoint: Path) -> _Saved | None:
    files = sorted(checkpoint.glob("images_*.npz"))
    if not files:
        return None
    headers, used = EMPTY, UsedImages()
    for file in files:
        with np.load(file, allow_pickle=False) as arrays:
            table = HeaderTable(keys=arrays["keys"], sides=arrays["sides"], stamps=arrays["stamps"])
            headers = headers.joined(table)
            used.add(arrays["used"])
    return _Saved(headers=headers, used=used.table)


def _doubtful(before: HeaderTable, now: HeaderTable) -> NDArray[np.uint64]:
    """The keys of all images of today that are not exactly as they were."""
    places = np.searchsorted(before.keys, now.keys)
    inside = places < len(before)
    same = np.zeros(len(now), bool)
    at = places[inside]
    same[inside] = (
        (before.keys[at] == now.keys[inside])
        & (before.sides[at] == now.sides[inside]).all(axis=1)
        & (before.stamps[at] == now.stamps[inside]).all(axis=1)
    )
    return now.keys[~same]


def _look(examples: Examples, doubtful: NDArray[np.uint64], saved: _Saved, seen: SeenHeaders) -> _Found:
    """Compare the doubtful images of a data set, each once."""
    found, left = _Found(), set(doubtful.tolist())
    moved = _Moved(saved.headers)
    is_here = bool(np.isin(seen.table.keys, saved.headers.keys, kind="sort").any())
    for where, source in _images(examples):
        key = key_of(source)
        if key not in left:
            continue
        left.discard(key)
        before, now = saved.headers.find(key), seen.table.find(key)
        assert now is not None
        if (
            before is None
            and is_here
            and (name := name_of(source)) is not None
            and np.uint64(name) not in saved.used["name"]
        ):
            continue  # a damaged image that was left out: its header was forgotten, and nothing was trained on it
        size, stamp = now
        if before is None:  # in another folder, or an image of the rows themselves
            is_known = stamp is not None and moved.has(size, stamp.num_bytes)
        else:
            is_known = before[0] == size and _length(before[1]) == _length(stamp)
        if not is_known or not _same_bytes(source, stamp, saved, seen, found):
            found.replace(where)
        if not left:
            break
    return found


def _same_bytes(source: ImageSource, stamp: Any, saved: _Saved, seen: SeenHeaders, found: _Found) -> bool:
    """Whether an image of the same size is the one that was decoded; True where nothing is known of its bytes."""
    name = name_of(source)
    place = len(saved.used) if name is None else int(np.searchsorted(saved.used["name"], np.uint64(name)))
    known = saved.used[place] if place < len(saved.used) and int(saved.used["name"][place]) == name else None
    if known is None or stamp is None or not known["is_sure"] or found.compared >= MOST_COMPARED:
        found.num_untold += 1
        return True
    if (int(known["num_bytes"]), int(known["changed_ns"])) == (stamp.num_bytes, stamp.changed_ns):
        return True  # moved together with its time of change
    found.compared += 1
    try:
        return digest_of_bytes(read_image(source, policy=seen.policy)) == int(known["digest"])
    except ImageError:
        return False


class _Moved:
    """The images of files that a checkpoint knows, by size and length alone: their folder may be another one by now."""

    def __init__(self, headers: HeaderTable) -> None:
        facts = np.column_stack((headers.sides.astype(np.int64), headers.stamps[:, 0]))
        self._left: dict[tuple[int, ...], int] = {}
        for row in map(tuple, facts[headers.stamps[:, 1] != 0].tolist()):
            self._left[row] = self._left.get(row, 0) + 1

    def has(self, size: tuple[int, int], num_bytes: int) -> bool:
        """Whether there is such an image that was not asked for before."""
        fact = (*size, num_bytes)
        self._left[fact] = self._left.get(fact, 0) - 1
        return self._left[fact] >= 0


def _images_in_words(count: int) -> str:
    return f"{count:,} image{'s' * (count != 1)}"


def _length(stamp: Any) -> int | None:
    return None if stamp is None else int(stamp.num_bytes)


def _images(examples: Examples) -> Iterator[tuple[str, ImageSource]]:
    for example in examples:
        for image in example.images:
            yield f"{image} of {example.source}", image
