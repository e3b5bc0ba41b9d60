import pytest
from hypothesis import given
from hypothesis import strategies as st
from triptych_trainer.rewards.latex import boxed_answer, plain_text


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"Since 3 + 2 = 5, the answer is \boxed{5}.", "5"),
        (r"$\boxed{\frac{1}{2}}$", r"\frac{1}{2}"),
        (r"\boxed{\text{a {b} c}}", r"\text{a {b} c}"),
        (r"first \boxed{3}, and then: \boxed{4}", "4"),
        (r"\boxed{3} or \boxed{4}", "3 or 4"),
        (r"$\boxed{3}$, $\boxed{4}$", "3 ,  4"),
        (r"\boxed{5}, again \boxed{5}", "5"),
        (r"\boxed{5} \boxed{5}", "5"),
        (r"\boxed{5} and \boxed{6", "5"),
        (r"\boxed{6", None),
        (r"\boxed{ x \boxed{5}", "5"),
        (r"\boxed{so \boxed{5}}", "5"),
        (r"\fbox{7}", "7"),
        (r"\fboxed{7} \boxed {8}", "7 8"),
        ("\\\\boxed{5}", "5"),
        (r"\boxed{a\}b}", r"a\}b"),
        (r"\boxed{}", ""),
        ("no box", None),
    ],
)
def test_the_last_closed_box_is_the_answer(text, answer):
    assert boxed_answer(text) == answer


@pytest.mark.parametrize(
    ("latex", "plain"),
    [
        (r"\text{cat}", "cat"),
        (r"\textbf{(B)}", "(B)"),
        (r"\text{\textbf{B}}", "B"),
        (r"3\text{ cm}", "3 cm"),
        (r"\frac{1}{2}", "1/2"),
        (r"\dfrac12", "1/2"),
        (r"1{,}234", "1,234"),
        (r"10\,000", "10,000"),
        (r"50\%", "50%"),
        (r"\$5", "5"),
        ("$5$", "5"),
        (r"45^{\circ}", "45"),
        ("45°", "45"),
        (r"\left( 3,~4 \right)", "( 3, 4 )"),
        ("{5}", "5"),
        (r"\underline{5}", "5"),
        (r"\{1, 2\}", "1, 2"),
        ("x^{2}", "x^2"),
        (r"\sqrt{2}", r"\sqrt{2}"),
        (r"\frac{a}{b}", r"\frac{a}{b}"),
        ("plain {text", "plain {text"),
    ],
)
def test_what_only_dresses_an_answer_is_taken_off(latex, plain):
    assert plain_text(latex) == plain


@given(st.text(alphabet="\\{}$boxed texfrac123,^ ", max_size=60))
def test_any_text_is_read(text):
    boxed_answer(text)
    plain_text(text)


@pytest.mark.parametrize("piece", [r"\boxed{", r"\text{", "{", r"\frac{1}", r"\boxed{1} ", "$", "\\boxed   ", "}"])
def test_long_repetitions_take_linear_time(piece):
    boxed_answer(piece * 20_000)
    plain_text(piece * 20_000)
