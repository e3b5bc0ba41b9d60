"""Digests in blocks are what hashlib computes, and see every byte."""

import hashlib

import pytest
from triptych_trainer.checkpoints import digests as module
from triptych_trainer.checkpoints.digests import digests


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of 10 bytes, read 4 bytes at a time."""
    monkeypatch.setattr(module, "BLOCK_BYTES", 10)
    monkeypatch.setattr(module, "READ_BYTES", 4)


@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 20, 25])
def test_the_digest_is_that_of_the_blocks(tmp_path, size):
    content = bytes(range(size))
    (tmp_path / "file").write_bytes(content)
    blocks = [content[start : start + 10] for start in range(0, max(1, size), 10)]
    expected = hashlib.sha256(b"".join(hashlib.sha256(block).digest() for block in blocks)).hexdigest()
    assert digests([tmp_path / "file"]) == [expected]


def test_every_byte_counts_and_files_keep_their_order(tmp_path):
    paths = []
    for position in range(25):
        content = bytearray(25)
        content[position] = 1
        paths.append(tmp_path / f"{position}")
        paths[-1].write_bytes(content)
    found = digests(paths)
    assert len(set(found)) == 25
    assert digests(paths[::-1]) == found[::-1]
    assert digests([]) == []
