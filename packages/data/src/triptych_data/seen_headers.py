"""What a run saw of its images when it began: their sizes, and which state of each file they were read from."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from PIL import Image

from triptych_data.budget import Size
from triptych_data.errors import ImageError
from triptych_data.example import ImageSource
from triptych_data.fetch import Stamp, open_image, stamp_of
from triptych_data.header import parse_header, probe_image
from triptych_data.policy import DEFAULT_POLICY, ImagePolicy

_SIDE_BITS, _BYTES_BITS, _TIME_BITS = 24, 48, 64


class SeenHeaders:
    """Sizes of images, each header read once, with the stamp of its file; about 200 bytes of memory per image.

    A file that is replaced later has another stamp, and `check` refuses it: what is trained on would not be what was
    counted and checked.
    """

    def __init__(self, *, policy: ImagePolicy = DEFAULT_POLICY) -> None:
        self.policy = policy
        self._known: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._known)

    def size(self, source: ImageSource) -> Size:
        """(height, width) of an image as decoded, from its header, or as it was seen before. Raises ImageError."""
        key = _key(source)
        if key not in self._known:
            self._known[key] = _packed(*self._look(source))
        size, _ = _unpacked(self._known[key])
        return size

    def check(self, source: ImageSource) -> None:
        """Compare a file as it is now with how it was seen; ImageError where it is another one, or gone."""
        known = self._known.get(_key(source))
        seen = None if known is None else _unpacked(known)[1]
        if seen is None:  # never seen, or not a file
            return
        with open_image(source, policy=self.policy) as stream:
            stamp = stamp_of(stream)
        if stamp is not None and stamp != seen:
            raise ImageError(
                "the file was replaced after the run had looked at it "
                f"(expected {_in_words(seen)}, got {_in_words(stamp)})",
                image=str(source),
                kind="changed",
                remedy="start the run again, which looks at every image anew, or leave such rows out with "
                'on_bad="skip" (--on_bad skip)',
            )

    def forget(self, source: ImageSource) -> None:
        """Look at an image anew when it is asked for again."""
        self._known.pop(_key(source), None)

    def _look(self, source: ImageSource) -> tuple[Size, Stamp | None]:
        if isinstance(source.ref, Image.Image):
            return probe_image(source, policy=self.policy), None
        with open_image(source, policy=self.policy) as stream:
            header = parse_header(stream, image=str(source), policy=self.policy)
            return (header.height, header.width), stamp_of(stream)


def _key(source: ImageSource) -> int:
    text = repr(source.key).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def _packed(size: Size, stamp: Stamp | None) -> int:
    """One integer for all numbers: an object for each would take several times the memory."""
    num_bytes, changed_ns = (0, 0) if stamp is None else (stamp.num_bytes, stamp.changed_ns)
    packed = changed_ns
    for bits, value in ((_BYTES_BITS, num_bytes), (_SIDE_BITS, size[0]), (_SIDE_BITS, size[1])):
        packed = packed << bits | value
    return packed


def _unpacked(packed: int) -> tuple[Size, Stamp | None]:
    values = []
    for bits in (_SIDE_BITS, _SIDE_BITS, _BYTES_BITS, _TIME_BITS):
        values.append(packed & ((1 << bits) - 1))
        packed >>= bits
    width, height, num_bytes, changed_ns = values
    return (height, width), Stamp(num_bytes=num_bytes, changed_ns=changed_ns) if changed_ns else None


def _in_words(stamp: Stamp) -> str:
    moment = datetime.fromtimestamp(stamp.changed_ns / 1e9, tz=UTC)
    return f"{stamp.num_bytes:,} bytes of {moment:%Y-%m-%d %H:%M:%S.%f} UTC"
