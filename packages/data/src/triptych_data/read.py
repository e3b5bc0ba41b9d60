"""Reading a dataset: every row checked before training, then parsed on demand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from triptych_data.checked import Checked, OnBad, RowCheck, look_at_rows
from triptych_data.errors import DataError
from triptych_data.example import Example
from triptych_data.examples import Examples
from triptych_data.policy import DEFAULT_POLICY, ImagePolicy
from triptych_data.read_row import row_reader
from triptych_data.recall import recalled_or_found, remembered_place
from triptych_data.remembered import digest_of
from triptych_data.rows import open_rows
from triptych_data.seen_headers import SeenHeaders, header_sizes


def read_examples(
    path: Any,
    *,
    image_root: str | Path | Sequence[str | Path | None] | None = None,
    format: str = "auto",
    on_bad: OnBad = "stop",
    max_bad: float = 0.01,
    policy: ImagePolicy = DEFAULT_POLICY,
    check_images: bool = True,
    dialect: str = "image",
    no_markers: Literal["error", "first"] | None = None,
    split: str = "train",
    dataset_info: str | Path | None = None,
    quarantine: str | Path | None = None,
    seen: SeenHeaders | None = None,
    row_check: RowCheck | None = None,
    memory: str | Path | None = None,
    checked: Checked | None = None,
    progress: Callable[[int, int], object] = lambda done, total: None,
    threads: int = 1,
    needs_prompt: bool = True,
) -> Examples:
    """Read a JSONL, JSON, parquet or tar file, or a `datasets.Dataset`, and check every row.

    `path` may also be a list of such files. Image paths are relative to `image_root`, by default each file's folder;
    `image_root` may be a list with one folder for each file. `check_images` opens each image and reads its header, and
    `seen` remembers the header. Then `row_check` may refuse a row that can be read. With `on_bad="skip"`, refused rows
    are left out, up to the share `max_bad` of all rows (a number of rows if it is 1 or more), and the file
    `quarantine` lists them. `no_markers` says what it means if a row has images and no marker, instead of the format.
    A LLaMA-Factory `dataset_info.json` is found in the folder of the file, or named. `memory` is a folder into which
    a start writes what it found, for the next start: see `triptych_data.remembered`. With `checked`, which another
    process found in the same files, no row is read here. Without `needs_prompt`, rows may lack a prompt; an environment
    gives the task. `progress` is called with the numbers of rows looked at and of all rows. `threads` threads look.
    Raises DataError, whose message names file:line, the id and the remedy.
    """
    roots = _roots(image_root)
    dataset_info, quarantine, memory = map(_path, (dataset_info, quarantine, memory))
    rows = open_rows(path, split=split, roots=roots)
    digest = digest_of(rows.fingerprint(), format, dialect, no_markers, *([] if needs_prompt else ["no prompts"]))
    root, table = roots[0] if len(roots) == 1 else None, digest_of(digest, rows.file, roots, dataset_info)[:16]
    shape: dict[str, Any] = {"format": format, "dialect": dialect, "no_markers": no_markers}
    reader = row_reader(root=root, dataset_info=dataset_info, table=table, needs_prompt=needs_prompt, **shape)
    if checked is not None:
        _check_same(checked, digest=digest, file=rows.file)
        return Examples(rows, reader, checked)
    scan = partial(look_at_rows, rows, reader, digest=digest, on_bad=on_bad, max_bad=max_bad, quarantine=quarantine)

    def look(own: SeenHeaders | None) -> Checked:
        images = _image_look(policy, seen=own, row_check=row_check) if check_images else lambda example: ()
        return scan(look_at_images=images, progress=progress, threads=threads)

    if memory is None or not check_images or not rows.files:
        return Examples(rows, reader, look(seen))
    place = remembered_place(
        memory, rows, digest=digest, roots=roots, policy=policy, dataset_info=dataset_info, row_check=row_check
    )
    checked, headers = recalled_or_found(place, look, digest=digest, policy=policy, base=seen)
    if seen is not None:
        seen.add(headers)
    return Examples(rows, reader, checked)


def _check_same(checked: Checked, *, digest: str, file: str) -> None:
    if checked.digest != digest:
        raise DataError(
            "this process finds other rows than the first one, which checked them",
            source=file,
            remedy="give every machine of the run the same files under the same names",
            kind="changed",
        )


def _image_look(
    policy: ImagePolicy, *, seen: SeenHeaders | None, row_check: RowCheck | None
) -> Callable[[Example], object]:
    """Read the headers of an example's images, and run the row check on it; one thread at a time runs it."""
    one_at_a_time = threading.Lock()  # a tokenizer must not be used by two threads at once

    def look(example: Example) -> object:
        found = header_sizes(example, policy=policy, seen=seen)
        if row_check is not None:
            with one_at_a_time:
                row_check.look(example, found)
        return found

    return look


def _roots(image_root: str | Path | Sequence[str | Path | None] | None) -> tuple[Path | None, ...]:
    given = [image_root] if image_root is None or isinstance(image_root, (str, Path)) else image_root
    return tuple(None if root is None else Path(root) for root in given)


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given)
