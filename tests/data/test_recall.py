"""A start that remembers the last one: nothing is looked at twice, and whatever has changed is looked at again."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import pytest
from PIL import Image
from triptych_data import DataError, ImagePolicy, read_examples
from triptych_data.read_row import row_reader as real_row_reader
from triptych_data.remembered import load
from triptych_data.seen_headers import SeenHeaders


def encoded(width: int, height: int, format: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(buffer, format)
    return buffer.getvalue()


class Looks:
    """How many headers and rows a start read."""

    def __init__(self) -> None:
        self.headers = self.rows = 0


@pytest.fixture
def looks(monkeypatch) -> Looks:
    counts = Looks()
    look = SeenHeaders._read

    def counted_look(self, source):
        counts.headers += 1
        return look(self, source)

    def row_reader(**options):
        read = real_row_reader(**options)

        def counted(row):
            counts.rows += 1
            return read(row)

        return counted

    monkeypatch.setattr(SeenHeaders, "_read", counted_look)
    monkeypatch.setattr("triptych_data.read.row_reader", row_reader)
    return counts


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two rows over two files, a third image inside a row, and a memory beside them."""
    for name in ("a.png", "b.jpg"):
        (tmp_path / name).write_bytes(encoded(40, 30))
    rows = [
        {"prompt": "<image> <image>", "images": ["a.png", "b.jpg"], "kind": "pair"},
        {"prompt": "<image>", "images": [{"path": "a.png", "max_pixels": 784}]},
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def start(folder: Path, **options):
    seen = SeenHeaders(policy=options.get("policy", ImagePolicy()))
    examples = read_examples(folder / "rows.jsonl", seen=seen, memory=folder / "memory", **options)
    return examples, seen


def later(path: Path, *, content: bytes | None = None) -> None:
    """Write a file again, at another time."""
    if content is not None:
        path.write_bytes(content)
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


def test_a_second_start_reads_no_row_and_no_header(folder, looks):
    first, seen = start(folder)
    assert (looks.rows, looks.headers) == (2, 2)
    again, seen_again = start(folder)
    assert (looks.rows, looks.headers) == (2, 2)
    assert again.checked == first.checked
    assert again.checked.columns == ("kind",)
    assert list(again.checked.limited) == [1]
    assert again.checked.num_images == 3
    assert again.fingerprint == first.fingerprint
    assert list(again) == list(first)
    images = [image for example in again for image in example.images]
    assert [seen_again.size(image) for image in images] == [seen.size(image) for image in images]
    assert looks.headers == 2


CHANGES = {
    "an image": (lambda folder: later(folder / "a.png", content=encoded(50, 20)), {}, 2, 1),
    "only the time of an image": (lambda folder: later(folder / "b.jpg"), {}, 2, 1),
    "the rows": (lambda folder: later(folder / "rows.jsonl"), {}, 2, 0),
    "the limits of images": (lambda folder: None, {"policy": ImagePolicy(max_image_pixels=5000)}, 2, 2),
    "the reading of markers": (lambda folder: None, {"no_markers": "first"}, 2, 0),
    "the names of columns": (lambda folder: (folder / "dataset_info.json").write_text("{}"), {}, 2, 0),
    "the image folder": (lambda folder: None, {"image_root": "other"}, 2, 2),
    "the memory itself": (lambda folder: damage(folder / "memory"), {}, 2, 2),
}


def damage(memory: Path) -> None:
    (file,) = memory.iterdir()
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize("name", CHANGES)
def test_what_has_changed_is_looked_at_again_and_nothing_else(name, folder, looks):
    change, options, num_rows, num_headers = CHANGES[name]
    start(folder)
    change(folder)
    if options.get("image_root"):
        options = {"image_root": folder / "other"}
        options["image_root"].mkdir()
        for image in ("a.png", "b.jpg"):
            (folder / "other" / image).write_bytes(encoded(40, 30))
    looks.rows = looks.headers = 0
    examples, seen = start(folder, **options)
    assert (looks.rows, looks.headers) == (num_rows, num_headers)
    fresh = SeenHeaders()
    images = [image for example in examples for image in example.images]
    assert [seen.size(image) for image in images] == [fresh.size(image) for image in images]


def test_an_image_that_is_gone_is_named_as_on_the_first_start(folder):
    start(folder)
    (folder / "b.jpg").unlink()
    with pytest.raises(DataError, match=r"rows.jsonl:1: image 2 of 2, b.jpg: no such file"):
        start(folder)


def test_rows_that_were_left_out_are_looked_at_again_but_no_header(folder, looks):
    (folder / "c.png").write_bytes(b"no picture")
    with (folder / "rows.jsonl").open("a") as rows:
        rows.write(json.dumps({"prompt": "<image>", "images": ["c.png"]}) + "\n")
    for _ in range(2):
        looks.rows = looks.headers = 0
        examples, _ = start(folder, on_bad="skip", max_bad=1, quarantine=folder / "quarantine.jsonl")
        assert len(examples) == 2
    assert (looks.rows, looks.headers) == (3, 1), "the bad one, which may have been mended"
    assert len((folder / "quarantine.jsonl").read_text().splitlines()) == 1, "the second start lists no row again"
    (folder / "c.png").write_bytes(encoded(20, 20))
    assert len(start(folder)[0]) == 3


def test_a_member_of_an_archive_that_was_packed_again_is_read_again(folder):
    def pack(width: int, height: int) -> None:
        pixels = encoded(width, height, "BMP")
        with tarfile.open(folder / "rows.jsonl", "w") as archive:  # what a file is, its bytes say
            for name, data in (("0.json", b'{"prompt": "<image>"}'), ("0.bmp", pixels)):
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))

    pack(40, 20)
    start(folder)
    pack(20, 40)  # as many bytes at the same place
    later(folder / "rows.jsonl")
    examples, seen = start(folder)
    assert seen.size(examples[0].images[0]) == (40, 20)


def test_the_oldest_memory_goes_when_there_is_too_much(folder, monkeypatch):
    start(folder)
    (oldest,) = (folder / "memory").iterdir()
    os.utime(oldest, (0, 0))
    monkeypatch.setattr("triptych_data.remembered.LIMIT_BYTES", int(1.5 * oldest.stat().st_size))
    start(folder, policy=ImagePolicy(max_image_pixels=5000))
    (kept,) = (folder / "memory").iterdir()
    assert kept != oldest
    assert load(kept) is not None


def test_a_memory_that_cannot_be_written_is_done_without(folder, looks):
    (folder / "memory").write_text("a file where the folder should be")
    for _ in range(2):
        assert len(start(folder)[0]) == 2
    assert (looks.rows, looks.headers) == (4, 4)


def test_a_process_that_is_told_reads_no_row_and_refuses_other_rows(folder, looks):
    first, _ = start(folder)
    looks.rows = looks.headers = 0
    told = read_examples(folder / "rows.jsonl", checked=first.checked)
    assert (looks.rows, looks.headers) == (0, 0)
    assert told.fingerprint == first.fingerprint
    later(folder / "rows.jsonl", content=b'{"prompt": "other"}\n{"prompt": "rows"}\n')
    with pytest.raises(DataError, match=r"finds other rows than the first one.*the same files under the same names"):
        read_examples(folder / "rows.jsonl", checked=first.checked)
