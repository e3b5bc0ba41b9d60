"""Which words of a completion are set under which image."""

import pytest
from triptych_trainer.report.claims import LONGEST, claims
from triptych_trainer.report.mentions import image_labels
from triptych_trainer.report.payload import completion_parts
from triptych_trainer.rewards import ImageInfo

SHELVES = [("user", ["Shelf A : ", 0, " . Shelf B : ", 1, " ", 2, " . Which shelf holds red ?"])]
BEFORE = [("user", ["After : ", 0, " . Before : ", 1, " . Which colour was it before ?"])]


def said(text, count, prompt=(), *, ordinals=False):
    infos = [ImageInfo(index=k, name=None, width=56, height=56) for k in range(count)]
    return claims(completion_parts(text, infos=infos, labels=image_labels(list(prompt)), ordinals=ordinals))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think> A yellow B black</think><answer> A</answer>", [(0, "A yellow"), (1, "B black"), (2, "B black")]),
        ("<think> A yellow A yellow A", [(0, "A yellow")]),
        ("red on shelf A, blue on shelf B", [(0, "red on shelf A"), (1, "blue on shelf B"), (2, "blue on shelf B")]),
        ("It is B", [(1, "It is B"), (2, "It is B")]),
        ("<answer>B</answer>", []),
    ],
)
def test_the_words_beside_a_label(text, expected):
    assert said(text, 3, SHELVES) == expected


def test_a_label_written_once_for_each_of_its_images_speaks_of_them_in_order():
    assert said("<think> B yellow B black A red</think>", 3, SHELVES) == [(1, "B yellow"), (2, "B black"), (0, "A red")]
    assert said("B yellow", 3, SHELVES) == [(1, "B yellow"), (2, "B yellow")]


def test_one_mention_takes_its_whole_clause():
    assert said("blue before", 2, BEFORE) == [(1, "blue before")]
    text = "In image 1, the sign is red. Image 2 shows a green one; nothing else!\nSo the sign changed"
    assert said(text, 2) == [(0, "In image 1, the sign is red"), (1, "Image 2 shows a green one")]


def test_several_mentions_share_a_clause():
    text = "In image 1 the door is open, and in image 2 it is shut"
    assert said(text, 2) == [(0, "In image 1 the door is open"), (1, "image 2 it is shut")]
    assert said("first red, second blue, third", 3, ordinals=True) == [(0, "first red"), (1, "second blue")]


def test_an_image_that_is_not_there_is_told_elsewhere():
    assert said("image 7 is red", 2) == []


def test_a_quote_has_a_length():
    ((_, quote),) = said("image 1 is " + "very " * 100 + "red", 1)
    assert len(quote) == LONGEST + 1
    assert quote.endswith("\u2026")


def test_reading_claims_stays_linear():
    assert len(said("image 1 red " * 20_000, 1)) == 1
