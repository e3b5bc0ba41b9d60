"""Small copies of a run's images as data URIs, each once, within a budget of bytes."""

from pathlib import Path

from triptych_data import ImageError, ImageSource, load_thumbnail
from triptych_data.pages.picture import SMALL_PIXELS, encoded

from triptych_trainer.rollouts.image_record import ImageRecord
from triptych_trainer.rollouts.parts import FOLDER

SIDE_PIXELS = 360
"""Longest side of a thumbnail."""


class Thumbnails:
    """Embeds images as they are asked for; what does not fit or cannot be read becomes a note."""

    def __init__(self, *, max_bytes: int) -> None:
        """Embed at most `max_bytes` of encoded images."""
        self.max_bytes = max_bytes
        self.used_bytes = 0
        self.uris: list[str] = []
        self.left_out = 0
        self._known: dict[Path, int | str] = {}

    def add(self, image: ImageRecord, *, run_dir: Path) -> int | str:
        """Return the image's number in `uris`, or one sentence saying why it is not there."""
        path = run_dir / FOLDER / image.thumbnail if image.thumbnail else Path(image.ref)
        if path not in self._known:
            self._known[path] = self._embed(path)
        return self._known[path]

    def _embed(self, path: Path) -> int | str:
        if self.used_bytes >= self.max_bytes:
            self.left_out += 1
            return "not embedded: the page's image budget is used up"
        try:
            picture = load_thumbnail(ImageSource(ref=path.name, root=path.parent), side_pixels=SIDE_PIXELS)
        except ImageError as error:
            return f"cannot be read: {error}"
        uri = encoded(picture, lossless=max(picture.size) <= SMALL_PIXELS)
        self.used_bytes += len(uri)
        self.uris.append(uri)
        return len(self.uris) - 1
