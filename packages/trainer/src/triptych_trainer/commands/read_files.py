"""The rows of a command's data files as one table."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from triptych_data import DataError, Examples, read_examples
from triptych_data.checked import Checked, RowCheck
from triptych_data.header_table import HeaderTable
from triptych_data.options import DataOptions, image_policy
from triptych_data.remembered import cache_folder
from triptych_data.seen_headers import SeenHeaders

from triptych_trainer.checkpoints.ranks import decided_by_first
from triptych_trainer.commands.given_options import with_check_command

__all__ = ["read_files"]


def read_files(
    files: Sequence[str],
    roots: Sequence[Path | None],
    options: DataOptions,
    *,
    given: Mapping[str, Any],
    seen: SeenHeaders,
    row_check: RowCheck | None = None,
    quarantine: Path | None = None,
    rank: int = 0,
    progress: Callable[[int, int], object] = lambda done, total: None,
    threads: int = 1,
    needs_prompt: bool = True,
    sft: bool = False,
) -> Examples:
    """Read and check data files as one table; with ``--on_bad skip`` bad rows are left out and listed.

    Without ``needs_prompt`` an environment gives the tasks of rows that have none.

    Each file has its image folder. Only the first rank reads the rows and the headers of their images; then ``seen``
    remembers the headers on every rank. ``row_check`` may refuse a row that can be read. If no file has changed, the
    result of the last run is used. ``given`` are the options of the command by name, and ``sft`` says whether rows are
    conversations: errors name the `triptych check` that lists every refused row.

    Raises:
        DataError: a row that cannot be used, or more of them than ``--max_bad`` allows.
    """

    def read(checked: Checked | None, memory: Path | None) -> Examples:
        return read_examples(
            list(files),
            image_root=list(roots),
            format=options.data_format,
            policy=image_policy(options),
            on_bad=options.on_bad,  # type: ignore[arg-type]
            max_bad=options.max_bad,
            quarantine=quarantine,
            seen=seen,
            row_check=row_check,
            memory=memory,
            checked=checked,
            progress=progress,
            threads=threads,
            needs_prompt=needs_prompt,
        )

    found: list[Examples] = []

    def look() -> tuple[Checked, HeaderTable]:
        found.append(read(None, cache_folder()))
        return found[0].checked, seen.table

    try:
        checked, headers = decided_by_first(look, rank=rank)
    except DataError as error:
        raise with_check_command(error, given, sft=sft) from error
    if found:
        return found[0]
    seen.add(headers)
    return read(checked, None)
