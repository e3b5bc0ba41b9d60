"""A start that remembers the last one: only what has changed since is looked at again."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from triptych_data.checked import Checked, RowCheck
from triptych_data.errors import DataError
from triptych_data.formats.dataset_info import dataset_info_files
from triptych_data.header_table import EMPTY, HeaderTable
from triptych_data.image_files import ImageFiles
from triptych_data.policy import ImagePolicy
from triptych_data.remembered import Remembered, code_digest, digest_of, load, save, states_of, touch
from triptych_data.rows import Rows
from triptych_data.seen_headers import SeenHeaders


@dataclass(frozen=True, slots=True, kw_only=True)
class RememberedPlace:
    """Names the file with what an earlier start found in a table, and the state of the table for which it holds."""

    path: Path
    table: str
    """Digest of the states of the table's files, of how it is read and checked, and of the code that does so.

    Empty where the result of the row check depends on something that has no name: then only the images are remembered.
    """


def remembered_place(
    memory: Path,
    rows: Rows,
    *,
    digest: str,
    roots: Sequence[Path | None],
    policy: ImagePolicy,
    dataset_info: Path | None,
    row_check: RowCheck | None,
) -> RememberedPlace:
    """Return the place of a table in the folder `memory`; a table with another image folder or policy has another
    place.
    """
    files = [file.absolute() for file in rows.files]
    folders = [None if root is None else root.absolute() for root in roots]
    states = list(states_of([*files, *dataset_info_files(files, dataset_info)]))
    checked_as = "" if row_check is None else row_check.name
    return RememberedPlace(
        path=memory / f"{digest_of(files, folders, policy)}.npz",
        table="" if checked_as is None else digest_of(code_digest(), digest, states, checked_as),
    )


def recalled_or_found(
    place: RememberedPlace,
    look: Callable[[SeenHeaders], Checked],
    *,
    digest: str,
    policy: ImagePolicy,
    base: SeenHeaders | None = None,
) -> tuple[Checked, HeaderTable]:
    """Return what is known of a table and of its images: what an earlier start has found if nothing has changed, or
    else what `look` finds.

    Images that `base` has seen, and those whose files are as they were, are not looked at again.
    """
    before = load(place.path)
    headers = EMPTY
    if before is not None:
        headers = before.files.unchanged(before.headers)
        if place.table and before.table == place.table and len(headers) == len(before.headers):
            touch(place.path)
            return _recalled(before, digest), headers
    files = ImageFiles()
    own = SeenHeaders(policy=policy, base=base, remembered=headers, files=files)
    try:
        checked = look(own)
    except DataError:
        save(place.path, Remembered(table="", headers=own.table, files=files))
        raise
    # Whether a bad row has been corrected, or an image on another machine replaced, only another look can say.
    table = "" if checked.bad or own.has_remote else place.table
    save(
        place.path,
        Remembered(
            table=table,
            headers=own.table,
            files=files,
            num_rows=checked.num_rows,
            num_images=checked.num_images,
            columns=checked.columns,
            limited=checked.limited,
        ),
    )
    return checked, own.table


def _recalled(before: Remembered, digest: str) -> Checked:
    return Checked(
        digest=digest,
        num_rows=before.num_rows,
        kept=range(before.num_rows),
        num_images=before.num_images,
        columns=before.columns,
        limited=array("q", before.limited),
    )
