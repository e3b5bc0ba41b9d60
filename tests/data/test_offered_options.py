"""Options are written below a question that lacks them; what a prompt says already may stand in a column as well."""

import pytest
from triptych_data import read_examples

LETTERS = "\nOptions:\nA. {}\nB. {}"


@pytest.mark.parametrize(
    ("question", "options", "written"),
    [
        ("Are his eyes closed now?", ["A. yes", "B. no"], LETTERS.format("yes", "no")),
        ("AB = 12 and BC = 34. What is x?", ["A. 1", "B. 3"], LETTERS.format("1", "3")),
        ("Is it a dog or a cat?", ["A. cat", "B. dog"], LETTERS.format("cat", "dog")),
        ("Red?", {"A": "yes", "B": "no", "C": None, "D": float("nan"), "E": ""}, LETTERS.format("yes", "no")),
        ("Yes or no?", ["A. yes", "B. no"], ""),
        ("Red?\nA. Yes\nB.  no", ["A. yes", "B. no"], ""),
        ("\u662f\u732b\u8fd8\u662f\u72d7", ["A\uff1a\u732b", "B\uff1a\u72d7"], ""),
        ("Red?", [None, None], ""),
        ("Red?", ["1. yes", "2. no"], "\nOptions:\n1. yes\n2. no"),
        ("Red?", ["(1) yes", "(2) no"], "\nOptions:\n(1) yes\n(2) no"),
        ("Red?", ["\u2460 yes", "\u2461 no"], "\nOptions:\n\u2460 yes\n\u2461 no"),
        ("Red?", ["[A] yes", "[B] no"], "\nOptions:\n[A] yes\n[B] no"),
        ("Red? 1) yes 2) no", ["1. yes", "2. no"], ""),
        ("Red?\ni. yes\nii. no", ["i. yes", "ii. no"], ""),
        ("By Mr. A. Smith or Mr. B. Jones?", ["Mr. A. Smith", "Mr. B. Jones"], ""),
    ],
)
def test_options_are_below_the_question_unless_it_has_them_as_words(write_jsonl, question, options, written):
    answer = "1" if written[10:11] in ("1", "(", "\u2460") or "1)" in question else "A"
    (example,) = read_examples(write_jsonl([{"question": question, "options": options, "answer": answer}]))
    assert example.prompt.pieces() == [[question + written]]


@pytest.mark.parametrize(
    "more",
    [
        {"A": "cat", "B": "dog", "C": float("nan"), "hint": float("nan"), "context": "N/A", "Question": float("nan")},
        {"tools": "[]", "Options": ["A. cat", "B. dog"], "history": "None", "goal": 3, "rule": "iou"},
        {"QUESTION": "which is right? a. Cat b. dog", "sentence": "Which is right?", "image_dir": ".", "photo": "yes"},
        {"sentences": ["the car is gone"], "label": "the car is gone", "questions": 4, "image_root": "./"},
    ],
)
def test_what_the_prompt_says_already_or_nothing_says_goes_to_rewards(write_jsonl, pictures, more):
    row = {"question": "Which is right? A. cat B. dog", "image": "0.png", "answer": "A", **more}
    (example,) = read_examples(write_jsonl([row]))
    assert example.prompt.pieces() == [[0, row["question"]]]
