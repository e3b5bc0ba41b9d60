"""Every file that has damaged or killed a run somewhere: what becomes of it, in how much memory, in what words.

The cases run in a forked child under a limit of address space, each under a time-out, with every warning an error.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import triptych_data.pixels
from damaged_files import (
    BIG_JPEG,
    JPEG,
    PNG,
    animation,
    bits1,
    encoded,
    fifo,
    gray16,
    hidden_red,
    hub_cache,
    link,
    loop,
    outside_file,
    palette_with_hole,
    png,
    rgb16,
    rotated,
    saved,
    scan_damaged,
    scene,
    stray,
    subfolder,
    text_bomb,
    with_comments,
    with_frame,
)
from limited_child import LimitedChild
from PIL import Image
from triptych_data import ImageError, ImagePolicy, ImageSource, load_image, probe_image
from triptych_data.pixels import fast_decoder
from triptych_data.policy import DEFAULT_POLICY

LIMIT_BYTES = 700 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    number: str
    name: str
    make: Callable[[Path], Any] | bytes
    kind: str | None = None  # of the ImageError; None: accepted
    says: str = ""  # in the message
    at: str = "header"  # the stage that refuses: header or decode
    size: tuple[int, int] | None = None
    mean: float | None = None  # of the pixels, where accepted
    policy: ImagePolicy = DEFAULT_POLICY
    root: str | None = None


FIRST = ImagePolicy(animated="first")
SCENE_MEAN = float(np.asarray(scene()).mean())
CASES = [
    Case(number="1", name="JPEG cut in half", make=BIG_JPEG[: len(BIG_JPEG) // 2], kind="truncated", at="decode"),
    Case(number="2", name="PNG cut in half", make=PNG[: len(PNG) // 2], kind="truncated", at="decode"),
    # Pillow cannot tell a missing end marker from a missing end, and its answer counts with every decoder.
    Case(number="3", name="JPEG without end marker", make=JPEG[:-2], kind="truncated", at="decode"),
    Case(number="3b", name="stray zeros before the end", make=stray(b"\0" * 3), mean=SCENE_MEAN),
    Case(number="3c", name="stray text before the end", make=stray(b"stray" * 20), mean=SCENE_MEAN),
    Case(number="3d", name="many stray bytes", make=stray(b"\x55" * 5000), mean=SCENE_MEAN),
    Case(number="3e", name="stray bytes between segments", make=JPEG[:20] + b"\0\1\2" + JPEG[20:], mean=SCENE_MEAN),
    Case(number="4", name="PNG without IEND", make=PNG[:-12], mean=SCENE_MEAN),
    Case(number="5", name="JPEG cut in its header", make=JPEG[:40], kind="truncated"),
    Case(number="6", name="no bytes", make=b"", kind="truncated", says="the file is empty"),
    Case(number="7", name="text", make=b"not found, sorry", kind="format", says="got TEXT; the download failed"),
    Case(
        number="7c", name="LFS", make=b"version https://git-lfs.github.com/spec/v1", kind="format", says="git lfs pull"
    ),
    Case(number="7b", name="HTML", make=b"<!DOCTYPE html><html>404", kind="format", says="got HTML"),
    Case(number="7c", name="LFS", make=b"version https://git-lfs.github.com/spec/v1\noid", kind="format", says="LFS"),
    Case(number="8", name="PNG named jpg", make=saved("x.jpg", PNG), mean=SCENE_MEAN),
    Case(number="8b", name="JPEG named png", make=saved("x.png", JPEG), mean=SCENE_MEAN),
    Case(number="9", name="scan damage", make=scan_damaged()),
    Case(number="9b", name="12 bits per channel", make=with_frame(precision=12), kind="corrupt"),
    Case(number="9c", name="two components", make=with_frame(components=2), kind="corrupt"),
    Case(number="10", name="PNG IDAT damage", make=PNG[:60] + b"\xff" * 40 + PNG[100:], kind="corrupt", at="decode"),
    Case(number="11", name="trailing garbage", make=JPEG + b"garbage" * 100, mean=SCENE_MEAN),
    Case(number="11b", name="two JPEGs in one", make=JPEG + BIG_JPEG, mean=SCENE_MEAN, size=(64, 96)),
    Case(number="12", name="one pixel", make=encoded(Image.new("RGB", (1, 1), (9, 9, 9)), "PNG"), mean=9, size=(1, 1)),
    Case(number="13", name="ratio 150", make=encoded(Image.new("RGB", (150, 1)), "PNG"), size=(1, 150)),
    Case(
        number="15", name="900 MP in 109 KB", make=lambda f: bits1(30000, 30000), kind="too_large", says="30000x30000"
    ),
    Case(
        number="16",
        name="177 MP in 22 KB",
        make=lambda f: bits1(13300, 13300),
        kind="too_large",
        says="at most 50000000",
    ),
    Case(number="16b", name="lying header", make=png(12000, 12000, 8, 2, b"\0"), kind="too_large"),
    Case(number="16c", name="lying header, allowed", make=png(6000, 6000, 8, 2, b"\0"), kind="truncated", at="decode"),
    Case(number="17", name="CMYK JPEG", make=encoded(scene().convert("CMYK"), "JPEG"), mean=SCENE_MEAN),
    Case(number="17b", name="CMYK TIFF", make=encoded(scene().convert("CMYK"), "TIFF"), mean=SCENE_MEAN),
    Case(number="18", name="16-bit gray PNG", make=gray16(), mean=127),
    Case(number="19", name="16-bit RGB PNG", make=rgb16(), mean=127),
    Case(
        number="20",
        name="float TIFF",
        make=encoded(Image.new("F", (8, 8), 0.5), "TIFF"),
        kind="depth",
        says="range is unknown",
    ),
    Case(number="20b", name="32-bit TIFF", make=encoded(Image.new("I", (8, 8), 70000), "TIFF"), kind="depth"),
    Case(number="21", name="palette with transparency", make=palette_with_hole(), mean=255),
    Case(number="22", name="RGBA, hidden colour", make=hidden_red("RGBA"), mean=255),
    Case(number="22b", name="LA, hidden shade", make=hidden_red("LA"), mean=255),
    Case(
        number="22c",
        name="RGBA on black",
        make=hidden_red("RGBA"),
        mean=0,
        policy=ImagePolicy(background=(0, 0, 0)),
    ),
    Case(number="23", name="bilevel", make=encoded(Image.new("1", (32, 24), 1), "PNG"), mean=255),
    Case(number="24", name="GIF animation", make=animation("GIF"), kind="animated", says="several frames or pages"),
    Case(number="24b", name="WebP animation", make=animation("WEBP", lossless=True), kind="animated"),
    Case(number="24c", name="APNG", make=animation("PNG"), kind="animated"),
    Case(number="24d", name="GIF, first frame", make=animation("GIF"), policy=FIRST, mean=85),
    Case(number="24e", name="WebP, first frame", make=animation("WEBP", lossless=True), policy=FIRST, mean=85),
    Case(number="24f", name="APNG, first frame", make=animation("PNG"), policy=FIRST, mean=85),
    Case(number="25", name="EXIF rotated JPEG", make=rotated(6), size=(96, 64), mean=SCENE_MEAN),
    Case(number="25b", name="EXIF rotated PNG", make=rotated(6, "PNG"), size=(96, 64), mean=SCENE_MEAN),
    Case(number="25c", name="EXIF rotated WebP", make=rotated(8, "WEBP"), size=(96, 64), mean=SCENE_MEAN),
    Case(number="25d", name="EXIF ignored", make=rotated(6), size=(64, 96), policy=ImagePolicy(exif="ignore")),
    Case(number="26", name="EXIF orientation 9", make=rotated(9), size=(64, 96), mean=SCENE_MEAN),
    Case(
        number="26b",
        name="EXIF garbage",
        make=encoded(scene(), "JPEG", exif=b"Exif\0\0MM\0*" + b"\xff" * 60),
        size=(64, 96),
        mean=SCENE_MEAN,
    ),
    Case(number="27", name="broken ICC", make=encoded(scene(), "JPEG", icc_profile=b"no" * 99), mean=SCENE_MEAN),
    Case(number="28", name="20 MB of comments", make=lambda f: with_comments(20), mean=SCENE_MEAN),
    Case(
        number="28b",
        name="70 MB of comments",
        make=saved("x.jpg", lambda: with_comments(70)),
        kind="too_large",
        says="bytes",
    ),
    Case(number="29", name="PNG text bomb", make=lambda f: text_bomb(), kind="corrupt"),
    Case(number="30", name="HEIC", make=b"\0\0\0\x18ftypheic" + b"\0" * 64, kind="format", says="pillow-heif"),
    Case(number="31", name="AVIF", make=encoded(scene(), "AVIF", quality=90), mean=SCENE_MEAN),
    Case(number="31b", name="WebP", make=encoded(scene(), "WEBP", quality=90), mean=SCENE_MEAN),
    Case(number="31c", name="BMP", make=encoded(scene(), "BMP"), mean=SCENE_MEAN),
    Case(number="31d", name="TIFF", make=encoded(scene(), "TIFF"), mean=SCENE_MEAN),
    Case(number="31e", name="ICO", make=encoded(scene(), "ICO"), kind="format", says="got ICO"),
    Case(number="31f", name="JPEG 2000", make=encoded(scene(), "JPEG2000"), kind="format", says="got JPEG 2000"),
    Case(number="32", name="SVG", make=b"<svg xmlns='http://www.w3.org/2000/svg'/>", kind="format", says="got SVG"),
    Case(number="32b", name="PDF", make=encoded(scene(), "PDF"), kind="format", says="got PDF"),
    Case(number="33", name="EPS", make=encoded(scene(), "EPS"), kind="format", says="got EPS"),
    Case(
        number="33b",
        name="format not allowed",
        make=encoded(scene(), "BMP"),
        policy=ImagePolicy(formats=("PNG",)),
        kind="format",
        says="add 'BMP' to formats",
    ),
    Case(number="34", name="TIFF of two pages", make=animation("TIFF"), kind="animated"),
    Case(number="34b", name="TIFF, first page", make=animation("TIFF"), policy=FIRST, mean=85),
    Case(number="35", name="odd name", make=saved("größe 猫 1.JPG", JPEG), mean=SCENE_MEAN),
    Case(number="36", name="missing", make=lambda folder: "gone.jpg", kind="missing", says="no such file below"),
    Case(number="36b", name="Windows path", make=lambda f: "a\\b.jpg", kind="missing", says="Windows separators"),
    Case(number="37", name="folder", make=subfolder, kind="not_a_file", says="a folder"),
    Case(number="38", name="FIFO", make=fifo, kind="not_a_file", says="not a regular file"),
    Case(number="39", name="link to /dev/zero", make=link("/dev/zero"), kind="escape"),
    Case(
        number="39b",
        name="device in an allowed folder",
        make=link("/dev/zero"),
        kind="not_a_file",
        policy=ImagePolicy(allow_outside=(Path("/dev"),)),
    ),
    Case(number="39c", name="link loop", make=loop, kind="missing", says="form a loop"),
    Case(number="40", name="..", make=outside_file("parent"), root="inside", kind="escape", says="allow_outside"),
    Case(number="40b", name="absolute", make=outside_file("absolute"), root="inside", kind="escape"),
    Case(number="40c", name="file link out", make=outside_file("file link"), root="inside", kind="escape"),
    Case(number="40d", name="folder link out", make=outside_file("folder link"), root="inside", kind="escape"),
    Case(
        number="40e",
        name="hub cache link",
        make=hub_cache,
        root="datasets--a--b/snapshots/rev/images",
        mean=SCENE_MEAN,
    ),
    Case(number="41", name="http", make=lambda f: "https://example.invalid/x.jpg", kind="remote", says="allow_remote"),
    Case(number="41b", name="file address", make=lambda f: "file:///etc/passwd", kind="escape", says="allow_outside"),
    Case(number="41c", name="data URI, broken", make=lambda f: "data:image/png;base64,@", kind="corrupt"),
    Case(number="41d", name="data URI, not base64", make=lambda f: "data:image/png,abc", kind="corrupt"),
    Case(number="42", name="NUL in path", make=lambda f: "a\0.jpg", kind="escape", says="NUL"),
    Case(number="42b", name="lone surrogate", make=lambda f: "a\ud800.jpg", kind="missing", says="surrogate"),
]

BY_NUMBER = {case.number: case for case in CASES}


def outcome(decoder: str, number: str, ref: str | bytes, folder: Path) -> tuple[str, Any]:
    """("error", kind, message, stage) or ("ok", size, mean)."""
    if decoder == "pillow":
        triptych_data.pixels.fast_decoder = lambda: None
    case = BY_NUMBER[number]
    source = ImageSource(ref=ref, root=folder if case.root is None else folder / case.root)
    try:
        size = probe_image(source, policy=case.policy)
    except ImageError as error:
        return "error", (error.kind, str(error), "header", error.remedy)
    try:
        picture = load_image(source, policy=case.policy)
    except ImageError as error:
        return "error", (error.kind, str(error), "decode", error.remedy)
    assert picture.mode == "RGB"
    assert (picture.height, picture.width) == size
    return "ok", (size, float(np.asarray(picture).mean()))


@pytest.fixture(scope="module")
def children() -> Iterator[dict[str, LimitedChild]]:
    """One process for each decoder."""
    limits = {"limit_bytes": LIMIT_BYTES, "limit_seconds": 20}
    found = {decoder: LimitedChild(partial(outcome, decoder), **limits) for decoder in ("fast", "pillow")}
    yield found
    for child in found.values():
        child.end()


@pytest.mark.slow_except("[0-9]-*-pillow", "[0-9][0-9]-*-pillow", "1-*-fast", "25-*-fast")  # the first of each number
@pytest.mark.parametrize("decoder", ["fast", "pillow"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.number}-{case.name}")
def test_failure_table(case: Case, decoder: str, children: dict[str, LimitedChild], tmp_path: Path) -> None:
    if decoder == "fast" and fast_decoder() is None:
        pytest.skip('the extra "fast" (simplejpeg) is not installed')
    ref = case.make if isinstance(case.make, bytes) else case.make(tmp_path)
    result, detail = children[decoder].ask(case.number, ref, tmp_path)
    if case.kind is None:
        assert result == "ok", detail
        size, mean = detail
        assert case.size is None or size == case.size
        assert case.mean is None or abs(mean - case.mean) < 2
    else:
        assert result == "error", detail
        kind, message, stage, remedy = detail
        assert (kind, stage) == (case.kind, case.at), message
        assert case.says in message
        assert message.startswith("image ")
        assert remedy
        assert "\n" not in message


@pytest.mark.slow
def test_a_case_that_kills_its_process_is_noticed_and_the_next_one_gets_another() -> None:
    deeds = {"dies": lambda: os._exit(3), "hangs": lambda: time.sleep(9), "memory": lambda: bytearray(2 * LIMIT_BYTES)}
    deeds["reads"] = lambda: ("ok", os.getpid())
    child = LimitedChild(lambda deed: deeds[deed](), limit_bytes=LIMIT_BYTES, limit_seconds=2)
    (_, first), (_, second) = child.ask("reads"), child.ask("reads")
    assert first == second != os.getpid()
    assert child.ask("dies") == ("died", 3)
    assert child.ask("hangs") == ("died", -signal.SIGALRM)
    assert child.ask("memory") == ("raised", "MemoryError()")
    assert child.ask("reads")[1] != first
    child.end()


def test_base64_and_data_uris_are_read() -> None:
    import base64

    bare = base64.b64encode(JPEG).decode()
    for_addresses = base64.urlsafe_b64encode(JPEG).decode()
    assert for_addresses != bare
    in_capitals = f"DATA:IMAGE/JPEG;BASE64,{bare}"
    lines = "\n".join(bare[start : start + 76] for start in range(0, len(bare), 76))
    addresses = (f"data:image/jpeg;base64,{bare}", f"data:;base64,{for_addresses}", in_capitals)
    for ref in (bare, for_addresses, lines, *addresses):
        assert np.array_equal(
            np.asarray(load_image(ImageSource(ref=ref))), np.asarray(load_image(ImageSource(ref=JPEG)))
        )
