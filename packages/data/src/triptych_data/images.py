"""Images decoded once, off the training thread, and kept within a bound of bytes."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

from PIL import Image

from triptych_data.budget import Size
from triptych_data.errors import DataError, ImageError
from triptych_data.example import Example, ImageSource
from triptych_data.fetch import read_image
from triptych_data.pixels import Pixels, check_size, decode, load_pixels
from triptych_data.policy import DEFAULT_POLICY, ImagePolicy
from triptych_data.resize import resize
from triptych_data.seen_headers import SeenHeaders, header_sizes, image_in_example

_RETRY_SECONDS = (0.1, 0.5, 2.0)
Found = TypeVar("Found")


class _Entry:
    """One image on its way: queued, then running, then done with pixels or an error."""

    __slots__ = ("demanded", "done", "error", "key", "pixels", "size", "source", "started", "taken")

    def __init__(self, source: ImageSource, size: Size | None, key: Hashable) -> None:
        self.source = source
        self.size = size
        self.key = key
        self.started = False
        self.demanded = False
        self.taken = False
        self.done = threading.Event()
        self.pixels: Pixels | None = None
        self.error: ImageError | None = None


class ImageLoader:
    """Decodes and resizes images in threads, each image once for all callers.

    An image is kept at the size it was asked for at, which costs less memory than as decoded. Decoded pixels and
    decodes in flight together stay within `memory_bytes` (one image that is larger runs alone).
    What was prefetched and not yet taken is never dropped; of the rest the least recently used goes first.
    `seen` remembers the sizes of headers, and a file that was replaced since is an error.
    `decodes` counts decodes. Use as a context manager, or call `close()`.
    """

    def __init__(
        self,
        *,
        threads: int = 2,
        memory_bytes: int = 4 << 30,
        policy: ImagePolicy = DEFAULT_POLICY,
        retry_seconds: tuple[float, ...] = _RETRY_SECONDS,
        seen: SeenHeaders | None = None,
    ) -> None:
        if threads < 1 or memory_bytes < 1:
            raise ValueError(f"expected threads and memory_bytes of at least 1, got {threads} and {memory_bytes}")
        self.policy = policy
        self.memory_bytes = memory_bytes
        self.decodes = 0
        self._retry_seconds = retry_seconds
        self._num_threads = threads
        self._threads: list[threading.Thread] = []
        self._queue: queue.SimpleQueue[_Entry | None] = queue.SimpleQueue()
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self.seen = SeenHeaders(policy=policy) if seen is None else seen
        self._held_bytes = 0  # decoded pixels in `_entries`
        self._reserved_bytes = 0  # decodes in flight
        self._changed = threading.Condition()
        self._closed = False
        self._process = os.getpid()

    @property
    def held_bytes(self) -> int:
        """Decoded pixels in memory, in bytes."""
        return self._held_bytes

    def sizes(self, example: Example) -> tuple[Size, ...]:
        """Return the (height, width) of each image of an example as decoded, by its header; DataError names the row."""
        return self._retried(lambda: header_sizes(example, policy=self.policy, seen=self.seen))

    def prefetch(self, example: Example, *, sizes: Sequence[Size] | None = None) -> None:
        """Start decoding the images of an example, and resizing them to `sizes`; errors wait until it is taken."""
        self._requests(example, sizes)

    def get(self, example: Example, *, sizes: Sequence[Size] | None = None) -> list[Image.Image]:
        """Return the images of an example as RGB, in the order of the record; DataError names the row of an image that
        cannot be decoded.

        `sizes` are the (height, width) that the images are resized to; without them they stay as decoded.
        """
        return [Image.fromarray(pixels) for pixels in self.get_pixels(example, sizes=sizes)]

    def get_pixels(self, example: Example, *, sizes: Sequence[Size] | None = None) -> list[Pixels]:
        """Return the same images as read-only uint8 [height, width, 3]; they are shared with the cache, not copied."""
        entries = self._requests(example, sizes)
        found = []
        for number, (image, entry) in enumerate(zip(example.images, entries, strict=True), start=1):
            try:
                found.append(self._take(entry))
            except ImageError as error:
                for unused in entries:
                    unused.taken = True  # nobody will come for them: they must not keep memory
                raise image_in_example(error, example, image, number) from error
        return found

    def close(self) -> None:
        """Stop the threads and forget every image."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        self._entries.clear()
        self._held_bytes = 0

    def __enter__(self) -> ImageLoader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("an ImageLoader has threads and cannot be pickled; make one per process")

    def _requests(self, example: Example, sizes: Sequence[Size] | None) -> list[_Entry]:
        wanted = [None] * len(example.images) if sizes is None else sizes
        return [self._request(image, size) for image, size in zip(example.images, wanted, strict=True)]

    def _load(self, source: ImageSource, expected: Size) -> Pixels:
        """Decode an image, unless its file is no longer the one that was seen.

        The file is compared after it was read: one that is replaced in between is noticed, and cannot be used.
        """
        data = b""
        try:
            if isinstance(source.ref, Image.Image):
                pixels = load_pixels(source, policy=self.policy)
            else:
                data = read_image(source, policy=self.policy)
                pixels = decode(data, image=str(source), policy=self.policy)
        except ImageError:
            self.seen.check(source)
            self.seen.forget(source)  # its pixels were never used, so a repaired file is as good as a new one
            raise
        stamp = self.seen.check(source)
        check_size(pixels, expected, image=str(source))
        self.seen.used.note(source, data, stamp)
        return pixels

    def _request(self, image: ImageSource, size: Size | None) -> _Entry:
        if os.getpid() != self._process:  # before the lock: a thread may have had it when this process was forked
            raise RuntimeError("this ImageLoader was made in another process, where its threads are: make one here")
        key = (image.key, size)
        with self._changed:
            if self._closed:
                raise RuntimeError("this ImageLoader is closed")
            entry = self._entries.get(key)
            if entry is not None and entry.error is None:
                self._entries.move_to_end(key)
                entry.taken = False  # wanted once more
                return entry
            entry = self._entries[key] = _Entry(image, size, key)
            if len(self._threads) < self._num_threads:
                thread = threading.Thread(target=self._work, name=f"triptych-decode-{len(self._threads)}", daemon=True)
                self._threads.append(thread)
                thread.start()
        self._queue.put(entry)
        return entry

    def _take(self, entry: _Entry) -> Pixels:
        with self._changed:
            entry.demanded = True  # lifts the wait for memory: somebody needs it now
            mine = not entry.started
            entry.started = True
            self._changed.notify_all()
        if mine:
            self._decode(entry)
        entry.done.wait()
        with self._changed:
            entry.taken = True
            self._evict(0)
            self._changed.notify_all()
        if entry.error is not None:
            raise entry.error
        assert entry.pixels is not None
        return entry.pixels

    def _work(self) -> None:
        while (entry := self._queue.get()) is not None:
            with self._changed:
                if entry.started or self._closed:
                    continue
                entry.started = True
            self._decode(entry)

    def _decode(self, entry: _Entry) -> None:
        reserved = 0
        try:
            height, width = self._retried(lambda: self.seen.size(entry.source))
            reserved = self._reserve(entry, 3 * height * width)
            pixels = self._retried(lambda: self._load(entry.source, (height, width)))
            pixels = pixels if entry.size is None else resize(pixels, entry.size)
            pixels.flags.writeable = False
            entry.pixels = pixels
        except ImageError as error:
            entry.error = error
        except BaseException as error:
            reason = f"{type(error).__name__}: {error}"
            entry.error = ImageError(reason, image=str(entry.source), kind="internal", remedy="report this as a bug")
            raise
        finally:
            with self._changed:
                self._reserved_bytes -= reserved
                if entry.pixels is not None:
                    self.decodes += 1
                    self._held_bytes += entry.pixels.nbytes
                elif self._entries.get(entry.key) is entry:
                    del self._entries[entry.key]
                entry.done.set()
                self._changed.notify_all()

    def _reserve(self, entry: _Entry, size: int) -> int:
        with self._changed:
            while not self._has_room(size) and not entry.demanded and not self._closed:
                self._changed.wait()
            self._reserved_bytes += size
        return size

    def _has_room(self, size: int) -> bool:
        self._evict(size)
        used = self._held_bytes + self._reserved_bytes
        return used == 0 or used + size <= self.memory_bytes

    def _evict(self, size: int) -> None:
        """Drop taken images, least recently used first, until `size` more bytes fit."""
        for key in list(self._entries):
            if self._held_bytes + self._reserved_bytes + size <= self.memory_bytes:
                return
            entry = self._entries[key]
            if entry.taken and entry.pixels is not None:
                self._held_bytes -= entry.pixels.nbytes
                del self._entries[key]

    def _retried(self, attempt: Callable[[], Found]) -> Found:
        for seconds in self._retry_seconds:
            try:
                return attempt()
            except (DataError, ImageError) as error:
                if error.kind != "io":
                    raise
            time.sleep(seconds)
        return attempt()
