"""What a run saw of its images: each header read once, and a replaced file noticed."""

from __future__ import annotations

import os
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from triptych_data import DataError, ImageError, ImageLoader, ImageSource, read_examples
from triptych_data.fetch import Stamp
from triptych_data.header_table import EMPTY, HeaderTable
from triptych_data.seen_headers import SeenHeaders, header_sizes

KEYS = st.integers(0, (1 << 64) - 1)
SIZES = st.tuples(st.integers(1, (1 << 32) - 1), st.integers(1, (1 << 32) - 1))
STAMPS = st.builds(
    lambda num_bytes, changed_ns: Stamp(num_bytes=num_bytes, changed_ns=changed_ns),
    st.integers(0, (1 << 63) - 1),
    st.integers(1, (1 << 63) - 1),
)
TABLES = st.dictionaries(KEYS, st.tuples(SIZES, st.none() | STAMPS), max_size=8)


@given(TABLES, TABLES, KEYS)
def test_a_table_of_headers_is_a_dictionary_in_arrays(first, second, stranger):
    table = HeaderTable.of(first).joined(HeaderTable.of(second))
    expected = {**second, **first}
    assert len(table) == len(expected)
    assert {key: table.find(key) for key in expected} == expected
    assert table.find(stranger) == expected.get(stranger)
    assert set(table.sizes()) == {size for size, _ in expected.values()}
    for key in expected:
        without = table.without(key)
        assert without.find(key) is None
        assert len(without) == len(table) - 1
    assert EMPTY.find(stranger) is None


@pytest.fixture
def example(write_jsonl, draw, tmp_path):
    draw(40, 30).save(tmp_path / "a.png")
    return read_examples(write_jsonl([{"prompt": "<image> ?", "images": ["a.png"]}]))[0]


def test_a_header_is_read_once(example, tmp_path):
    seen = SeenHeaders()
    assert header_sizes(example, seen=seen) == ((30, 40),)
    (tmp_path / "a.png").unlink()
    assert header_sizes(example, seen=seen) == ((30, 40),)
    assert len(seen) == 1


def test_what_was_seen_travels_to_another_process(example, tmp_path):
    seen = SeenHeaders()
    header_sizes(example, seen=seen)
    (tmp_path / "a.png").unlink()
    assert header_sizes(example, seen=pickle.loads(pickle.dumps(seen))) == ((30, 40),)


def replaced(path, draw):
    draw(40, 30, seed=9).save(path)


def rewritten(path, draw):
    """Another picture of the same size in bytes, written within the clock's resolution or not."""
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


@pytest.mark.parametrize("change", [replaced, rewritten])
def test_a_replaced_file_is_refused_when_it_is_decoded(example, tmp_path, draw, change):
    seen = SeenHeaders()
    header_sizes(example, seen=seen)
    change(tmp_path / "a.png", draw)
    with ImageLoader(seen=seen) as loader, pytest.raises(DataError, match="a.png: the file was replaced") as caught:
        loader.get(example)
    assert caught.value.kind == "changed"
    with ImageLoader() as loader:
        assert loader.get(example)[0].size == (40, 30), "a run that begins now takes it"


def test_an_image_that_is_in_memory_stays_as_it_was_seen(example, tmp_path, draw):
    with ImageLoader() as loader:
        before = loader.get(example)[0]
        replaced(tmp_path / "a.png", draw)
        assert loader.get(example)[0].tobytes() == before.tobytes()


def test_what_has_no_file_is_never_replaced(draw, encode):
    seen = SeenHeaders()
    for ref in (encode(draw(20, 10)), draw(20, 10)):
        source = ImageSource(ref=ref)
        assert seen.size(source) == (10, 20)
        seen.check(source)


def test_a_stranger_is_not_compared_and_a_forgotten_image_is_seen_anew(tmp_path, draw):
    draw(20, 10).save(tmp_path / "b.png")
    source = ImageSource(ref="b.png", root=tmp_path)
    seen = SeenHeaders()
    seen.check(source)
    seen.size(source)
    replaced(tmp_path / "b.png", draw)
    with pytest.raises(ImageError, match=r"\(expected [\d,]+ bytes of 2\d{3}-\d\d-\d\d .* UTC, got [\d,]+ bytes of"):
        seen.check(source)
    seen.forget(source)
    assert seen.size(source) == (30, 40)
    seen.check(source)


def test_a_file_that_never_decoded_may_be_repaired_but_not_replaced_by_another_wreck(example, tmp_path, draw):
    path = tmp_path / "a.png"
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    seen = SeenHeaders()
    header_sizes(example, seen=seen)
    with ImageLoader(seen=seen) as loader:
        path.write_bytes(whole[:-50])
        with pytest.raises(DataError, match="was replaced"):
            loader.get(example)
        path.write_bytes(whole[:-40])
        os.utime(path, ns=(0, stamp_seen(seen, example)))
        with pytest.raises(DataError, match="cannot be decoded"):
            loader.get(example)
        path.write_bytes(whole)
        assert loader.get(example)[0].size == (40, 30)


def stamp_seen(seen, example):
    return int(seen.table.stamps[0, 1])
