"""Thousands of damaged files of each format: pixels or an ImageError, never anything else, never a hang.

CI damages the same 3,000 each time; `make fuzz` damages 10,000 others.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import resource
import signal
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from triptych_data import ImageError, ImagePolicy, ImageSource, load_image, probe_image

SEARCHES = "TRIPTYCH_FUZZ" in os.environ
ROUNDS, SEED = (10_000, time.time_ns() % 10**6) if SEARCHES else (3_000, 2026)
POLICY = ImagePolicy(max_image_pixels=1 << 20, animated="first")
FORMATS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 80},
    "PNG": {},
    "WEBP": {"quality": 60},
    "GIF": {},
    "BMP": {},
    "TIFF": {"compression": "tiff_lzw"},
    "AVIF": {"quality": 40, "speed": 10},
}


def picture(format: str) -> bytes:
    y, x = np.mgrid[0:12, 0:16]
    pixels = np.stack([x * 16, y * 20, (x * y) % 256], axis=-1).astype(np.uint8)
    exif = Image.Exif()
    exif[274] = 6
    options = dict(FORMATS[format])
    if format in ("JPEG", "PNG", "WEBP", "AVIF"):
        options["exif"] = exif.tobytes()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format, **options)
    return buffer.getvalue()


def damaged(data: bytes, generator: np.random.Generator) -> bytes:
    """A few flipped bytes, a cut, a repeated or a dropped piece."""
    kind = generator.integers(0, 4)
    changed = bytearray(data)
    if kind == 0:
        return bytes(changed[: generator.integers(0, len(data))])
    if kind == 1:
        start, stop = sorted(generator.integers(0, len(data), 2))
        return bytes(changed[:start] + changed[start:stop] * 2 + changed[stop:])
    if kind == 2:
        start, stop = sorted(generator.integers(0, len(data), 2))
        return bytes(changed[:start] + changed[stop:])
    for _ in range(generator.integers(1, 6)):
        changed[generator.integers(0, len(data))] = generator.integers(0, 256)
    return bytes(changed)


def fuzz(format: str, send: Any) -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), used + (1 << 30)))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    generator = np.random.default_rng(SEED)
    original = picture(format)
    good = refused = 0
    try:
        for number in range(ROUNDS):
            signal.alarm(20)
            # Users run with warnings printed, tests with warnings raised: neither may change the kind of outcome.
            warnings.simplefilter("ignore" if number % 2 else "error")
            if usable(damaged(original, generator)):
                good += 1
            else:
                refused += 1
        send.send((good, refused))
    except BaseException as error:
        send.send(f"seed {SEED}, round {number}: {error!r}")
    os._exit(0)


def usable(data: bytes) -> bool:
    source = ImageSource(ref=data)
    try:
        size = probe_image(source, policy=POLICY)
        image = load_image(source, policy=POLICY)
    except ImageError as error:
        if not error.remedy or "\n" in str(error):
            raise AssertionError(f"not one line with a remedy: {error}") from error
        return False
    assert image.mode == "RGB"
    assert (image.height, image.width) == size
    return True


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_damaged_files_are_pixels_or_an_image_error(format: str) -> None:
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    child = context.Process(target=fuzz, args=(format, send))
    child.start()
    send.close()
    try:
        result = receive.recv() if receive.poll(300) else "hung"
    except EOFError:
        child.join(10)
        result = f"died with {child.exitcode}"
    finally:
        child.kill()
        child.join()
        receive.close()
        child.close()
    assert isinstance(result, tuple), result
    good, refused = result
    assert good + refused == ROUNDS
    assert refused > ROUNDS // 10
    assert good > ROUNDS // 100
