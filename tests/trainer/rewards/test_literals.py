import ast
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from triptych_trainer.rewards.literals import literal_at, whole_literal

values = st.recursive(
    st.none() | st.booleans() | st.integers(-999, 999) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
).filter(lambda value: isinstance(value, list | dict))


@given(values)
def test_what_json_or_python_writes_is_read_back(value):
    assert whole_literal(json.dumps(value)) == value
    assert whole_literal(repr(value)) == ast.literal_eval(repr(value))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[1, 2,]", [1, 2]),
        ("(1, 'a')", [1, "a"]),
        ("{'x': (1, 2), 'y': None, 'z': True}", {"x": [1, 2], "y": None, "z": True}),
        ("['it\\'s', 'say \"x\"', 'a,]', '\\d']", ["it's", 'say "x"', "a,]", "\\d"]),
        (" [] ", []),
        ("[1] and more", None),
        ("plain", None),
        ("[1, 2", None),
        ("[x]", None),
        ("]", None),
        ("", None),
    ],
)
def test_known_texts(text, value):
    assert whole_literal(text) == value


def test_a_literal_is_read_from_the_middle_of_a_text():
    assert literal_at("so {'x': 1} it is", 3) == {"x": 1}
    assert literal_at("so", 1) is None


@pytest.mark.parametrize("piece", ["[", "{'a':", "'", "[' ", "[1,'", "('"])
def test_long_repetitions_take_linear_time(piece):
    assert literal_at(piece * 40_000, 0) is None
