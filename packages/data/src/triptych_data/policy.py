"""What may be read and how it is normalised: one frozen value that travels with every image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "AVIF", "GIF")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePolicy:
    """Contains limits and rules for reading images; the defaults refuse what silently damages training."""

    allow_remote: bool = False
    """Read http(s) and other fsspec addresses."""
    allow_outside: tuple[Path, ...] = ()
    """Further folders that image paths may lie in, in addition to the image root; also a list, or texts."""
    max_image_pixels: int = 50_000_000
    """Refuse larger images from their header, before any decode."""
    max_file_bytes: int = 64 << 20
    """Refuse larger files."""
    animated: Literal["refuse", "first"] = "refuse"
    """Animations and multi-page files: an error, or their first frame."""
    exif: Literal["apply", "ignore"] = "apply"
    """Whether the EXIF orientation is applied."""
    background: tuple[int, int, int] = (255, 255, 255)
    """Colour under transparent pixels."""
    formats: tuple[str, ...] = FORMATS
    """Allowed formats, by content and never by file name."""
    timeout_seconds: float = 120.0
    """How long the whole download of one image may take, however slowly its bytes arrive."""
    cache_dir: Path | None = None
    """Folder for copies of remote images; None keeps none."""
    cache_bytes: int = 10 << 30
    """Upper bound of that folder."""

    def __post_init__(self) -> None:
        outside = [self.allow_outside] if isinstance(self.allow_outside, (str, Path)) else self.allow_outside
        object.__setattr__(self, "allow_outside", tuple(Path(folder) for folder in outside))
        object.__setattr__(self, "cache_dir", None if self.cache_dir is None else Path(self.cache_dir))


DEFAULT_POLICY = ImagePolicy()
