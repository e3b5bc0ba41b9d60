"""What a file is, by its first bytes and never by its name."""

from __future__ import annotations

import re

from triptych_data.errors import ImageError
from triptych_data.policy import FORMATS, ImagePolicy

LFS_POINTER = "a Git LFS pointer"
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/\s]+|[A-Za-z0-9_\-\s]+)={0,2}\s*")  # the usual alphabet, or that of addresses
BASE64_STARTS = ("/9j/", "_9j_", "iVBOR", "R0lGO", "UklGR", "Qk", "SUkq", "TU0A")
"""What the base64 of a JPEG, PNG, GIF, WebP, BMP or TIFF begins with: it tells an encoded image from a path."""


def is_base64_image(text: str) -> bool:
    """Return whether a text is an encoded image as bare base64."""
    return len(text) > 64 and text.startswith(BASE64_STARTS) and _BASE64.fullmatch(text) is not None


def sniff(start: bytes) -> str:
    """Return the format that the first 32 bytes announce, or a word for what they are instead."""
    brand = start[8:12]
    if start[4:8] == b"ftyp":
        if brand in (b"avif", b"avis"):
            return "AVIF"
        return "HEIC" if brand in (b"heic", b"heix", b"hevc", b"mif1", b"msf1") else "MP4"
    if start[:4] == b"RIFF" and brand == b"WEBP":
        return "WEBP"
    for magic, name in _MAGIC:
        if start.startswith(magic):
            return name
    if not start:
        return "EMPTY"
    return "TEXT" if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in start) else "UNKNOWN"


_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"%PDF", "PDF"),
    (b"%!PS", "EPS"),
    (b"\xc5\xd0\xd3\xc6", "EPS"),
    (b"<svg", "SVG"),
    (b"<?xml", "SVG or XML"),
    (b"<!DOCTYPE", "HTML"),
    (b"<!doctype", "HTML"),
    (b"<html", "HTML"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\0\0\x01\0", "ICO"),
    (b"version https://git-lfs", LFS_POINTER),
)


def refused_format(start: bytes, format_name: str, image: str, policy: ImagePolicy) -> ImageError:
    """Return what the file contains instead of an image, and what to do about it."""
    if format_name == "EMPTY":
        return ImageError("the file is empty", image=image, kind="truncated", remedy="copy the file again")
    remedy = "convert it to PNG or JPEG"
    if format_name == "HEIC":
        remedy = "convert it to JPEG (for example with pillow-heif)"
    if format_name in FORMATS:
        remedy = f"convert it, or add {format_name!r} to formats"
    if format_name in ("HTML", "TEXT"):
        remedy = "the download failed: fetch the file again"
    if format_name == LFS_POINTER:
        remedy = "fetch what it stands for, with `git lfs pull` in its repository"
    shown = f"unknown bytes {start[:8].hex(' ')}" if format_name == "UNKNOWN" else format_name
    return ImageError(
        f"expected an image ({', '.join(policy.formats)}), got {shown}", image=image, kind="format", remedy=remedy
    )
