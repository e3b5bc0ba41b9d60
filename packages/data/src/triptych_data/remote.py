"""Images at addresses, through fsspec, with an optional local cache bounded in bytes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

from triptych_data.background import in_background
from triptych_data.errors import ImageError
from triptych_data.policy import ImagePolicy

_GONE = (404, 410)  # what HTTP answers where there is nothing


def read_remote(address: str, *, policy: ImagePolicy) -> bytes:
    """Return the bytes at an address, from the cache where they are in it. Raises ImageError."""
    folder = policy.cache_dir
    if folder is None:
        return _download(address, policy)
    name = hashlib.blake2b(address.encode(), digest_size=20).hexdigest()
    copy = folder / name[:2] / name
    with contextlib.suppress(OSError):
        data = copy.read_bytes()
        os.utime(copy)  # read again: the last to be dropped
        return data
    data = _download(address, policy)
    with contextlib.suppress(OSError):  # a full disk costs the copy and nothing else
        _store(copy, data)
        _trim(folder, policy.cache_bytes)
    return data


def _download(address: str, policy: ImagePolicy) -> bytes:
    try:
        import fsspec  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImageError(
            "reading addresses needs fsspec", image=address, kind="remote", remedy='install "triptych-data[remote]"'
        ) from error
    try:
        call = in_background(_read, fsspec, address, policy.max_file_bytes + 1)
        return call.result(timeout=policy.timeout_seconds)
    except TimeoutError as error:
        raise ImageError(
            f"expected the whole image within {policy.timeout_seconds:g} s, got less",
            image=address,
            kind="io",
            remedy="check the network, or download the image beforehand",
        ) from error
    except FileNotFoundError as error:
        cause = error.__cause__
        if cause is None or getattr(cause, "status", None) in _GONE:
            raise ImageError("no such object", image=address, kind="missing", remedy="correct the address") from error
        raise _unread(address, cause) from error  # fsspec says of every failure over HTTP that there is no such file
    except (ValueError, ImportError) as error:
        remedy = "install the fsspec file system for it or correct the address"
        raise ImageError(f"cannot be opened ({error})", image=address, kind="remote", remedy=remedy) from error
    except Exception as error:  # every file system raises its own kinds
        raise _unread(address, error) from error


def _unread(address: str, error: BaseException) -> ImageError:
    said = " ".join(f"{type(error).__name__}: {error}".split())
    remedy = "check the network, and whether the address may be read"
    return ImageError(f"cannot be read ({said})", image=address, kind="io", remedy=remedy)


def _read(fsspec: Any, address: str, num_bytes: int) -> bytes:
    scheme, colon, rest = address.partition(":")
    with fsspec.open(f"{scheme.lower()}{colon}{rest}", "rb") as stream:
        data: bytes = stream.read(num_bytes)
        return data


def _store(copy: Path, data: bytes) -> None:
    """Write a file next to it and rename that: a reader sees the whole object or none."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=copy.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
        os.replace(temporary, copy)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _trim(folder: Path, limit: int) -> None:
    """Drop the objects that were read longest ago until at most `limit` bytes are left."""
    kept: list[tuple[float, int, Path]] = []
    for path in folder.glob("??/*"):
        with contextlib.suppress(OSError):
            status: Any = path.stat()
            kept.append((status.st_mtime, status.st_size, path))
    total = sum(size for _, size, _ in kept)
    for _, size, path in sorted(kept):
        if total <= limit:
            return
        with contextlib.suppress(OSError):
            path.unlink()
            total -= size
