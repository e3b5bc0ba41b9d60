"""Which words of a text speak of which image."""

import pytest
from triptych_trainer.report.mentions import bare_reference, image_labels, mentions
from triptych_trainer.report.payload import asked
from triptych_trainer.rewards import ImageInfo

SHELVES = [("user", ["Shelf A : ", 0, " ", 1, " . Shelf C : . Shelf B : ", 2, " . Which shelf holds red ?"])]
BEFORE = [("user", ["After : ", 0, " . Before : ", 1, " . Which colour was it before ?"])]


def infos(count, names=()):
    return [ImageInfo(index=k, name=names[k] if k < len(names) else None, width=56, height=56) for k in range(count)]


def words(text, images, prompt, **options):
    return [(text[one.start : one.end], one.images) for one in mentions(text, images, image_labels(prompt), **options)]


def test_a_label_stands_for_the_images_that_follow_it():
    assert image_labels(SHELVES).images == {"shelf a": (0, 1), "a": (0, 1), "shelf b": (2,), "b": (2,)}
    assert words("A red B blue, on shelf a", infos(3), SHELVES) == [("A", (0, 1)), ("B", (2,)), ("shelf a", (0, 1))]
    assert words("a red one, ABBA", infos(3), SHELVES) == []


@pytest.mark.parametrize(("label", "said"), [("I", "\u0130"), ("\u017fhelf", "Shelf"), ("\u00b5m", "\u03bcm")])
def test_letters_that_match_without_regard_to_case_and_have_other_small_ones_are_no_error(label, said):
    assert words(f"on {said} red", infos(1), [("user", [f"{label} : ", 0, " . Which ?"])]) == []


@pytest.mark.parametrize(
    "pieces",
    [
        ["Look at ", 0, " , ", 1, " . Which ?"],
        ["What is this :", " or that ", 0],
        ["a long sentence of more than four words : ", 0],
    ],
)
def test_other_texts_are_no_labels(pieces):
    assert image_labels([("user", pieces)]).images == {}


def test_numbers_ordinals_and_names_are_found_where_they_stand():
    text = "In image 2 and in the first picture; images 1, 3 and 9; 'after' it"
    assert words(text, infos(3, ["before", "after"]), []) == [
        ("image 2", (1,)),
        ("first picture", (0,)),
        ("images 1", (0,)),
        ("3", (2,)),
        ("9", (-1,)),
        ("'after'", (1,)),
    ]


def test_ordinals_alone_count_where_the_answer_is_one():
    text = "first red, last blue"
    assert words(text, infos(3), []) == []
    assert words(text, infos(3), [], ordinals=True) == [("first", (0,)), ("last", (2,))]


def test_an_answer_that_is_a_label_names_its_images():
    labels = image_labels(SHELVES)
    assert bare_reference(" B.", infos(3), labels) == (2,)
    assert bare_reference("Shelf  A", infos(3), labels) == (0, 1)
    assert bare_reference("C", infos(3), labels) == (), "a shelf without images"
    assert bare_reference("B is red", infos(3), labels) == ()


def test_the_question_says_which_image_it_is_about():
    assert asked(BEFORE, infos(2), image_labels(BEFORE)) == [1]
    assert asked(SHELVES, infos(3), image_labels(SHELVES)) == []
    assert asked([("user", [0, 1, "Compare image 1 with image 2"])], infos(2), image_labels([])) == []


def test_reading_labels_stays_linear():
    assert image_labels([("user", ["\n" * 200_000 + ": " * 100_000, 0])]).images == {}
