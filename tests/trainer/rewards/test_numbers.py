import pytest
from hypothesis import given
from hypothesis import strategies as st
from triptych_trainer.rewards.numbers import is_number, only_number

num2words = pytest.importorskip("num2words", reason="num2words is not installed").num2words


@given(st.integers(2, 999_999))
def test_words_mean_what_they_are_written_for(number):
    assert only_number(num2words(number)) == (number, False)
    assert only_number(f"There are {num2words(number).replace(' and ', ' ')} cats.") == (number, False)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("three", 3),
        ("Three cats.", 3),
        ("Twenty-one", 21),
        ("seventeen", 17),
        ("a hundred", 100),
        ("nineteen hundred", 1900),
        ("two hundred and five", 205),
        ("minus three", -3),
        ("zero", 0),
        ("one", 1),
        ("One of them", 1),
        ("3 (three)", 3),
        ("the red one", None),
        ("three or four", None),
        ("three or 4", None),
        ("two and three", None),
        ("two three", None),
        ("two thirds", None),
        ("two-thirds", None),
        ("two dozen", None),
        ("three-legged", None),
        ("often", None),
        ("1/0", None),
        ("", None),
    ],
)
def test_one_number_of_a_text(text, number):
    found = only_number(text)
    assert (None if found is None else found[0]) == number


def test_a_text_that_is_a_number_and_nothing_else():
    assert all(is_number(text) for text in ("3", "-1,200.", "40%", "three", "Twenty-one."))
    assert not any(is_number(text) for text in ("3 cats", "three cats", "two three", "", "second"))
