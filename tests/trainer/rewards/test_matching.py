import gc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from triptych_trainer.rewards import matching


@pytest.mark.parametrize(
    ("answer", "expected", "right"),
    [
        ("Red", "red", True),
        (" 'red'. ", "red", True),
        ("dark  red", "dark red", True),
        ("ｒｅｄ", "red", True),
        ("red or green", "red", False),
        ("", "red", False),
    ],
)
def test_exact(answer, expected, right):
    assert matching.same_text(answer, expected) is right


@pytest.mark.parametrize(
    ("answer", "expected", "right"),
    [
        ("3", "3.0", True),
        ("about 3 cats", "3", True),
        ("3, I am sure: 3", "3", True),
        ("3 or 4", "3", False),
        ("3,4", "34", False),
        ("1,234.5", "1234.5", True),
        ("-2", "2", False),
        ("\u22122", "-2", True),
        ("1e3", "1000", True),
        ("1/2", "0.5", True),
        ("1/0", "0.5", False),
        (".5", "0.5", True),
        ("50%", "50", True),
        ("50%", "0.5", True),
        ("0.5", "50%", True),
        ("50%", "50%", True),
        ("5%", "50%", False),
        ("none", "3", False),
        ("v3", "3", False),
        ("3.", "3", True),
        ("9" * 400, "3", False),
        ("3", "three", True),
        ("There are three.", "3", True),
        ("the red one", "1", False),
        (r"\frac{1}{2}", "0.5", True),
        (r"1{,}234", "1234", True),
        (r"45^\circ", "45", True),
    ],
)
def test_numeric(answer, expected, right):
    assert matching.same_number(answer, expected) is right


def test_numeric_tolerance_is_relative():
    assert matching.same_number("101", "100", relative_tolerance=0.02)
    assert not matching.same_number("103", "100", relative_tolerance=0.02)


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"),
        ("b", "B"),
        ("(B)", "B"),
        ("B. Vitamin C", "B"),
        ("B) the cat", "B"),
        ("B: x", "B"),
        ("The answer is B", "B"),
        ("option (c)", "C"),
        ("A cat is in B", "B"),
        ("A or B", None),
        ("A/B", None),
        ("A, B", None),
        ("either B or C", None),
        ("answer: B, answer: C", None),
        ("The answer is B or C", None),
        ("The answer is (B) or (C)", None),
        ("The answer is B, C", None),
        ("The answer is B and C", None),
        ("The answer is B / C", None),
        ("The answer is B (or maybe C)", None),
        ("The answer is B? No, C", None),
        ("The answer is B C", None),
        ("The answer is B或C", None),
        ("The answer is (B) cat or (C) dog", None),
        ("B. cat or C. dog", None),
        ("The answer is B or B", "B"),
        ("The answer is B, I think", "B"),
        ("The answer is B, A and C are too small", "B"),
        ("The answer is B (vitamin C)", "B"),
        ("The answer is B. C is too small", "B"),
        ("The answer is B, as A and C do not match", "B"),
        ("B. vitamin C or D", "B"),
        ("cat", None),
        ("", None),
    ],
)
def test_choice(answer, letter):
    assert matching.choice_letter(answer) == letter
    assert matching.same_choice(answer, "(B)") is (letter == "B")


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        ("Yes", "yes"),
        ("no.", "no"),
        ("Yes, there is no doubt", "yes"),
        ("I think yes", "yes"),
        ("it is yes and no", None),
        ("nothing", None),
        ("", None),
    ],
)
def test_yes_no(answer, word):
    assert matching.yes_or_no(answer) == word
    assert matching.same_yes_no(answer, "YES") is (word == "yes")


@pytest.mark.parametrize(
    ("expected", "matcher"),
    [
        ("yes", matching.same_yes_no),
        ("No.", matching.same_yes_no),
        ("(B)", matching.same_choice),
        ("C.", matching.same_choice),
        ("12", matching.same_number),
        ("-1,200.", matching.same_number),
        ("40%", matching.same_number),
        ("first", matching.same_text),
        ("image 2", matching.same_text),
        ("", matching.same_text),
    ],
)
def test_auto_goes_by_the_form_of_the_expected_answer(expected, matcher):
    assert matching.looks_like(expected) is matcher


def test_auto_accepts_the_same_text_first():
    assert matching.same_any("A", "a")
    assert matching.same_any("the number 12", "12")
    assert not matching.same_any("second", "first")


@pytest.fixture
def no_gc():
    """An alarm that goes off inside a garbage-collection callback (hypothesis has one) is lost."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.skipif(not matching.math_verify_installed(), reason="math-verify is not installed")
def test_math(monkeypatch, no_gc):
    monkeypatch.setattr(matching, "MATH_SECONDS", 120)  # a busy machine is no reason to fail
    assert matching.same_math(r"\frac{1}{2}", "0.5")
    assert matching.same_math(r"$x^2 + 2x + 1$", r"$(x+1)^2$")
    assert not matching.same_math(r"\frac{1}{3}", "0.5")
    assert not matching.same_math("\\frac{", "0.5")
    assert not matching.same_math("5 or 6", "5")
    assert matching.same_math("x=3 or x=4", "x=3 or x=4")
    assert matching.looks_like(r"$\sqrt{2}$") is matching.same_math


@pytest.mark.slow
@pytest.mark.skipif(not matching.math_verify_installed(), reason="math-verify is not installed")
@pytest.mark.parametrize("answer", ["9^{9^{9^{9}}}", "(" * 1_500, "100000000!", "1+" * 2_000 + "1"])
def test_math_that_would_never_end_is_wrong(answer, monkeypatch, no_gc):
    monkeypatch.setattr(matching, "MATH_SECONDS", 1)
    assert not matching.same_math(answer, "3")


def test_math_without_math_verify_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(matching, "math_verify_installed", lambda: False)
    with pytest.raises(ValueError, match="pip install math-verify"):
        matching.same_math("1", "1")
    assert matching.looks_like(r"$\sqrt{2}$") is matching.same_text


@settings(deadline=None)
@given(st.text(max_size=60), st.sampled_from(["3", "B", "yes", "red", "1/2"]))
def test_no_answer_raises(answer, expected):
    for match in (matching.same_any, matching.same_choice, matching.same_number, matching.same_yes_no):
        assert match(answer, expected) in (True, False)


def test_a_text_equal_to_the_expected_one_is_right_in_every_form():
    for text in ("3", "B", "yes", "red"):
        assert matching.same_any(text, text)


@pytest.mark.parametrize("piece", ["1,111", "1.", "a ", "A ", "answer is ", "- ", "    "])
def test_long_repetitions_take_linear_time(piece):
    text = "answer" + piece * 20_000
    assert matching.same_any(text, "3") is False
    assert matching.same_choice(text, "B") is False


@pytest.mark.parametrize(
    ("answer", "expected", "right"),
    [
        *(
            (answer, "B. the cat", True)
            for answer in ("B", "(b)", "B: the cat", "the cat", r"\text{B}", "The answer is B")
        ),
        *((answer, "B. the cat", False) for answer in ("A", "A. the cat", "a cat", "the", "A or B")),
        *(
            (answer, "3", False)
            for answer in ("not 3", "It isn't 3.", "Not three", "more than 3", "at least 3", "no 3")
        ),
        *((answer, "3", True) for answer in ("3", "no cats, 3 dogs", "exactly 3")),
        *((answer, "B", False) for answer in ("not B", "Not option B", "It isn't B")),
        *((answer, "yes", False) for answer in ("yes and no", "not yes", "yes/no")),
        *(("[1,2]", expected, True) for expected in ("[1, 2]", "[ 1 ,2 ]")),
        ("x=3", "x = 3", True),
        ("12cm", "12 cm", True),
        ("cat\u200b", "cat", True),
    ],
)
def test_options_with_text_denials_and_spaces(answer, expected, right):
    assert matching.same_any(answer, expected) == right
