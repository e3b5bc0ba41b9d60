"""The pictures of the page: decoded in threads, each once, no larger than shown, within a budget of bytes."""

from collections.abc import Hashable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from triptych_data import ImageError, ImagePolicy, load_thumbnail
from triptych_data.budget import Size
from triptych_data.pages.picture import SMALL_PIXELS, encoded
from triptych_data.policy import DEFAULT_POLICY
from triptych_data.preview.blocks import Blocks
from triptych_data.preview.row import PreviewImage

LEAST_SIDE, MOST_SIDE = 96, 1280
LARGEST_PNG = 6_000
BLOCK_CHARS = 1 << 20
Started = tuple[Hashable, "Future[str | ImageError]"]


class Pictures:
    """Contains data URIs in blocks, which the page's script reads one by one, when a picture of a block is shown."""

    def __init__(self, *, max_bytes: int, side_pixels: int, threads: int, policy: ImagePolicy = DEFAULT_POLICY) -> None:
        """Keep at most `max_bytes` of pictures with at most `side_pixels` on their longest side."""
        self.max_bytes = max_bytes
        self.side_pixels = side_pixels
        self.policy = policy
        self.used_bytes = 0
        self.left_out = 0
        self.errors: dict[Hashable, ImageError] = {}
        """Of the images that do not decode, by their key."""
        self.kept = Blocks(max_chars=BLOCK_CHARS)
        self._known: dict[Hashable, int | None] = {}
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="triptych-preview")

    def __enter__(self) -> "Pictures":
        return self

    def __exit__(self, *exception: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def start(self, images: Iterable[PreviewImage]) -> list[Started]:
        """Begin with those that are new, in threads; `settle` takes what becomes of them."""
        new = {image.source.key: image for image in images if image.error is None}
        wanted = [image for key, image in new.items() if key not in self._known]
        self._known.update({image.source.key: None for image in wanted})
        if self.used_bytes >= self.max_bytes:
            self.left_out += len(wanted)
            return []
        return [(image.source.key, self._pool.submit(self._made, image)) for image in wanted]

    def settle(self, started: Sequence[Started]) -> None:
        """Keep the pictures in the order in which they were begun, until the budget is used up."""
        for key, future in started:
            made = future.result()
            if isinstance(made, ImageError):
                self.errors[key] = made
            elif self.used_bytes + len(made) > self.max_bytes:
                self.left_out += 1
            else:
                self.used_bytes += len(made)
                self._known[key] = self.kept.add(made)

    def number(self, image: PreviewImage) -> int | None:
        """Return the picture's number, or None for a picture that is not on the page."""
        return self._known.get(image.source.key)

    def _made(self, image: PreviewImage) -> str | ImageError:
        size = image.model_size or image.size
        assert size is not None
        try:
            picture = load_thumbnail(image.source, side_pixels=min(self.side_pixels, max(size)), policy=self.policy)
        except ImageError as error:
            return error
        if max(image.size or size) <= SMALL_PIXELS:
            drawing = encoded(picture, lossless=True)
            if len(drawing) <= LARGEST_PNG:
                return drawing
        return encoded(picture, lossless=False)


def side_for(sizes: Sequence[Size], *, num_images: int, max_bytes: int) -> int:
    """Return the longest side at which about `num_images` pictures like these fit into so many bytes."""
    for side in range(MOST_SIDE, LEAST_SIDE, -16):
        if sum(_guessed_bytes(size, side) for size in sizes) / max(len(sizes), 1) * num_images <= max_bytes:
            return side
    return LEAST_SIDE


def _guessed_bytes(size: Size, side: int) -> float:
    """Of a photograph as a JPEG's data URI; small pictures take more for each pixel."""
    scale = min(1.0, side / max(size))
    height, width = size[0] * scale, size[1] * scale
    return height * width * (0.25 + 20 / max(height, width))
