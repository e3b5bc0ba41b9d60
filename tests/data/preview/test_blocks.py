"""Blocks hold every value once and in order, and tell where each begins."""

import json

from hypothesis import given
from hypothesis import strategies as st
from triptych_data.preview.blocks import Blocks


@given(st.lists(st.text(max_size=12), max_size=20), st.integers(1, 40))
def test_values_are_found_by_the_starts_of_their_blocks(values, max_chars):
    blocks = Blocks(max_chars=max_chars)
    assert [blocks.add(value) for value in values] == list(range(len(values)))
    parsed = [json.loads(text) for text in blocks.finish()]
    assert len(parsed) == len(blocks.starts)
    assert {
        start + k: value for start, block in zip(blocks.starts, parsed, strict=True) for k, value in enumerate(block)
    } == (dict(enumerate(values)))
    assert all(
        sum(len(json.dumps(value, ensure_ascii=False)) for value in block) <= max_chars
        for block in parsed
        if len(block) > 1
    )
