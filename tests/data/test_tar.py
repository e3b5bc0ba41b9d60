"""Damaged and unusual shards: refused where a sample would be lost, never read for ever."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from triptych_data import DataError, load_image, probe_image, read_examples


@pytest.fixture
def shard(tmp_path, draw, encode):
    def write(members: dict[str, bytes] | None = None) -> Path:
        path = tmp_path / "shard.tar"
        if members is None:
            rows = {f"{k}.json": json.dumps({"prompt": f"<image> {k}"}).encode() for k in range(3)}
            members = {
                name: data for k in range(3) for name, data in ((f"{k}.json", rows[f"{k}.json"]), (f"{k}.png", png))
            }
        with tarfile.open(path, "w") as archive:
            for name, data in members.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
        return path

    png = encode(draw(20, 10))
    return write


def negative_size(header: bytes, kind: bytes) -> bytes:
    """The header with type `kind` and a size of -512, written in base 256 as GNU tar reads it."""
    changed = bytearray(header)
    changed[124:136] = b"\xff" * 10 + b"\xfe\x00"
    changed[156:157] = kind
    changed[148:156] = b" " * 8
    changed[148:156] = f"{sum(changed):06o}\0 ".encode()
    return bytes(changed)


@pytest.mark.parametrize("kind", [b"0", b"1", b"L", b"x", b"g", b"S", b"5"])
@pytest.mark.parametrize("number", [0, 2])
def test_a_negative_size_is_refused_and_not_followed_for_ever(shard, kind, number):
    path = shard()
    data = bytearray(path.read_bytes())
    data[number * 512 : number * 512 + 512] = negative_size(data[number * 512 : number * 512 + 512], kind)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"shard.tar: not a readable tar file \(.* has a size of -512 bytes\)"):
        read_examples(path)


def test_a_negative_size_in_an_extended_header_is_refused(tmp_path):
    path = tmp_path / "shard.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name in ("a.json", "b.json"):
            entry = tarfile.TarInfo(name)
            data = json.dumps({"prompt": "x"}).encode()
            entry.size = len(data)
            entry.pax_headers = {"size": "-2048"}
            archive.addfile(entry, io.BytesIO(data))
    with pytest.raises(DataError, match="not a readable tar file"):
        read_examples(path)


def test_a_damaged_header_is_not_taken_for_the_end(shard):
    path = shard()
    data = bytearray(path.read_bytes())
    second = data.index(b"1.json")
    data[second] = ord("7")
    path.write_bytes(data)
    with pytest.raises(DataError, match="bad checksum, where a header or the end was expected"):
        read_examples(path)


def test_joined_shards_are_refused_and_not_cut_after_the_first(shard):
    path = shard()
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(DataError, match="there is more after its end, as if several files were joined"):
        read_examples(path)
    assert len(read_examples(shard())) == 3


def test_an_image_without_a_description_and_one_that_no_row_names_are_refused(shard, draw, encode):
    png = encode(draw(20, 10))
    with pytest.raises(DataError, match=r"1.png has no .json member of the same name"):
        read_examples(shard({"0.json": b'{"prompt": "x"}', "1.png": png}))
    row = json.dumps({"prompt": "<image>", "images": ["0.a.png"]}).encode()
    with pytest.raises(DataError, match=r"shard.tar:1: expected every packed file among .* got 0.b.png as well"):
        read_examples(shard({"0.json": row, "0.a.png": png, "0.b.png": png}))


def test_texts_beside_a_row_are_columns_and_images_may_stand_in_parts(shard, draw, encode):
    png = encode(draw(20, 10))
    content = [{"type": "image", "image": "0.png"}, {"type": "text", "text": "?"}]
    row = json.dumps({"messages": [{"role": "user", "content": content}]}).encode()
    example = read_examples(shard({"0.json": row, "0.png": png, "0.txt": b"a caption"}))[0]
    assert example.prompt.pieces() == [[0, "?"]]
    assert probe_image(example.images[0]) == (10, 20)
    assert example.extras == {"txt": "a caption"}


def test_rows_and_images_of_a_shard_are_read(shard, draw, encode):
    first, second = encode(draw(20, 10)), encode(draw(30, 15), "JPEG")
    path = shard(
        {
            "a/000.json": json.dumps({"prompt": "<image> or <image>", "answer": 1}).encode(),
            "a/000.0.png": first,
            "a/000.1.jpg": second,
            "a/001.jpg": second,
            "a/001.json": json.dumps({"prompt": "<image>", "images": ["001.jpg"]}).encode(),
            "a/002.json": json.dumps({"prompt": "text only"}).encode(),
        },
    )
    examples = read_examples(path)
    assert [example.prompt.pieces()[0] for example in examples] == [[0, " or ", 1], [0], ["text only"]]
    assert [probe_image(image) for image in examples[0].images] == [(10, 20), (15, 30)]
    assert np.array_equal(np.asarray(load_image(examples[0].images[0])), np.asarray(draw(20, 10)))
    assert examples[1].source == f"{path}:2"
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(DataError, match="not a readable tar file"):
        read_examples(path)


ROW = b'{"prompt": "x"}'
ELEVEN = json.dumps({"prompt": "<image>" * 11}).encode()


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"0.json": ROW, "1.txt": b"a row?"}, "1.txt has no .json member of the same name next to it; pack every"),
        ({"0.json": ROW, "0.meta.json": ROW}, "0.meta.json is a second .json member of the sample of 0.json; give"),
        ({"0.json": ROW, "._0.png": b"x"}, "._0.png begins with a dot, so that it belongs to no sample; leave it out"),
        ({"0.json": b'{"prompt": "x", "txt": "y"}', "0.txt": b"z"}, "one column txt, got one in 0.json and another"),
        ({"0.json": ROW, "0.txt": b"caf\xe9"}, "expected UTF-8 in 0.txt, got byte 0xe9 at 3; convert the member"),
        (
            {"0.json": ELEVEN, **dict.fromkeys(sorted(f"0.{k}.png" for k in range(11)), b"x")},
            r'got 0.10.png before 0.2.png; name the images in the .json member, "images": \[...\]',
        ),
    ],
)
def test_what_would_be_left_out_or_taken_in_another_order_is_refused(shard, members, message):
    with pytest.raises(DataError, match=message):
        read_examples(shard(members))


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE])
def test_a_link_in_the_place_of_an_image_is_refused(tmp_path, kind):
    path = tmp_path / "shard.tar"
    with tarfile.open(path, "w") as archive:
        described, link = tarfile.TarInfo("0.json"), tarfile.TarInfo("0.png")
        described.size, link.type, link.linkname = len(ROW), kind, "other.png"
        archive.addfile(described, io.BytesIO(ROW))
        archive.addfile(link)
    with pytest.raises(DataError, match=r"0.png is a link to other.png, which is not followed; pack the files"):
        read_examples(path)


def test_endings_may_be_in_capitals_and_a_note_is_no_sample(shard, draw, encode):
    row = json.dumps({"prompt": "<image>", "images": ["a/0.png"]}).encode()
    path = shard({"README.txt": b"about", "./a/0.JSON": row, "./a/0.png": encode(draw(20, 10))})
    assert [probe_image(example.images[0]) for example in read_examples(path)] == [(10, 20)]
