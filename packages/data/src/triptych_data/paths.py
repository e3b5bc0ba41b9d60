"""Opening files beneath a folder so that no `..`, absolute path or symbolic link leads out of it."""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import stat
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from triptych_data.errors import ImageError

_SYS_OPENAT2 = 437  # the same number on every Linux architecture
_AT_FDCWD = -100
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_BENEATH = 0x08
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOCTTY", 0)
# Where Linux has O_PATH, a folder that is only passed through need not be opened for reading, at half the cost.
_FOLDER_FLAGS = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
_OUTSIDE = "move it there, or allow its folder with allow_outside=[...] (--allow_outside)"


_MOST_KEPT = 16
_NO_FILES = ("", ".", "..")
_kept = threading.local()


@contextmanager
def kept_folders() -> Iterator[None]:
    """Keep the folders of the files that this thread opens open while the context lasts, so that each is opened once.

    It is for many small files in a moment: a folder that is replaced meanwhile is seen as it was.
    """
    _kept.folders = {}
    try:
        yield
    finally:
        folders = _kept.folders
        del _kept.folders
        for descriptor in folders.values():
            os.close(descriptor)


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_HOW_BYTES = ctypes.sizeof(_OpenHow)


def open_beneath(root: Path, path: str, *, allow_outside: Sequence[Path] = (), max_bytes: int | None = None) -> int:
    """Open a regular file below `root` (or below one of `allow_outside`) for reading and return its descriptor.

    Raises ImageError of kind missing, escape, not_a_file or too_large. A FIFO or device never blocks.
    """
    return open_with_status(root, path, allow_outside=allow_outside, max_bytes=max_bytes)[0]


def open_with_status(
    root: Path, path: str, *, allow_outside: Sequence[Path] = (), max_bytes: int | None = None
) -> tuple[int, os.stat_result]:
    """Open a file as `open_beneath` does, and return its descriptor and its state when it was opened."""
    if "\0" in path:
        raise ImageError(
            "the path contains a NUL character", image=repr(path), kind="escape", remedy="correct the path"
        )
    try:
        descriptor = _open_in_kept(root, path)
        if descriptor is None:
            descriptor = _open_in_roots(root, path, allow_outside)
    except UnicodeEncodeError as error:
        raise ImageError(
            "the path contains a lone surrogate", image=ascii(path), kind="missing", remedy="correct the path"
        ) from error
    except OSError as error:
        raise _explain(error, root, path) from error
    try:
        return descriptor, _require_regular(descriptor, path, max_bytes)
    except BaseException:
        os.close(descriptor)
        raise


def _open_in_kept(root: Path, path: str) -> int | None:
    """Open a file below a root that this thread keeps open; None where it does not, or where it has to be explained."""
    folders: dict[tuple[Path, str], int] | None = getattr(_kept, "folders", None)
    if not folders or path.startswith("/"):
        return None
    folder, _, name = path.rpartition("/")
    with suppress(OSError):
        directory = folders.get((root, folder))
        if directory is not None and name not in _NO_FILES:
            # The folder is below the root, and so is what has its name there, unless it is a link.
            return os.open(name, _FLAGS | os.O_NOFOLLOW, dir_fd=directory)
        base = folders.get((root, ""))
        if base is not None:
            if directory is None and folder and len(folders) < _MOST_KEPT:
                folders[root, folder] = _open_at(base, os.fsencode(folder), _FOLDER_FLAGS, folder)
            return _open_at(base, os.fsencode(path), _FLAGS, path)
    return None


def _open_in_roots(root: Path, path: str, allow_outside: Sequence[Path]) -> int:
    error, is_absolute = None, os.path.isabs(path)
    for number, folder in enumerate((root, root, *allow_outside)):
        # A relative path means the image root; an allowed folder only serves where its link or `..` leads to.
        # The kernel refuses every link that is an absolute path, also one into the root: the second look follows it.
        is_first = number == 0
        target = path if is_absolute or is_first else os.path.realpath(root / path)
        relative = path if is_first and not is_absolute else _relative_to(folder, target)
        if relative is None:
            continue
        try:
            return _open_below(folder, relative)
        except OSError as caught:
            if caught.errno != errno.EXDEV:
                raise
            error = caught
    repository = _hub_repository(root)
    if repository is not None and not is_absolute:
        return _open_below(repository, os.path.normpath(os.path.join(root.absolute().relative_to(repository), path)))
    raise error or OSError(errno.EXDEV, os.strerror(errno.EXDEV))


def _relative_to(folder: Path, path: str) -> str | None:
    """`path` seen from `folder`, by spelling first and by where it really leads second; None when it is elsewhere."""
    for base, target in ((str(folder.absolute()), path), (os.path.realpath(folder), os.path.realpath(path))):
        relative = os.path.relpath(target, base)
        if relative != ".." and not relative.startswith("../"):
            return relative
    return None


def _hub_repository(root: Path) -> Path | None:
    """The folder `models--x` above `snapshots/<revision>`: hub caches link from snapshots to `blobs` next to them."""
    for folder in (root.absolute(), *root.absolute().parents):
        if folder.parent.name == "snapshots" and (folder.parent.parent / "blobs").is_dir():
            return folder.parent.parent
    return None


def _open_below(folder: Path, relative: str) -> int:
    if has_openat2():
        return _openat2(folder, relative)
    return _open_portable(folder, relative)


@functools.cache
def has_openat2() -> bool:
    """Return whether this kernel resolves paths beneath a folder by itself (Linux 5.6 or later)."""
    if sys.platform != "linux":
        return False
    try:
        os.close(_openat2(Path("/"), ".", flags=os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


@functools.cache
def _how(flags: int) -> Any:
    """The address of the arguments that say how to open."""
    return ctypes.byref(_OpenHow(flags, 0, _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS))


@functools.cache
def _syscall() -> Any:
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t)
    call.restype = ctypes.c_long
    return call


def _openat2(folder: Path, relative: str, *, flags: int = _FLAGS) -> int:
    name = os.fsencode(relative)
    folders: dict[tuple[Path, str], int] | None = getattr(_kept, "folders", None)
    directory = None if folders is None else folders.get((folder, ""))
    if directory is not None:
        return _open_at(directory, name, flags, relative)
    directory = os.open(folder, _FOLDER_FLAGS)
    if folders is not None and len(folders) < _MOST_KEPT:
        folders[folder, ""] = directory
        return _open_at(directory, name, flags, relative)
    try:
        return _open_at(directory, name, flags, relative)
    finally:
        os.close(directory)


def _open_at(directory: int, name: bytes, flags: int, relative: str) -> int:
    how, call = _how(flags), _syscall()
    while True:
        descriptor = call(_SYS_OPENAT2, directory, name, how, _HOW_BYTES)
        if descriptor >= 0:
            return int(descriptor)
        code = ctypes.get_errno()
        if code not in (errno.EAGAIN, errno.EINTR):  # EAGAIN: something was renamed while the kernel walked
            raise OSError(code, os.strerror(code), relative)


def _open_portable(folder: Path, relative: str) -> int:
    """Resolve, compare, open, and check that what was opened is what was resolved."""
    base = os.path.realpath(folder)
    target = os.path.realpath(os.path.join(base, relative))
    if os.path.commonpath((base, target)) != base:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), relative)
    descriptor = os.open(target, _FLAGS | getattr(os, "O_NOFOLLOW", 0))
    try:
        opened, named = os.fstat(descriptor), os.stat(os.path.realpath(target))
        if (opened.st_dev, opened.st_ino) != (named.st_dev, named.st_ino) or os.path.realpath(target) != target:
            raise OSError(errno.EXDEV, "a folder on the path was replaced while it was opened", relative)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _require_regular(descriptor: int, path: str, max_bytes: int | None) -> os.stat_result:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        what = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file (FIFO, device or socket)"
        raise ImageError(f"this is {what}", image=path, kind="not_a_file", remedy="name an image file")
    if max_bytes is not None and status.st_size > max_bytes:
        raise ImageError(
            f"expected at most {max_bytes} bytes, got {status.st_size}",
            image=path,
            kind="too_large",
            remedy="raise max_file_bytes or shrink the file",
        )
    return status


def _explain(error: OSError, root: Path, path: str) -> ImageError:
    if error.errno == errno.EXDEV:
        return ImageError(f"the path leads out of the image root {root}", image=path, kind="escape", remedy=_OUTSIDE)
    if error.errno in (errno.ENXIO, errno.ENODEV):
        return ImageError("this is not a regular file", image=path, kind="not_a_file", remedy="name an image file")
    if error.errno == errno.EISDIR:
        return ImageError("this is a folder", image=path, kind="not_a_file", remedy="name an image file")
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL):
        hint = " (the path has Windows separators)" if "\\" in path else ""
        return ImageError(
            f"no such file below {root}{hint}" if error.errno != errno.ELOOP else "the symbolic links form a loop",
            image=path,
            kind="missing",
            remedy="correct the path or pass the folder it is relative to as image_root (--image_root)",
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return ImageError("permission denied", image=path, kind="missing", remedy="make the file readable")
    return ImageError(f"cannot be read: {error.strerror}", image=path, kind="io", remedy="check the disk and try again")
