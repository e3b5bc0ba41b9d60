"""Files that a reader finds complete or not at all."""

import glob
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from triptych_data.errors import UsageError
from triptych_data.policy import FORMATS
from triptych_data.sniff import sniff


def write_whole(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Write a file under a temporary name in the same folder and rename it, so that readers never see a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as stream:
            stream.writelines([content] if isinstance(content, bytes) else content)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _contains(read: str | Path, target: Path) -> bool:
    """Whether the target is a file, one of a pattern, or one in a folder that is no page."""
    path = Path(read)
    if path.is_dir():
        return target.suffix != ".html" and path.resolve() in target.resolve().parents
    return any(target.samefile(found) for found in ([path] if path.exists() else glob.glob(str(read), recursive=True)))


def _picture(target: Path) -> str | None:
    """The format of a picture, which rows may name, or None for other files."""
    try:
        with target.open("rb") as stream:
            kind = sniff(stream.read(32))
    except OSError:
        return None
    return kind if kind in (*FORMATS, "HEIC") else None


def check_target(
    target: Path,
    *,
    option: str,
    read: Sequence[str | Path] = (),
    others: Mapping[str, str | Path | None] = MappingProxyType({}),
) -> None:
    """Check that a file can be written before the work whose result it is to contain.

    UsageError: it is a folder or a picture, or one of the files, folders and patterns that are ``read``, or nothing can
    be written there, or one of the ``others``, which the command writes for the options that are their keys, has its
    path or is in it.
    """
    for other, path in others.items():
        if path is not None and target.resolve() in (Path(path).resolve(), *Path(path).resolve().parents):
            raise UsageError(f"{option} {target}: {other} writes {path}; name another file for one of the two")
    if target.is_dir():
        raise UsageError(f"{option} {target}: expected a file, got a folder; name a file in it")
    if target.exists() and any(_contains(file, target) for file in read):
        raise UsageError(f"{option} would overwrite {target}, which is being read: name another file")
    if target.is_file() and (kind := _picture(target)) is not None:
        raise UsageError(f"{option} would overwrite {target}, which is a {kind} file: name another file")
    existing = next(part for part in target.absolute().parents if part.exists())
    if not existing.is_dir():
        raise UsageError(f"{option} {target}: {existing} is a file; name a file in a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UsageError(f"{option} {target}: {existing} cannot be written; name a folder that you may write to")
