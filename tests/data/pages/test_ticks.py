from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from triptych_data.pages.ticks import ticks


@settings(deadline=None)
@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_cover_the_range_in_equal_round_steps(low, width):
    found = ticks(low, low + width)
    steps = [b - a for a, b in pairwise(found)]
    assert found[0] <= low + 1e-6 * width
    assert found[-1] >= low + width * (1 - 1e-6)
    assert 2 <= len(found) <= 8
    assert steps == pytest.approx([steps[0]] * len(steps), rel=1e-6, abs=1e-9)


def test_ticks_of_a_constant():
    assert ticks(1.0, 1.0) == [0.5, 0.75, 1.0, 1.25, 1.5]
