"""Addresses of images: which texts are one, which of them mean a file of this machine, and which may be asked for."""

from __future__ import annotations

import re
import urllib.parse

from triptych_data.errors import ImageError

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+):(//)?")
_LOCAL = ("file", "local")
_STORES = frozenset(
    {
        *("http", "https", "ftp", "sftp", "ssh", "smb", "webdav", "webhdfs", "hdfs", "memory"),
        *("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "hf", "oss", "oci", "tos", "obs", "r2", "swift"),
        *("github", "dropbox", "gdrive", "box", "dbfs", "lakefs", "wandb"),
    }
)
"""Protocols that lead to another machine, or to nothing of this one but memory."""
_CACHES = frozenset({"simplecache", "filecache", "blockcache"})


def is_data_address(text: str) -> bool:
    """Return whether a text is a `data:` address, in capitals or not (RFC 3986: the case of a scheme says nothing)."""
    return text[:5].lower() == "data:"


def is_address(text: str) -> bool:
    """Return whether a reference to an image is an address and not a path: it has a scheme, or is a chain of them."""
    scheme = _SCHEME.match(text) if ":" in text else None
    if scheme is None:
        return False
    return bool(scheme[2]) or scheme[1].lower() in ("file", "http", "https") or ("::" in text and "://" in text)


def is_local(address: str) -> bool:
    """Return whether an address is one of `file:` or `local:`, and not a chain of addresses."""
    return address.partition(":")[0].lower() in _LOCAL and "::" not in address


def local_path(address: str) -> str | None:
    """Return the path that a `file:` or `local:` address means on this machine, or None for any other address.

    A path of `file:` is percent-encoded (RFC 8089); `local:` is taken as it is, as fsspec does.
    Raises ImageError for an address that reaches files of this machine in another way, or names another host.
    """
    scheme, _, rest = address.partition(":")
    if not is_local(address):
        _check_chain(address)
        return None
    host = ""
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        rest = slash + path
        if scheme.lower() == "local":  # it has no host: what is there is the first folder of a relative path
            host, rest = "", host + rest
    if host not in ("", "localhost"):
        raise _refused(address, f"expected a path of this machine, got one of the host {host!r}")
    return urllib.parse.unquote(rest) if scheme.lower() == "file" else rest


def _check_chain(address: str) -> None:
    """Refuse every protocol but those of object stores, and chains of anything else: they could open any file here."""
    *caches, last = address.split("::")
    unknown = [name for name in caches if name.lower() not in _CACHES]
    protocol = last.partition(":")[0].lower()
    if protocol not in _STORES:
        unknown.append(protocol)
    if unknown:
        raise _refused(address, f"expected an address of http(s) or an object store, got {unknown[0]!r}")


def _refused(address: str, reason: str) -> ImageError:
    return ImageError(
        reason, image=address[:200], kind="remote", remedy="copy the image below the image root and name its path"
    )
